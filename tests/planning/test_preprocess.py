import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.anatomy import LEVEL_CODES
from spinecls.errors import DatasetError, ResourceError
from spinecls.io.preprocessed import NATIVE, check_stored, load_case
from spinecls.planning import preprocess
from spinecls.planning.outdated import LOCK_NAME, settings_of
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.planning.preprocess import preprocess_dataset
from spinecls.records import Case, ClassReading, DatasetDescription, RawDataset, VertebraAnnotation

NETWORK = NetworkPlan(features=(8, 16), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres",
    spacing_mm=(4.0, 3.0, 3.0),
    patch_size=(8, 16, 16),
    sealed_spacing_mm=(4.0, 3.0, 3.0),
    sealed_size=(8, 8, 8),
    network=NETWORK,
    reader_network=NETWORK,
)
FLAT = dataclasses.replace(CONFIGURATION, name="2d", spacing_mm=(4.0, 2.0, 2.0))
PLAN = Plan(
    plans_name="plans",
    dataset_name="Dataset001_Test",
    channel_names=("T2",),
    class_names=("normal", "lesion"),
    class_order=False,
    class_counts={},
    levels=LEVEL_CODES,
    structures={},
    lesion_structures={},
    vertebrae_complete=True,
    ignore_label=255,
    level_statistics={},
    configurations={"3d_fullres": CONFIGURATION, "2d": FLAT},
)
BOTH = ["3d_fullres", "2d"]


def write(path, array):
    """Canonical array (slice, row, column) as a file whose axes run to the back, the feet and the right."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 4.0))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)


def write_case(folder, name, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(10, 3, (6, 40, 36))
    image[:, :, 6:30] += 90
    labels = np.zeros(image.shape, np.uint8)
    for row, level in ((4, "L1"), (16, "L2"), (28, "L3")):
        labels[1:5, row : row + 8, 10:20] = LEVEL_CODES[level]
    image[labels > 0] += 40
    write(folder / "imagesTr" / f"{name}_0000.nii.gz", image.round().clip(0, 255).astype(np.uint8))
    write(folder / "labelsTr" / f"{name}.nii.gz", labels)


def dataset(folder, names):
    cases = tuple(
        Case(
            identifier=name,
            patient=name,
            images=(folder / "imagesTr" / f"{name}_0000.nii.gz",),
            vertebra_maps={"": folder / "labelsTr" / f"{name}.nii.gz"},
            vertebrae=(VertebraAnnotation(level="L1", readings=(ClassReading(classes=("normal",)),)),),
        )
        for name in names
    )
    description = DatasetDescription(
        name="Dataset001_Test", channel_names=("T2",), class_names=("normal", "lesion"), file_ending=".nii.gz"
    )
    return RawDataset(folder=folder, description=description, cases=cases)


@pytest.fixture
def raw(tmp_path):
    names = ["a", "b", "c"]
    for seed, name in enumerate(names):
        write_case(tmp_path / "raw", name, seed)
    return dataset(tmp_path / "raw", names)


def contents(folder):
    """Every file below a folder but the lock, by relative name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run(raw, folder, configurations=("3d_fullres",), plan=PLAN, num_processes=1):
    return preprocess_dataset(raw, plan, configurations, folder, num_processes)


def test_every_configuration_gets_its_grid_from_one_native_part(raw, tmp_path):
    run(raw, tmp_path / "out", BOTH)
    cases = [load_case(tmp_path / "out", f"plans_{name}", "b") for name in BOTH]
    assert [case.geometry.spacing_mm for case in cases] == [(4.0, 3.0, 3.0), (4.0, 2.0, 2.0)]
    np.testing.assert_array_equal(cases[0].native, cases[1].native)


def test_a_stored_case_holds_the_annotation_and_names_of_its_readings(raw, tmp_path):
    run(raw, tmp_path / "out")
    case = load_case(tmp_path / "out", "plans_3d_fullres", "a")
    assert [v.level for v in case.vertebrae] == ["L1", "L2", "L3"]
    assert case.vertebrae[0].readings == (ClassReading(classes=("normal",)),)
    assert case.native.dtype == np.uint8
    assert case.image.dtype == np.float16


