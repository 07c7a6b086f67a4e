"""Headers of NRRD and MetaImage files that miss what places the voxels, or contradict themselves.

The image library fills in and ignores without a word.
"""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import tiny_dataset as tiny

from spinecls.io.dataset import check_dataset
from spinecls.io.findings import CodedFault
from spinecls.io.images import read_header, read_image, read_label_map

X = tiny.voxels(0)
ROWS = "space directions: (0,1,0) (0,0,-1) (-4,0,0)\nspace origin: (10,20,30)\n"
MATRIX = "TransformMatrix = 0 1 0 0 0 -1 -1 0 0\nOffset = 10 20 30\n"
EDGES = "ElementSpacing = 1 1 4\n"
SEGMENTS = "".join(
    f"Segment{n}_ID:=s{n}\nSegment{n}_Name:={name}\nSegment{n}_LabelValue:={value}\nSegment{n}_Layer:=%s\n"
    for n, (name, value) in enumerate(tiny.LEVELS.items())
)


def nrrd(path, fields, array=X, kind="short"):
    sizes = " ".join(str(n) for n in array.shape[::-1])
    text = f"NRRD0004\ntype: {kind}\ndimension: {array.ndim}\nsizes: {sizes}\nendian: little\nencoding: raw\n{fields}\n"
    path.write_bytes(text.encode() + array.astype({"short": "<i2", "uchar": "u1"}[kind]).tobytes())
    return path


def mha(path, fields):
    text = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    text += f"{fields}DimSize = 56 60 6\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(text.encode() + X.astype("<i2").tobytes())
    return path


def refusal(path) -> CodedFault:
    with pytest.raises(CodedFault) as caught:
        read_image([path])
    return caught.value


@pytest.mark.parametrize("space", ["left-posterior-superior", "LPS"])
def test_nrrd_lies_as_its_lps_space_says(tmp_path, space):
    source, notes = read_header(nrrd(tmp_path / "a.nrrd", f"space: {space}\n{ROWS}"))
    assert (source.orientation, source.origin_lps, notes) == ("PIR", (10, 20, 30), ())


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS"])
def test_nrrd_in_ras_is_turned_to_lps(tmp_path, space):
    source, notes = read_header(nrrd(tmp_path / "a.nrrd", f"space: {space}\n{ROWS}"))
    assert (source.orientation, source.origin_lps, notes) == ("AIL", (-10, -20, 30), ())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("spacings: 1 1 4\n", "names no directions of its axes"),
        ("", "names no directions of its axes"),
        (f"space dimension: 3\n{ROWS}", "names no space and does not say where left and front are"),
        (f"space: scanner-xyz\n{ROWS}", "'scanner-xyz', which does not say where left"),
        (f"space: 3D-right-handed\n{ROWS}", "'3D-right-handed', which does not say"),
    ],
)
def test_nrrd_of_unknown_orientation_is_told(tmp_path, fields, words):
    assert words in dict(read_header(nrrd(tmp_path / "a.nrrd", fields))[1])["W407"]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ("space: RAS\n", "E405", "its directions read 'nothing'"),
        ("space: RAS\nspace directions: none (0,0,-1) (-4,0,0)\n", "E405", "read 'none (0,0,-1) (-4,0,0)'"),
        ("space: LPS\nspace directions: (0,1,0) (0,0.2,-1) (-4,0,0)\n", "E405", "sheared by 11 degrees"),
        (f'space: LPS\nspace units: "m" "m" "m"\n{ROWS}', "E418", "gives its lengths in 'm'"),
        (f'space: LPS\nspace units: "um" "um" "um"\n{ROWS}', "E418", "gives its lengths in 'um'"),
    ],
)
def test_nrrd_that_cannot_be_placed_is_refused(tmp_path, fields, code, words):
    fault = refusal(nrrd(tmp_path / "a.nrrd", fields))
    assert fault.code == code
    assert words in fault.detail


def test_nrrd_in_metres_can_be_written_in_millimetres_by_the_line_in_the_message(tmp_path):
    metres = 'space: LPS\nspace units: "m" "m" "m"\nspace directions: (0,.001,0) (0,0,-.001) (-.004,0,0)\n'
    path = nrrd(tmp_path / "a.nrrd", metres + "space origin: (.01,.02,.03)\n")
    (line,) = re.findall(r'python -c "(.*?)"', refusal(path).detail)
    subprocess.run([sys.executable, "-c", line], check=True)
    geometry = read_image([path]).geometry
    assert geometry.spacing_mm == pytest.approx((4, 1, 1))
    assert geometry.origin_lps == pytest.approx((10, 20, 30))


