"""A run of the whole command finds what changed since the last one, and does only that."""

import dataclasses
import os
import shutil
import subprocess
import sys

import pytest
import SimpleITK as sitk
from support import SMALL, run_cli, set_roots

from spinecls import files
from spinecls.io import voxel_checks
from spinecls.planning import fingerprint, preprocess

ARGUMENTS = ("-d", "1", "-c", "3d_fullres", "-np", "1", "-device", "cpu", "--set", *SMALL[1:])
HEAVY = ("torch", "skimage", "matplotlib", "scipy", "SimpleITK", "blosc2")


@pytest.fixture
def own_phantom(phantom, tmp_path, monkeypatch):
    """Raw and preprocessed phantoms that the test may change; the files are older than their index, as usual."""
    for name in ("raw", "preprocessed", "results"):
        if (phantom / name).is_dir():
            shutil.copytree(phantom / name, tmp_path / name)
    set_roots(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def worked_on(monkeypatch):
    """Cases that each stage works on, filled while commands run."""
    seen = {"check": [], "fingerprint": [], "preprocess": []}

    def watch(module, name, stage, identifier):
        work = getattr(module, name)

        def watched(items, *rest):
            seen[stage] += [identifier(item) for item in items]
            return work(items, *rest)

        monkeypatch.setattr(module, name, watched)

    watch(voxel_checks, "inspect_cases", "check", lambda case: case.identifier)
    watch(fingerprint, "measure_cases", "fingerprint", lambda case: case.identifier)
    watch(preprocess, "store_cases", "preprocess", lambda job: job.case.identifier)
    return seen


def image_of(root, case):
    return root / "raw" / "Dataset001_Phantom" / "imagesTr" / f"{case}_0000.nii.gz"


def test_nothing_is_worked_on_when_nothing_changed(own_phantom, worked_on):
    assert run_cli("plan_and_preprocess", *ARGUMENTS) == 0
    assert worked_on == {"check": [], "fingerprint": [], "preprocess": []}


def test_nothing_heavy_is_imported_when_nothing_changed(own_phantom):
    code = (
        "import sys\nfrom spinecls.cli.main import run\n"
        f"try:\n    run('plan_and_preprocess', {list(ARGUMENTS)!r})\n"
        f"finally:\n    print('imported', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported []"
    assert "0 cases done, 8 unchanged" in done.stdout


def test_an_image_that_was_only_touched_is_not_worked_on(own_phantom, worked_on):
    os.utime(image_of(own_phantom, "phantom_003"))
    assert run_cli("plan_and_preprocess", *ARGUMENTS) == 0
    assert worked_on == {"check": [], "fingerprint": [], "preprocess": []}


def test_only_the_case_whose_image_changed_is_worked_on(own_phantom, worked_on):
    path = image_of(own_phantom, "phantom_003")
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(image * 1.01 + 1, image.GetPixelID()), str(path))
    assert run_cli("plan_and_preprocess", *ARGUMENTS) == 0
    changed = ["phantom_003"]
    assert worked_on == {"check": changed, "fingerprint": changed, "preprocess": changed}


def test_a_new_class_in_the_table_needs_no_new_check_of_voxels(own_phantom, worked_on):
    table = own_phantom / "raw" / "Dataset001_Phantom" / "vertebraeTr.csv"
    rows = files.read_csv(table)
    row = next(row for row in rows if row["case"] == "phantom_005")
    row["class"] = "structural" if row["class"] == "normal" else "normal"
    files.write_csv(table, list(row), rows)
    assert run_cli("plan_and_preprocess", *ARGUMENTS) == 0
    assert worked_on == {"check": [], "fingerprint": ["phantom_005"], "preprocess": ["phantom_005"]}


def test_a_faulty_case_is_checked_again_and_the_others_are_not(own_phantom, worked_on):
    path = image_of(own_phantom, "phantom_002")
    whole = path.read_bytes()
    path.write_bytes(whole[:-500])
    assert [run_cli("plan_and_preprocess", *ARGUMENTS) for _ in range(2)] == [3, 3]
    path.write_bytes(whole)
    assert run_cli("plan_and_preprocess", *ARGUMENTS) == 0
    assert worked_on == {"check": ["phantom_002"] * 3, "fingerprint": [], "preprocess": []}


def test_a_run_that_looks_at_headers_only_uses_what_was_found_with_the_voxels(own_phantom, worked_on):
    assert run_cli("preprocess", "-d", "1", "-c", "3d_fullres", "-np", "1") == 0
    assert worked_on == {"check": [], "fingerprint": [], "preprocess": []}


def test_the_machine_is_measured_once(own_phantom, monkeypatch):
    monkeypatch.setattr("spinecls.trainers.probe.machine_profile", lambda device: pytest.fail("measured again"))
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "steps=77") == 0
    plan = files.read_json(own_phantom / "preprocessed" / "Dataset001_Phantom" / "spineclsPlans.json")
    assert plan["configurations"]["3d_fullres"]["steps"] == 77


