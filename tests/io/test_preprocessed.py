import dataclasses
import subprocess
import sys

import blosc2
import numpy as np
import pytest

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.io.preprocessed import (
    NATIVE,
    GridPart,
    NativePart,
    check_stored,
    grid_settings,
    is_stored,
    load_case,
    save_grid,
    save_native,
)
from spinecls.io.preprocessed_records import PreparedVertebra, read_native
from spinecls.io.rigid_motion import RigidMotion
from spinecls.records import AnnotationForm, AnnotationForms, ClassReading

GRID = "spineclsPlans_3d_fullres"
SETTINGS = grid_settings((4.0, 2.0, 2.0), ("robust_zscore",))
GEOMETRY = Geometry(
    shape=(3, 8, 6),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(1.0, -2.0, 3.0),
    direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)
VERTEBRA = PreparedVertebra(
    level="L1", centre_lps=(1.0, 2.0, 3.5), in_map=True, readings=(ClassReading(classes=("normal",)),)
)
MOTION = RigidMotion(rotation_degrees=(0.0, 1.5, 0.0), translation_mm=(1.0, 0.0, -2.0), centre_lps=(0.0, 0.0, 0.0))


def parts(identifier="case1", with_maps=True):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (1, *GEOMETRY.shape)).astype(np.uint8)
    labels = rng.integers(0, 3, GEOMETRY.shape).astype(np.uint8) if with_maps else None
    native = NativePart(
        identifier=identifier,
        patient="p1",
        site="here",
        native=image,
        native_geometry=GEOMETRY,
        native_map=labels,
        native_structures=labels,
        vertebrae=(VERTEBRA,),
        annotation_form=AnnotationForms(vertebrae=AnnotationForm(form="slices", slices=(1, 2))),
        registration=(MOTION, None),
    )
    grid = GridPart(
        identifier=identifier,
        image=((image - 80.0) / 9.5).astype(np.float16),
        geometry=GEOMETRY,
        vertebra_map=labels,
        structures=labels,
        normalisation=((80.0, 9.5),),
        reader_maps=np.stack([labels, labels[::-1]]) if with_maps else None,
    )
    return native, grid


def store(folder, inputs="a", settings=SETTINGS, **options):
    native, grid = parts(**options)
    save_native(folder, native, inputs)
    save_grid(folder, GRID, grid, inputs, settings)
    return native, grid


def test_a_case_comes_back_as_it_was_stored(tmp_path):
    native, grid = store(tmp_path)
    case = load_case(tmp_path, GRID, "case1")
    for part in (native, grid):
        for field in dataclasses.fields(part):
            stored, loaded = getattr(part, field.name), getattr(case, field.name)
            if isinstance(stored, np.ndarray):
                assert loaded.dtype == stored.dtype, field.name
                np.testing.assert_array_equal(loaded, stored)
            else:
                assert loaded == stored, field.name


def test_missing_maps_come_back_as_none(tmp_path):
    store(tmp_path, with_maps=False)
    case = load_case(tmp_path, GRID, "case1")
    assert [case.native_map, case.native_structures, case.vertebra_map, case.structures] == [None] * 4


def test_a_map_that_the_case_no_longer_has_is_deleted(tmp_path):
    store(tmp_path)
    store(tmp_path, with_maps=False)
    assert sorted(p.name for p in (tmp_path / NATIVE).iterdir()) == ["case1.b2nd", "case1.json"]


def test_the_same_case_is_stored_in_the_same_bytes(tmp_path):
    store(tmp_path / "a")
    store(tmp_path / "b")
    first = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*.*")}
    assert len(first) == 9
    assert first == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*.*")}


def test_arrays_can_be_opened_with_blosc2_alone(tmp_path):
    native, _ = store(tmp_path)
    np.testing.assert_array_equal(blosc2.open(str(tmp_path / NATIVE / "case1.b2nd"), mode="r")[...], native.native)