@pytest.mark.parametrize(
    ("kinds", "words"),
    [("RGB-color domain domain domain", "a colour image"), ("vector domain domain domain", "colours or vectors")],
)
def test_nrrd_of_several_numbers_a_voxel_is_called_what_it_is(tmp_path, kinds, words):
    rows = ROWS.replace("directions: ", "directions: none ")
    fault = refusal(nrrd(tmp_path / "a.nrrd", f"space: LPS\nkinds: {kinds}\n{rows}", np.stack([X] * 3, axis=-1)))
    assert fault.code == "E403"
    assert words in fault.detail


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        (EDGES, "W407", "no TransformMatrix"),
        # To the back from the front, to the feet from the head, to the right from the left: A, S, L.
        (f"{MATRIX}{EDGES}AnatomicalOrientation = RAI\n", "W423", "says RAI, the TransformMatrix ASL"),
        (f"{MATRIX}{EDGES}ElementSize = 2 2 4\n", "W423", "ElementSpacing says 1 x 1 x 4 mm, ElementSize 2 x 2 x 4 mm"),
    ],
)
def test_meta_image_that_misses_or_contradicts_is_told(tmp_path, fields, code, words):
    assert words in dict(read_header(mha(tmp_path / "a.mha", fields))[1])[code]


@pytest.mark.parametrize(
    "more", ["", "AnatomicalOrientation = ASL\n", "AnatomicalOrientation = ???\n", "ElementSize = 1 1 4\n"]
)
def test_meta_image_that_agrees_has_no_note(tmp_path, more):
    source, notes = read_header(mha(tmp_path / "a.mha", f"{MATRIX}{EDGES}{more}"))
    assert (source.orientation, source.origin_lps, notes) == ("PIR", (10, 20, 30), ())


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        (MATRIX, "E404", "no ElementSpacing"),
        (MATRIX.replace("0 1 0", "0 2 0") + EDGES, "E405", "lengths 2 x 1 x 1"),
        (MATRIX.replace("0 0 -1", "0 0.2 -1", 1) + EDGES, "E405", "expected 1"),
        (f"{MATRIX}{EDGES}DistanceUnits = um\n", "E418", "gives its lengths in 'um'"),
    ],
)
def test_meta_image_that_cannot_be_placed_is_refused(tmp_path, fields, code, words):
    fault = refusal(mha(tmp_path / "a.mha", fields))
    assert fault.code == code
    assert words in fault.detail


def segmentation(path):
    return nrrd(path, f"space: LPS\n{ROWS}{SEGMENTS % (0, 0, 0)}", tiny.vertebra_map(), "uchar")


def test_slicer_segmentation_is_no_scan(tmp_path):
    fault = refusal(segmentation(tmp_path / "a.seg.nrrd"))
    assert fault.code == "E307"
    assert "segmentation of 3D Slicer with 3 segments (L1 = 20, L2 = 21, L3 = 22). " in fault.detail
    assert "choose Export to labelmap" in fault.detail


def test_slicer_segmentation_of_one_layer_is_a_map(tmp_path):
    array, _ = read_label_map(segmentation(tmp_path / "a.nrrd"))
    assert np.array_equal(array, tiny.vertebra_map())


def test_slicer_segmentation_in_layers_is_refused_as_a_map(tmp_path):
    rows = f"space: LPS\nkinds: list domain domain domain\n{ROWS.replace('directions: ', 'directions: none ')}"
    path = nrrd(tmp_path / "a.nrrd", rows + SEGMENTS % (0, 1, 0), np.zeros((*tiny.SHAPE, 2)), "uchar")
    with pytest.raises(CodedFault, match=r"E307.* in 2 layers"):
        read_label_map(path)


def test_slicer_segmentation_among_the_maps_is_told_what_it_is(tmp_path):
    folder = tmp_path / "Dataset001_Tiny"
    tiny.write_good(folder)
    segmentation(folder / "labelsTr/a1.seg.nrrd")
    told = [f.text for f in check_dataset(folder, verify_voxels=False).findings if f.code == "E207"]
    assert told[0].startswith("labelsTr/a1.seg.nrrd has no image; it is a segmentation of 3D Slicer with 3 segments")
