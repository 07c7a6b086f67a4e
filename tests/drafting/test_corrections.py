"""What people corrected in drafts comes back as exact, from the files that their programs write."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from spinecls import files
from spinecls.drafting.corrections import apply_corrections, on_grid
from spinecls.drafting.drafts import FORMS, TABLE, mark_drafts, undrawn_cases
from spinecls.errors import DatasetError, UsageError
from spinecls.geometry import Geometry
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_label_map

OBLIQUE = np.array([[0.0, 0.28, 0.96], [0.0, -0.96, 0.28], [-1.0, 0.0, 0.0]])
NAME = "phantom_000"


@pytest.fixture
def raw(write_phantoms):
    """Two phantoms, their maps drafts."""
    folder = write_phantoms(2)
    mark_drafts(folder / FORMS, {NAME: True, "phantom_001": True})
    return folder


@pytest.fixture
def back(tmp_path):
    folder = tmp_path / "back"
    folder.mkdir()
    return folder


def apply(raw, folder):
    dataset, _ = undrawn_cases(raw)
    return apply_corrections(dataset, {case.identifier: case for case in dataset.cases}, folder)


def map_of(raw):
    return next((raw / "labelsTr").glob(f"{NAME}.*"))


def moved(raw):
    """The draft with every label a voxel further along the array's last axis."""
    image = sitk.ReadImage(str(map_of(raw)))
    array = np.roll(sitk.GetArrayFromImage(image), 1, axis=2)
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result, array


def test_a_corrected_map_takes_the_place_of_the_draft_and_counts_as_exact(raw, back):
    image, array = moved(raw)
    sitk.WriteImage(image, str(back / f"{NAME}.nii.gz"))
    assert apply(raw, back).maps == (NAME,)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(map_of(raw)))), array)
    assert set(files.read_json(raw / FORMS)) == {"phantom_001"}


def test_a_map_cut_to_what_is_drawn_is_laid_where_it_lies(raw, back):
    image, array = moved(raw)
    voxels = np.argwhere(array)
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    part = image[tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))]
    sitk.WriteImage(part, str(back / f"{NAME}.nrrd"))
    apply(raw, back)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(map_of(raw)))), array)


def test_segments_of_slicer_are_known_by_their_names(raw, back):
    image, array = moved(raw)
    array[array == 255] = 0
    codes = {code: number for number, code in enumerate(np.unique(array[array > 0]), start=1)}
    levels = {code: level for level, code in load_dataset(raw).description.levels.items()}
    numbered = np.zeros_like(array)
    for code, number in codes.items():
        numbered[array == code] = number
    result = sitk.GetImageFromArray(numbered)
    result.CopyInformation(image)
    for code, number in codes.items():
        result.SetMetaData(f"Segment{number - 1}_Name", levels[code])
        result.SetMetaData(f"Segment{number - 1}_LabelValue", str(number))
    sitk.WriteImage(result, str(back / f"{NAME}.seg.nrrd"))
    apply(raw, back)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(map_of(raw)))), array)


@pytest.mark.parametrize(("system", "sign"), [("LPS", 1), ("RAS", -1)])
def test_points_of_slicer_go_into_the_table_and_the_draft_goes(raw, back, system, sign):
    before = files.read_csv(raw / "vertebraeTr.csv")
    level = next(row["vertebra"] for row in before if row["case"] == NAME)
    drawn, grid = read_label_map(map_of(raw))
    code = load_dataset(raw).description.levels[level]
    centre = grid.to_world(np.argwhere(drawn == code).mean(axis=0))
    position = [sign * centre[0], sign * centre[1], centre[2]]
    points = {"coordinateSystem": system, "controlPoints": [{"label": level.lower(), "position": position}]}
    (back / f"{NAME}.mrk.json").write_text(json.dumps({"markups": [points]}))
    applied = apply(raw, back)
    assert applied.points == (NAME,)
    assert not list((raw / "labelsTr").glob(f"{NAME}.*"))
    after = files.read_csv(raw / "vertebraeTr.csv")
    assert len(after) == len(before)
    row = next(row for row in after if row["case"] == NAME and row["vertebra"] == level)
    assert [float(row[name]) for name in ("x_mm", "y_mm", "z_mm")] == pytest.approx(list(centre), abs=1e-3)
    assert files.read_csv(applied.earlier_table) == before
    case = next(one for one in load_dataset(raw).cases if one.identifier == NAME)
    assert next(v for v in case.vertebrae if v.level == level).centre_lps == pytest.approx(tuple(centre), abs=1e-3)