@pytest.mark.parametrize("folder", [NATIVE, GRID])
@pytest.mark.parametrize("name", ["case1.b2nd", "case1_map.b2nd", "case1_structures.b2nd"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_array_is_named_with_its_case_and_the_remedy(tmp_path, folder, name, damage):
    store(tmp_path / "Dataset001_X")
    path = tmp_path / "Dataset001_X" / folder / name
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(DatasetError) as caught:
        load_case(tmp_path / "Dataset001_X", GRID, "case1")
    for words in ("Case case1", str(path), "spinecls_preprocess -d Dataset001_X"):
        assert words in str(caught.value)
    assert not is_stored(path.parent, "case1", "a", SETTINGS)


def test_a_damaged_record_is_named(tmp_path):
    store(tmp_path)
    path = tmp_path / GRID / "case1.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(DatasetError, match=r"case1\.json: not valid JSON"):
        load_case(tmp_path, GRID, "case1")


def test_a_record_of_another_case_is_refused(tmp_path):
    store(tmp_path)
    (tmp_path / NATIVE / "case1.json").rename(tmp_path / NATIVE / "case2.json")
    with pytest.raises(DatasetError, match="not a record of this case"):
        load_case(tmp_path, GRID, "case2")


FAULTS = {
    "a key too many": (lambda r: r.update(hook=1), "unknown key 'hook'"),
    "a key too few": (lambda r: r.pop("patient"), "key 'patient' is missing"),
    "no image": (lambda r: r["arrays"].pop("image"), ".arrays: key 'image' is missing"),
    "a size that is none": (
        lambda r: r["arrays"]["image"].update(bytes="8"), ".arrays.image.bytes: expected int, got '8'"
    ),
    "a point of two": (
        lambda r: r["vertebrae"][0].update(centre_lps=[1, 2]), ".vertebrae[0].centre_lps: expected 3 values, got 2"
    ),
    "a word for a number": (
        lambda r: r["vertebrae"][0]["readings"][0].update(confidence="high"),
        ".vertebrae[0].readings[0].confidence: expected float, got 'high'",
    ),
    "a form that says too much": (
        lambda r: r["annotation_form"]["vertebrae"].update(colour=1), ".annotation_form.vertebrae: unknown key 'colour'"
    ),
    "a motion that is none": (lambda r: r["registration"].append(5), ".registration[2]: expected an object, got 5"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_record_is_refused_with_its_place_and_the_remedy(tmp_path, damage, words):
    store(tmp_path / "Dataset001_X")
    path = tmp_path / "Dataset001_X" / NATIVE / "case1.json"
    content = files.read_json(path)
    damage(content)
    files.write_json(path, content)
    with pytest.raises(DatasetError) as caught:
        read_native(tmp_path / "Dataset001_X", "case1")
    for told in (f"Case case1: {path}", words, "spinecls_preprocess -d Dataset001_X"):
        assert told in str(caught.value)
    assert not is_stored(path.parent, "case1", "a", files.text_hash([1, NATIVE]))


def test_a_record_says_everything_in_this_order(tmp_path):
    store(tmp_path)
    content = files.read_json(tmp_path / NATIVE / "case1.json")
    assert list(content) == [
        "version", "identifier", "inputs", "settings", "patient", "site", "geometry", "vertebrae", "annotation_form",
        "registration", "arrays",
    ]  # fmt: skip
    (vertebra,) = content["vertebrae"]
    assert list(vertebra.items()) == [
        ("level", "L1"), ("centre_lps", [1.0, 2.0, 3.5]), ("box_lps", None), ("in_map", True), ("truncated", False),
        ("readings", [{"classes": ["normal"], "confidence": 1.0, "reader": ""}]),
    ]  # fmt: skip
    assert content["annotation_form"] == {"vertebrae": {"form": "slices", "slices": [1, 2]}}
    assert content["registration"] == [{key: list(values) for key, values in vars(MOTION).items()}, {}]
    assert list(files.read_json(tmp_path / GRID / "case1.json")) == [
        "version", "identifier", "inputs", "settings", "geometry", "normalisation", "arrays",
    ]  # fmt: skip


def test_a_case_that_was_never_stored_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"Case nobody: .*does not exist"):
        load_case(tmp_path, GRID, "nobody")


def test_parts_made_from_different_inputs_are_refused(tmp_path):
    store(tmp_path)
    save_native(tmp_path, parts()[0], "b")
    with pytest.raises(DatasetError, match="another image or annotation"):
        load_case(tmp_path, GRID, "case1")


def test_storing_that_stops_before_the_record_leaves_no_case(tmp_path, monkeypatch):
    store(tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        save_native(tmp_path, parts()[0], "b")
    assert not is_stored(tmp_path / NATIVE, "case1", "a", SETTINGS)


@pytest.mark.parametrize(("inputs", "settings", "expected"), [("a", SETTINGS, True), ("b", SETTINGS, False)])
def test_a_stored_case_counts_only_for_its_inputs(tmp_path, inputs, settings, expected):
    store(tmp_path)
    assert is_stored(tmp_path / GRID, "case1", inputs, settings) is expected


def test_other_spacing_gives_other_settings():
    assert grid_settings((4.0, 1.0, 1.0), ("robust_zscore",)) != SETTINGS


def test_check_names_every_case_that_is_missing_or_was_made_for_another_plan(tmp_path):
    store(tmp_path, identifier="good")
    store(tmp_path, identifier="coarse", settings=grid_settings((4.0, 3.0, 3.0), ("robust_zscore",)))
    store(tmp_path, identifier="redrawn")
    save_native(tmp_path, parts("redrawn")[0], "b")
    with pytest.raises(DatasetError) as caught:
        check_stored(tmp_path, GRID, SETTINGS, ["good", "coarse", "redrawn", "absent"])
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:-1]] == ["coarse", "redrawn", "absent"]
    check_stored(tmp_path, GRID, SETTINGS, ["good"])


def test_loading_does_not_need_simpleitk():
    code = "import sys, spinecls.io.preprocessed; sys.exit('SimpleITK' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