def test_the_maps_lie_on_the_bright_bodies_on_both_grids(raw, tmp_path):
    run(raw, tmp_path / "out")
    case = load_case(tmp_path / "out", "plans_3d_fullres", "a")
    for image, labels in ((case.native[0], case.native_map), (case.image[0], case.vertebra_map)):
        image = image.astype(float)
        assert np.median(image[labels == LEVEL_CODES["L2"]]) > np.percentile(image[labels == 0], 95)


def with_chances(raw, chances):
    """The dataset with a map of chances for its first case."""
    path = raw.folder / "labelsTr/a__probability.nii.gz"
    write(path, chances)
    first = dataclasses.replace(raw.cases[0], chance_map=path)
    return dataclasses.replace(raw, cases=(first, *raw.cases[1:]))


def test_chances_are_stored_in_percent_on_the_grid_of_training(raw, tmp_path):
    chances = np.zeros((6, 40, 36), np.float32)
    chances[1:5, 8:32, 10:22] = 0.42
    run(with_chances(raw, chances), tmp_path / "out")
    case = load_case(tmp_path / "out", "plans_3d_fullres", "a")
    assert case.chance_percent.shape == case.geometry.shape
    inside = case.geometry.to_index(load_case(tmp_path / "out", "plans_3d_fullres", "b").vertebrae[1].centre_lps)
    assert case.chance_percent[tuple(np.rint(inside).astype(int))] == 42
    # Halved spacing apart, as much chance as before: 4 x 24 x 12 voxels of 0.42.
    volumes = [np.prod(g) for g in ((4.0, 2.0, 2.0), case.geometry.spacing_mm)]
    assert case.chance_percent.sum() / 100 * volumes[1] == pytest.approx(0.42 * 4 * 24 * 12 * volumes[0], rel=0.1)
    assert load_case(tmp_path / "out", "plans_3d_fullres", "b").chance_percent is None


def test_changed_chances_redo_their_case(raw, tmp_path):
    run(with_chances(raw, np.full((6, 40, 36), 0.5, np.float32)), tmp_path / "out")
    report = run(with_chances(raw, np.full((6, 40, 36), 0.6, np.float32)), tmp_path / "out")
    assert list(report.done) == ["a"]


def test_chances_on_another_grid_fail_with_both_sizes(raw, tmp_path):
    report = run(with_chances(raw, np.zeros((6, 20, 36), np.float32)), tmp_path / "out")
    assert "(6, 20, 36)" in dict(report.failed)["a"]
    assert "(6, 40, 36)" in dict(report.failed)["a"]


def test_training_accepts_what_was_stored_for_its_configuration(raw, tmp_path):
    run(raw, tmp_path / "out")
    check_stored(tmp_path / "out", "plans_3d_fullres", settings_of(CONFIGURATION), ["a", "b", "c"])
    with pytest.raises(DatasetError, match="another spacing"):
        check_stored(tmp_path / "out", "plans_3d_fullres", settings_of(FLAT), ["a"])