def test_a_single_patient_can_be_planned_twice(own_phantom):
    table = own_phantom / "raw" / "Dataset001_Phantom" / "vertebraeTr.csv"
    rows = [{**row, "patient": "one"} for row in files.read_csv(table)]
    files.write_csv(table, list(rows[0]), rows)
    assert [run_cli("plan_and_preprocess", *ARGUMENTS) for _ in range(2)] == [0, 0]


def test_a_dry_run_says_how_many_cases_are_out_of_date_and_makes_none(own_phantom, worked_on, capsys):
    path = image_of(own_phantom, "phantom_003")
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.Cast(image * 1.01 + 1, image.GetPixelID()), str(path))
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "--dry_run") == 0
    assert "Would preprocess 1 of 8 cases: about " in capsys.readouterr().out
    assert worked_on["preprocess"] == []


def test_a_dry_run_with_nothing_to_do_says_so(own_phantom, capsys):
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "--dry_run") == 0
    assert capsys.readouterr().out.endswith("Nothing to preprocess: 8 cases, up to date.\n")


@pytest.mark.parametrize(("text", "gigabytes"), [("M", 8.0), ("l", 24.0), ("XL", 40.0), ("11.5", 11.5)])
def test_a_memory_target_is_a_number_or_a_preset(text, gigabytes):
    from spinecls.cli.plan_and_preprocess import memory_target_gb

    assert memory_target_gb(text) == gigabytes


@pytest.mark.parametrize("text", ["XXL", "0.5", "nan", "inf"])
def test_any_other_memory_target_is_wrong_usage(own_phantom, text):
    assert run_cli("plan_and_preprocess", *ARGUMENTS, "-gpu_memory_target", text) == 2


def test_what_the_planner_warns_of_is_told_without_explain(phantom):
    from spinecls.cli.plan_text import overview_text
    from spinecls.planning.plan import load_plan

    plan = load_plan(phantom / "preprocessed" / "Dataset001_Phantom" / "spineclsPlans.json")
    warned = dataclasses.replace(plan, reasons={**plan.reasons, "3d_fullres.steps": "200. Warning: too few."})
    assert "Warning, 3d_fullres.steps: too few." in overview_text(warned).splitlines()


def test_the_table_of_reasons_fits_its_width_and_loses_no_word(own_phantom):
    from spinecls.cli.plan_text import explained_text
    from spinecls.planning.plan import load_plan
    from spinecls.planning.planner import explain

    plan = load_plan(own_phantom / "preprocessed" / "Dataset001_Phantom" / "spineclsPlans.json")
    text = explained_text(plan, width=110)
    assert max(map(len, text.splitlines())) <= 110
    written = set(text.split())
    for key, _, reason in explain(plan):
        assert set(reason.split()) <= written, key
