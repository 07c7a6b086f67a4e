import dataclasses
import os
from functools import partial

import numpy as np
import pytest
import tiny_dataset as tiny

from spinecls import files
from spinecls.io import voxel_checks
from spinecls.io.case_facts import CaseFacts
from spinecls.io.checked_cases import inspect_changed
from spinecls.io.dataset import load_dataset
from spinecls.io.dataset_assembly import assemble, require_faultless
from spinecls.io.file_hashes import FileHashes
from spinecls.io.voxel_checks import inspect_cases
from spinecls.plain import from_plain


class Gate:
    """Checks of one dataset with a memory; `judged` lists the cases that each check read."""

    def __init__(self, folder, cache):
        self.folder, self.cache, self.judged = folder, cache, []

    def inspect(self, verify=True):
        hashes = FileHashes(self.cache / "index.json", self.folder)
        cache = self.cache / "checked.json"
        return partial(inspect_changed, verify_voxels=verify, hashes=hashes, cache_path=cache)


@pytest.fixture
def gate(tmp_path, monkeypatch):
    folder, cache = tmp_path / "Dataset001_Tiny", tmp_path / "cache"
    tiny.write_good(folder)
    # A mostly empty image: a fault that only voxels show, and only a warning.
    voxels = tiny.voxels(9)
    voxels[:, 2:] = 0
    tiny.write(folder / "imagesTr" / "a2_0000.nii.gz", voxels)
    for path in folder.rglob("*.nii.gz"):
        os.utime(path, ns=(1, 1))
    gate = Gate(folder, cache)

    def work(cases, *rest):
        gate.judged.append(sorted(case.identifier for case in cases))
        return inspect_cases(cases, *rest)

    monkeypatch.setattr(voxel_checks, "inspect_cases", work)
    return gate


def test_a_second_check_reads_nothing_and_finds_the_same(gate):
    fresh = load_dataset(gate.folder)
    first, second = (require_faultless(gate.folder, "Tr", gate.inspect()) for _ in range(2))
    assert first == second == fresh
    assert any("W503" in warning for warning in second.warnings)
    assert gate.judged == [list(tiny.CASES)]


def test_only_the_case_whose_map_changed_is_read(gate):
    require_faultless(gate.folder, "Tr", gate.inspect())
    labels = tiny.vertebra_map()
    labels[labels == tiny.LEVELS["L3"]] = 0
    tiny.write(gate.folder / "labelsTr" / "a4.nii.gz", labels)
    tiny.replace_in_table(gate.folder, "a4,p3,L3,normal\n", "")
    raw = require_faultless(gate.folder, "Tr", gate.inspect())
    assert gate.judged[1:] == [["a4"]]
    assert [[v.level for v in case.vertebrae] for case in raw.cases[3:]] == [["L1", "L2"], ["L1", "L2", "L3"]]


def test_other_codes_in_the_description_are_held_against_every_map(gate):
    require_faultless(gate.folder, "Tr", gate.inspect())
    tiny.description(gate.folder, vertebrae={"L1": 20, "L2": 21, "L3": 22, "L4": 23})
    require_faultless(gate.folder, "Tr", gate.inspect())
    assert gate.judged == [list(tiny.CASES)] * 2


def test_another_name_of_the_dataset_changes_no_check(gate):
    require_faultless(gate.folder, "Tr", gate.inspect())
    tiny.description(gate.folder, name="Other")
    require_faultless(gate.folder, "Tr", gate.inspect())
    assert len(gate.judged) == 1


def test_a_faulty_case_is_read_each_time_and_found_faulty_each_time(gate):
    tiny.write(gate.folder / "imagesTr" / "a3_0000.nii.gz", np.full(tiny.SHAPE, 7, np.int16))
    found = [assemble(gate.folder, "Tr", gate.inspect())[1] for _ in range(2)]
    assert [[f.code for f in findings if f.is_error] for findings in found] == [["E502"], ["E502"]]
    assert gate.judged == [list(tiny.CASES), ["a3"]]


def test_what_was_found_with_voxels_serves_a_check_without_them(gate):
    require_faultless(gate.folder, "Tr", gate.inspect())
    require_faultless(gate.folder, "Tr", gate.inspect(verify=False))
    assert len(gate.judged) == 1


def test_what_was_found_without_voxels_does_not_serve_a_check_of_them(gate):
    require_faultless(gate.folder, "Tr", gate.inspect(verify=False))
    raw = require_faultless(gate.folder, "Tr", gate.inspect())
    assert gate.judged == [list(tiny.CASES)] * 2
    assert any("W503" in warning for warning in raw.warnings)


def test_a_damaged_memory_is_made_anew(gate):
    require_faultless(gate.folder, "Tr", gate.inspect())
    path = gate.cache / "checked.json"
    whole = path.read_text()
    path.write_text(whole.replace('"findings"', '"fundings"', 1))
    require_faultless(gate.folder, "Tr", gate.inspect())
    assert len(gate.judged) == 2
    assert path.read_text() == whole


def test_facts_survive_plain_types(gate):
    facts = []

    def keep(cases, description):
        found = inspect_cases(cases, description, True, 1)
        facts.extend(found.values())
        return found

    assemble(gate.folder, "Tr", keep)
    assert [from_plain(CaseFacts, files.plain(dataclasses.asdict(item)), "") for item in facts] == facts
    empty = dataclasses.replace(facts[0], geometry=None)
    assert from_plain(CaseFacts, files.plain(dataclasses.asdict(empty)), "") == empty