def test_a_second_run_reuses_everything(raw, tmp_path):
    run(raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    report = run(raw, tmp_path / "out")
    assert (report.done, report.reused, report.failed) == ((), ("a", "b", "c"), ())
    assert contents(tmp_path / "out") == before


def test_worker_processes_write_the_same_bytes_as_one_process(raw, tmp_path):
    run(raw, tmp_path / "one")
    run(raw, tmp_path / "two", num_processes=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_only_the_case_whose_image_changed_is_redone(raw, tmp_path):
    run(raw, tmp_path / "out")
    write_case(raw.folder, "b", seed=77)
    assert run(raw, tmp_path / "out").done == ("b",)
    run(raw, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_file_that_was_only_touched_is_not_redone(raw, tmp_path):
    run(raw, tmp_path / "out")
    os.utime(raw.cases[1].images[0], ns=(1, 1))
    assert run(raw, tmp_path / "out").done == ()


def test_an_unchanged_file_is_not_read_again(raw, tmp_path, monkeypatch):
    for path in raw.folder.rglob("*.nii.gz"):
        os.utime(path, ns=(1, 1))
    run(raw, tmp_path / "out")
    monkeypatch.setattr("spinecls.files.content_hash", lambda *paths: pytest.fail(f"{paths} was read again"))
    assert run(raw, tmp_path / "out").reused == ("a", "b", "c")


def test_a_changed_reading_redoes_its_case(raw, tmp_path):
    run(raw, tmp_path / "out")
    reading = VertebraAnnotation(level="L1", readings=(ClassReading(classes=("lesion",)),))
    cases = (dataclasses.replace(raw.cases[0], vertebrae=(reading,)), *raw.cases[1:])
    assert run(dataclasses.replace(raw, cases=cases), tmp_path / "out").done == ("a",)


@pytest.mark.parametrize("change", [{"spacing_mm": (4.0, 2.5, 2.5)}, {"normalisation": ("none",)}])
def test_a_plan_with_another_grid_or_normalisation_redoes_its_configuration_only(raw, tmp_path, change):
    run(raw, tmp_path / "out", BOTH)
    flat = dataclasses.replace(FLAT, **change)
    changed = dataclasses.replace(PLAN, configurations={"3d_fullres": CONFIGURATION, "2d": flat})
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.b2nd") if p.parent.name != "plans_2d"}
    assert run(raw, tmp_path / "out", BOTH, changed).done == ("a", "b", "c")
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_plan_with_another_number_of_steps_redoes_nothing(raw, tmp_path):
    run(raw, tmp_path / "out")
    longer = dataclasses.replace(PLAN, configurations={"3d_fullres": dataclasses.replace(CONFIGURATION, steps=7)})
    assert run(raw, tmp_path / "out", plan=longer).done == ()


@pytest.mark.parametrize("part", [NATIVE, "plans_3d_fullres"])
@pytest.mark.parametrize("name", ["b.b2nd", "b_map.b2nd", "b.json"])
def test_a_damaged_file_redoes_its_case(raw, tmp_path, part, name):
    run(raw, tmp_path / "out")
    path = tmp_path / "out" / part / name
    good = path.read_bytes()
    path.write_bytes(good[:-7])
    assert run(raw, tmp_path / "out").done == ("b",)
    assert path.read_bytes() == good


def test_cases_that_the_dataset_no_longer_has_are_deleted(raw, tmp_path):
    run(raw, tmp_path / "out", BOTH)
    run(dataclasses.replace(raw, cases=raw.cases[:2]), tmp_path / "out")
    left = {p.name.split(".")[0].split("_")[0] for p in (tmp_path / "out").glob("*/*")}
    assert left == {"a", "b"}


def test_what_a_dead_process_left_under_temporary_names_is_deleted(raw, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leftover = tmp_path / "out" / NATIVE / f".tmp-{gone.pid}-a.b2nd"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    run(raw, tmp_path / "out")
    assert not leftover.exists()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_case_that_cannot_be_read_is_named_and_the_others_are_done(raw, tmp_path, num_processes):
    image = raw.cases[1].images[0]
    image.write_bytes(image.read_bytes()[:500])
    report = run(raw, tmp_path / "out", num_processes=num_processes)
    assert (report.done, list(dict(report.failed))) == (("a", "c"), ["b"])
    assert str(image) in dict(report.failed)["b"]


def test_a_case_that_fails_now_is_not_left_in_its_former_state(raw, tmp_path):
    run(raw, tmp_path / "out")
    raw.cases[1].images[0].write_bytes(b"")
    assert list(dict(run(raw, tmp_path / "out").failed)) == ["b"]
    with pytest.raises(DatasetError, match="Case b"):
        load_case(tmp_path / "out", "plans_3d_fullres", "b")


def test_a_missing_image_fails_its_case_only(raw, tmp_path):
    raw.cases[2].images[0].unlink()
    report = run(raw, tmp_path / "out")
    assert (report.done, list(dict(report.failed))) == (("a", "b"), ["c"])


def test_a_map_on_another_grid_fails_with_both_sizes(raw, tmp_path):
    write(raw.folder / "labelsTr" / "a.nii.gz", np.ones((6, 40, 30), np.uint8))
    ((case, reason),) = run(raw, tmp_path / "out").failed
    assert case == "a"
    assert "(6, 40, 30)" in reason
    assert "(6, 40, 36)" in reason


class _DeadlyPath(type(Path())):
    """Ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_a_case_that_kills_its_worker_is_named_and_the_others_are_done(raw, tmp_path):
    deadly = dataclasses.replace(raw.cases[1], images=(_DeadlyPath(raw.cases[1].images[0]),))
    cases = (raw.cases[0], deadly, raw.cases[2])
    report = run(dataclasses.replace(raw, cases=cases), tmp_path / "out", num_processes=2)
    assert (report.done, list(dict(report.failed))) == (("a", "c"), ["b"])
    assert "killed" in dict(report.failed)["b"]


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(raw, tmp_path, monkeypatch):
    def full(folder, part, inputs):
        if part.identifier == "b":
            raise OSError(28, "No space left on device")
        return stored(folder, part, inputs)

    stored = preprocess.save_native
    monkeypatch.setattr(preprocess, "save_native", full)
    with pytest.raises(ResourceError, match="no space left while writing case b"):
        run(raw, tmp_path / "out")
    monkeypatch.setattr(preprocess, "save_native", stored)
    assert run(raw, tmp_path / "out").done == ("b", "c")


def test_a_second_process_is_refused_while_the_first_works(raw, tmp_path):
    (tmp_path / "out").mkdir()
    lock = filelock.FileLock(tmp_path / "out" / LOCK_NAME, is_singleton=False)
    with lock, pytest.raises(ResourceError, match="another process"):
        preprocess_dataset(raw, PLAN, ["3d_fullres"], tmp_path / "out", 1, lock_timeout_s=0.2)


def test_case_names_that_would_share_a_file_are_refused(raw, tmp_path):
    clashing = dataclasses.replace(raw.cases[1], identifier="a_map")
    with pytest.raises(DatasetError, match="a and a_map"):
        run(dataclasses.replace(raw, cases=(raw.cases[0], clashing)), tmp_path / "out")


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_preprocess as this
if __name__ == "__main__":
    names = {names!r}
    this.run(this.dataset(Path({raw!r}), names), Path({out!r}), this.BOTH, num_processes={processes})
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_at_any_moment_and_repeated_ends_as_an_undisturbed_run(tmp_path, processes):
    names = [f"case{i}" for i in range(8)]
    for seed, name in enumerate(names):
        write_case(tmp_path / "raw", name, seed)
    raw = dataset(tmp_path / "raw", names)
    run(raw, tmp_path / "calm", BOTH)
    calm, out = contents(tmp_path / "calm"), tmp_path / "out"
    rng, interrupted = random.Random(processes), 0
    script = tmp_path / "child.py"
    here = str(Path(__file__).parent)
    script.write_text(_CHILD.format(here=here, names=names, raw=str(raw.folder), out=str(out), processes=processes))
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        child = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list(out.glob("*/*")) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        child.wait()
        interrupted += len(list(out.glob("*/*.json"))) < 3 * len(names)
        report = run(raw, out, BOTH)
        assert report.failed == ()
        found = contents(out)
        assert sorted(found) == sorted(calm)
        assert found == calm
    assert interrupted > 0


def test_what_each_reader_drew_is_stored_beside_what_most_drew(raw, tmp_path):
    first = raw.folder / "labelsTr/a.nii.gz"
    shifted = sitk.GetArrayFromImage(sitk.ReadImage(str(first)))
    write(raw.folder / "labelsTr/a__second.nii.gz", np.roll(shifted, 3, axis=1))
    maps = {"first": first, "second": raw.folder / "labelsTr/a__second.nii.gz"}
    raw = dataclasses.replace(raw, cases=(dataclasses.replace(raw.cases[0], vertebra_maps=maps), *raw.cases[1:]))
    run(raw, tmp_path / "out")
    case = load_case(tmp_path / "out", "plans_3d_fullres", "a")
    np.testing.assert_array_equal(case.reader_maps[0], case.vertebra_map)
    # 6 mm lower on a grid of 3 mm.
    np.testing.assert_array_equal(case.reader_maps[1][:, 2:], case.reader_maps[0][:, :-2])
    assert load_case(tmp_path / "out", "plans_3d_fullres", "b").reader_maps is None