def test_of_the_maps_of_the_dataset_only_changed_drafts_are_taken(raw):
    hashes = {path.name.split(".")[0]: files.content_hash(path) for path in (raw / "labelsTr").iterdir()}
    files.write_csv(raw / TABLE, ["case", "sha256"], [{"case": k, "sha256": v} for k, v in hashes.items()])
    with pytest.raises(UsageError, match="no draft in it was changed"):
        apply(raw, raw / "labelsTr")
    image, array = moved(raw)
    sitk.WriteImage(image, str(map_of(raw)))
    assert apply(raw, raw / "labelsTr").maps == (NAME,)
    assert [row["case"] for row in files.read_csv(raw / TABLE)] == ["phantom_001"]
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(map_of(raw)))), array)


def test_nothing_is_taken_when_one_file_is_faulty(raw, back):
    image, _ = moved(raw)
    sitk.WriteImage(image, str(back / f"{NAME}.nii.gz"))
    (back / "phantom_001.mrk.json").write_text("{}")
    before = files.content_hash(map_of(raw))
    with pytest.raises(DatasetError, match="no list of points"):
        apply(raw, back)
    assert files.content_hash(map_of(raw)) == before
    assert set(files.read_json(raw / FORMS)) == {NAME, "phantom_001"}


def written(back, name, value=1):
    image = sitk.GetImageFromArray(np.full((3, 3, 3), value, np.uint8))
    sitk.WriteImage(image, str(back / name))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("phantom_009.nii.gz", 20, "no case is called 'phantom_009'"),
        (f"{NAME}.nii.gz", 100, "value 100 stands for no vertebra"),
        (f"{NAME}.nii.gz", 20, "its voxels are not those of the image"),
    ],
)
def test_a_file_that_is_not_a_correction_is_refused(raw, back, name, value, told):
    written(back, name, value)
    with pytest.raises(DatasetError, match=told):
        apply(raw, back)


def test_two_files_of_a_case_are_refused(raw, back):
    written(back, f"{NAME}.nii.gz")
    written(back, f"{NAME}.nrrd")
    with pytest.raises(DatasetError, match="Keep one of them"):
        apply(raw, back)


@pytest.mark.parametrize("label", ["disc", "L1"])
def test_points_that_name_no_vertebra_or_one_twice_are_refused(raw, back, label):
    level = files.read_csv(raw / "vertebraeTr.csv")[0]["vertebra"]
    labels = [label] if label == "disc" else [level, level]
    points = [{"label": one, "position": [0, 0, 0]} for one in labels]
    (back / f"{NAME}.mrk.json").write_text(json.dumps({"markups": [{"controlPoints": points}]}))
    with pytest.raises(DatasetError, match=r"is no vertebra|twice"):
        apply(raw, back)


def test_an_empty_folder_is_refused_with_what_is_looked_for(raw, back):
    with pytest.raises(UsageError, match=r"no file of a case \(.*\.mrk\.json"):
        apply(raw, back)


def grid(shape, origin=(0.0, 0.0, 0.0), spacing=(4.0, 1.0, 2.0), direction=OBLIQUE):
    return Geometry(shape=shape, spacing_mm=spacing, origin_lps=origin, direction=direction)


def test_a_part_of_an_oblique_grid_is_laid_where_it_lies(tmp_path):
    image = grid((5, 6, 7))
    part = grid((2, 3, 2), tuple(image.to_world(np.array([1, 2, 4]))))
    drawn = np.arange(12, dtype=np.int16).reshape(2, 3, 2)
    expected = np.zeros((5, 6, 7), np.int16)
    expected[1:3, 2:5, 4:6] = drawn
    assert np.array_equal(on_grid(drawn, part, image, tmp_path), expected)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (grid((2, 2, 2), (0.4, 0.0, 0.0)), "not those of the image"),
        (grid((2, 2, 2), spacing=(4.0, 1.0, 1.0)), "not those of the image"),
        (grid((5, 6, 9)), "reaches beyond the image"),
    ],
)
def test_other_voxels_than_those_of_the_image_are_refused(part, told, tmp_path):
    with pytest.raises(DatasetError, match=told):
        on_grid(np.ones(part.shape, np.int16), part, grid((5, 6, 7)), tmp_path)
