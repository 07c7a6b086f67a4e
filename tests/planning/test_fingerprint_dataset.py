import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_datasets import CPU, describe, make_case, make_dataset

from spinecls.errors import DatasetError
from spinecls.io.dataset import load_dataset
from spinecls.planning import fingerprint as module
from spinecls.planning.fingerprint import extract_fingerprint
from spinecls.planning.fingerprint_types import Fingerprint, intraclass_correlation, load_fingerprint, save_fingerprint
from spinecls.planning.planner import plan
from spinecls.records import Case, ClassReading, DatasetDescription, RawDataset, VertebraAnnotation

DATA = Path(os.environ.get("SPINECLS_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))

DESCRIPTION = DatasetDescription(
    name="Dataset901_Boxes",
    channel_names=("T2",),
    class_names=("normal", "lesion"),
    file_ending=".nii.gz",
    levels={"L1": 20, "L2": 21},
)


def _write_case(folder: Path, name: str, orientation: str = "PIR") -> Case:
    """A case of two box vertebrae, saved in any orientation."""
    labels = np.zeros((8, 40, 30), np.int16)
    labels[2:6, 5:15, 8:20] = 20
    labels[2:6, 20:30, 8:20] = 21
    paths = []
    for kind, array in (("image", np.random.default_rng(0).random((8, 40, 30), np.float32) + 1), ("map", labels)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.5, 4.0))
        image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
        paths.append(folder / f"{name}_{kind}.nii.gz")
        sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(paths[-1]))
    annotations = (
        VertebraAnnotation(level="L1", in_map=True, readings=(ClassReading(classes=("normal",)),)),
        VertebraAnnotation(level="L2", in_map=True, readings=(ClassReading(classes=("lesion",)),)),
    )
    return Case(identifier=name, patient=name, images=(paths[0],), vertebra_maps={"": paths[1]}, vertebrae=annotations)


def _raw(folder: Path, names=("a", "b")) -> RawDataset:
    cases = tuple(_write_case(folder, name) for name in names)
    return RawDataset(folder=folder, description=DESCRIPTION, cases=cases)


@pytest.mark.parametrize("orientation", ["PIR", "LPS", "RAS", "AIL", "SPL"])
def test_the_orientation_of_the_file_does_not_matter(tmp_path, orientation):
    raw = RawDataset(folder=tmp_path, description=DESCRIPTION, cases=(_write_case(tmp_path, "a", orientation),))
    case = extract_fingerprint(raw).cases["a"]
    assert case.shape == (8, 40, 30)
    assert case.spacing_mm == pytest.approx((4.0, 1.5, 1.0))
    assert case.vertebrae[0].extent_mm == pytest.approx((16.0, 15.0, 12.0))
    assert case.vertebrae[0].pitch_mm == pytest.approx(22.5)


def test_a_fingerprint_survives_its_file(tmp_path):
    made = extract_fingerprint(_raw(tmp_path))
    save_fingerprint(tmp_path / "fingerprint.json", made)
    assert load_fingerprint(tmp_path / "fingerprint.json") == made
    assert json.loads((tmp_path / "fingerprint.json").read_text())["summary"]["cases"] == 2


def test_two_processes_give_what_one_gives(tmp_path):
    raw = _raw(tmp_path)
    assert extract_fingerprint(raw, num_processes=2) == extract_fingerprint(raw)


def test_only_what_changed_is_read_again(tmp_path, monkeypatch):
    raw = _raw(tmp_path)
    cache = tmp_path / "cache.json"
    first = extract_fingerprint(raw, cache)
    read = []
    original = module.read_image
    monkeypatch.setattr(module, "read_image", lambda paths: (read.append(paths[0].name), original(paths))[1])
    assert extract_fingerprint(raw, cache) == first
    assert read == []
    larger = RawDataset(folder=tmp_path, description=DESCRIPTION, cases=(*raw.cases, _write_case(tmp_path, "c")))
    assert list(extract_fingerprint(larger, cache).cases) == ["a", "b", "c"]
    assert read == ["c_image.nii.gz"]


def test_a_new_reading_renews_its_case(tmp_path):
    raw = _raw(tmp_path)
    cache = tmp_path / "cache.json"
    extract_fingerprint(raw, cache)
    changed = Case(**{**vars(raw.cases[0]), "vertebrae": raw.cases[0].vertebrae[:1]})
    again = extract_fingerprint(RawDataset(folder=tmp_path, description=DESCRIPTION, cases=(changed,)), cache)
    assert [v.level for v in again.cases["a"].vertebrae] == ["L1"]


def test_a_damaged_cache_is_made_anew(tmp_path):
    (tmp_path / "cache.json").write_text('{"format": 1, "cases": {"a": ')
    assert len(extract_fingerprint(_raw(tmp_path), tmp_path / "cache.json").cases) == 2


def test_every_unreadable_case_is_named_and_the_others_are_kept(tmp_path):
    raw = _raw(tmp_path, ("a", "b", "c"))
    for name in ("a", "c"):
        (tmp_path / f"{name}_image.nii.gz").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"2 of 3 cases cannot be read\. a: .*c: "):
        extract_fingerprint(raw, tmp_path / "cache.json")
    assert list(json.loads((tmp_path / "cache.json").read_text())["cases"]) == ["b"]


def test_a_map_of_another_size_is_a_fault(tmp_path):
    raw = _raw(tmp_path, ("a",))
    sitk.WriteImage(sitk.Image(3, 3, 3, sitk.sitkInt16), str(tmp_path / "a_map.nii.gz"))
    with pytest.raises(DatasetError, match="must share one grid"):
        extract_fingerprint(raw)


def test_the_icc_is_that_worked_by_hand():
    # Means 2 and 5 about 3.2: between 10.8; within 4/3; size 2.4: (10.8 - 4/3) / (10.8 + 1.4 x 4/3).
    assert intraclass_correlation([[1, 2, 3], [4, 6]]) == pytest.approx(0.747368, abs=1e-6)
    assert intraclass_correlation([[0, 0], [1, 1]]) == 1.0
    assert intraclass_correlation([[0, 1], [0, 1]]) == -1.0


@pytest.mark.parametrize("groups", [[], [[1, 2]], [[1], [2]], [[1, 1], [1, 1]]])
def test_the_icc_of_too_little_is_undefined(groups):
    assert intraclass_correlation(groups) is None


def test_classes_are_counted_by_vertebra_and_by_patient():
    made = make_dataset(
        num_cases=4, each=lambda i: {"patient": f"p{i // 2}", **({"classes": ("normal",)} if i else {})}
    )
    assert made.class_counts == {"normal": 18, "lesion": 2}
    assert made.class_patients == {"normal": 2, "lesion": 1}


def test_truncated_vertebrae_do_not_count_for_sizes():
    case = make_case(0)
    cut = tuple(type(v)(**{**vars(v), "truncated": True, "extent_mm": (46.0, 5.0, 36.0)}) for v in case.vertebrae[:2])
    mixed = type(case)(**{**vars(case), "vertebrae": (*cut, *case.vertebrae[2:])})
    made = Fingerprint(dataset_name="D", class_names=(), class_order=False, cases={"a": mixed})
    assert made.extents_mm()[:, 1].tolist() == [30.0, 30.0, 30.0]
    assert made.share_truncated == pytest.approx(0.4)


def test_anchors_are_c2_and_s1():
    made = make_dataset(num_cases=4, each=lambda i: {"levels": ("L5", "S1")} if i == 0 else {})
    assert made.share_with_anchor == 0.25


def test_the_smallest_lesion_is_the_fifth_percentile():
    # 20 values 1 ... 20: the 5th percentile lies at position 0.95, between 1 and 2.
    assert make_dataset(
        num_cases=1, lesions_mm=tuple(float(n) for n in range(1, 21))
    ).smallest_lesion_mm == pytest.approx(1.95)
    assert make_dataset(lesions_mm=()).smallest_lesion_mm is None


@pytest.mark.skipif(
    not (DATA / "Dataset001_LumbarSpA").is_dir(), reason=f"no real MRI in {DATA}; set SPINECLS_TEST_DATA"
)
def test_real_lumbar_mri_is_planned_as_expected(tmp_path):
    raw = load_dataset(DATA / "Dataset001_LumbarSpA", verify_voxels=False)
    # Every fourth case keeps the mix of spacings and the test short.
    raw = dataclasses.replace(raw, cases=raw.cases[::4])
    made = extract_fingerprint(raw, tmp_path / "cache.json")
    assert made.median_spacing_mm == pytest.approx((4.0, 1.0, 1.0), abs=0.01)
    assert len(made.vertebrae) == sum(len(case.vertebrae) for case in raw.cases)
    assert sum(made.class_counts.values()) == len(made.vertebrae)
    assert 30 < np.median([p for values in made.pitches_mm.values() for p in values]) < 42
    full = plan(made, raw.description, CPU).configurations["3d_fullres"]
    assert full.spacing_mm == pytest.approx((4.0, 2.0, 2.0), abs=0.01)
    assert full.patch_size[1] * full.spacing_mm[1] >= 3 * 36
    assert full.steps >= 700


def test_the_description_of_the_dataset_reaches_the_plan():
    made = make_dataset()
    planned = plan(made, describe(made, vertebrae_complete=False, ignore_label=99), CPU)
    assert (planned.vertebrae_complete, planned.ignore_label) == (False, 99)
