"""Every fault that the gate knows: a good dataset is broken in one way and must be told so."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from spinecls.io.dataset import check_dataset

IMAGE = "imagesTr/a1_0000.nii.gz"
MAP = "labelsTr/a1.nii.gz"
CHANCE_MAP = "labelsTr/a1__probability.nii.gz"
CHANCES = np.float32(0.9) * (tiny.vertebra_map() > 0)
PROBABLE = {"a1": {"vertebrae": {"form": "probability"}}}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "Dataset001_Tiny"
    tiny.write_good(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "Dataset001_Tiny")


def text(name, content):
    return lambda d: (d / name).write_bytes(content)


def keys(**changes):
    return lambda d: tiny.description(d, **changes)


def rows(old, new):
    return lambda d: tiny.replace_in_table(d, old, new)


def columns(header, *lines):
    return lambda d: tiny.table(d, header, *lines)


def image(array, name=IMAGE, **grid):
    return lambda d: tiny.write(d / name, array, **grid)


def rename(old, new):
    return lambda d: (d / old).rename(d / new)


def copy(old, new):
    def act(d):
        (d / new).parent.mkdir(exist_ok=True)
        shutil.copy(d / old, d / new)

    return act


def field(form, position, *values, name=IMAGE):
    return lambda d: tiny.header_field(d / name, form, position, *values)


def both(*actions):
    def act(d):
        for action in actions:
            action(d)

    return act


def cut(name, share):
    def act(d):
        content = (d / name).read_bytes()
        (d / name).write_bytes(content[: int(len(content) * share)])

    return act


def changed(name, function):
    """Apply `function` to the voxels of a file."""

    def act(d):
        read = sitk.ReadImage(str(d / name))
        written = sitk.GetImageFromArray(function(sitk.GetArrayFromImage(read)))
        written.CopyInformation(read)
        sitk.WriteImage(written, str(d / name))

    return act


def put(index, value):
    def function(array):
        array = array.copy()
        array[index] = value
        return array

    return function


def damaged(d):
    content = bytearray((d / IMAGE).read_bytes())
    content[-6] ^= 1  # a bit of the check sum
    (d / IMAGE).write_bytes(bytes(content))


def forms(content):
    return lambda d: (d / "annotationsTr.json").write_text(json.dumps(content))


V = tiny.vertebra_map()
X = tiny.voxels(0)
POINTS = "case,patient,vertebra,class,x_mm,y_mm,z_mm"
BOXES = "case,patient,vertebra,class,x_min_mm,y_min_mm,z_min_mm,x_max_mm,y_max_mm,z_max_mm"
# The centre of the grid: 2.5 slices of 4 mm to the right, 29.5 mm to the feet, 27.5 mm to the back of (10, 20, 30).
CENTRE = "0,47.5,0.5"

DESCRIPTION_FAULTS = [
    ("no dataset.json", lambda d: (d / "dataset.json").unlink(), "E101", "has no dataset.json"),
    ("trailing comma", text("dataset.json", b'{"classes": {},\n}'), "E101", "line 2 column 1"),
    ("not a number in JSON", text("dataset.json", b'{"classes": NaN}'), "E101", "NaN is not allowed"),
    ("UTF-16", text("dataset.json", "{}".encode("utf-16")), "E101", "not UTF-8"),
    ("list instead of object", text("dataset.json", b"[1]"), "E101", "expected an object"),
    ("misspelt key", keys(chanel_names={"0": "T2"}, channel_names=None), "E102", "Did you mean 'channel_names'?"),
    ("foreign key", keys(labels={"a": 1}), "W102", "'labels' has no meaning"),
    (
        "labels as in nnU-Net",
        keys(labels={"background": 0, "L1": 1, "L2": 2}, vertebrae=None),
        "E102",
        "stand under 'vertebrae'. Rename the key",
    ),
    ("missing key", keys(file_ending=None), "E103", "'file_ending' is missing"),
    ("missing classes", keys(classes=None), "E103", "Write {} when nothing"),
    ("channels not from 0", keys(channel_names={"1": "T2"}), "E104", "expected the keys 0"),
    ("channels a list", keys(channel_names=["T2"]), "E104", 'such as {"0": "T2"}'),
    ("flag a word", keys(class_order="yes"), "E104", "expected true or false"),
    ("unsupported ending", keys(file_ending=".png"), "E104", "expected one of .nii.gz"),
    ("ignore label 0", keys(ignore_label=0), "E104", "expected a whole number from 1"),
    ("huge number", keys(numTraining=10**30), "E104", "expected a whole number from 0"),
    ("name a number", keys(name=5), "E104", "expected text"),
    ("one class", keys(classes={"normal": 0}), "E105", "expected two or more"),
    ("gap in indices", keys(classes={"normal": 0, "fracture": 2}), "E105", "expected 0 to 1"),
    ("index a float", keys(classes={"normal": 0, "fracture": 1.5}), "E105", "the indices are [0, 1.5]"),
    ("twin classes", keys(classes={"Normal": 0, "normal ": 1}), "E105", "differ only in spaces or capitals"),
    ("class named 1", keys(classes={"normal": 0, "1": 1}), "E105", "is empty, a number or contains"),
    ("classes a list", keys(classes=["a", "b"]), "E105", "expected an object"),
    ("no vertebra", keys(vertebrae={"L9": 20}), "E106", "'L9' is no vertebra"),
    ("code twice", keys(vertebrae={"L1": 20, "L2": 20}), "E106", "L1 and L2 have the same code 20"),
    ("level twice", keys(vertebrae={"L1": 20, "LWK1": 21}), "E106", "L1 is given twice"),
    ("negative code", keys(vertebrae={"L1": -1}), "E106", "expected a whole number from 1"),
    ("code is ignore label", keys(structures={"disc": 255}), "E106", "which is the ignore_label"),
    ("structures not named", keys(structures=None), "E106", "names no structures"),
    ("lesion of no structure", keys(lesion_structures={"spot": "fracture"}), "E107", "'spot' is not in structures"),
    ("lesion of no class", keys(lesion_structures={"disc": "tumour"}), "E107", "'tumour', which is not in classes"),
    ("first nnU-Net", keys(modality={"0": "MR"}, channel_names=None), "E108", "Rename it to 'channel_names'"),
    ("wrong count", keys(numTraining=40), "W109", "is 40, found 5 cases"),
]

NAMING_FAULTS = [
    ("images elsewhere", rename("imagesTr", "images"), "E110", "5 images lie in images"),
    (
        "nothing annotated",
        both(
            lambda d: shutil.rmtree(d / "labelsTr"),
            lambda d: shutil.rmtree(d / "structuresTr"),
            lambda d: (d / "vertebraeTr.csv").unlink(),
            keys(classes={}),
        ),
        "E111",
        "Add labelsTr",
    ),
    ("space", rename(IMAGE, "imagesTr/a 1_0000.nii.gz"), "E201", "contains ' ' (space)"),
    ("umlaut", rename(IMAGE, "imagesTr/ä1_0000.nii.gz"), "E201", "latin small letter a with diaeresis"),
    ("leading dash", rename(IMAGE, "imagesTr/-a1_0000.nii.gz"), "E201", "must start with a letter or digit"),
    ("reserved", rename(IMAGE, "imagesTr/con_0000.nii.gz"), "E201", "Windows reserves"),
    ("channel missing", keys(channel_names={"0": "T1", "1": "T2"}), "E202", "needs _0001; a1_0000.nii.gz is there"),
    ("channel too many", copy(IMAGE, "imagesTr/a1_0001.nii.gz"), "E203", "is channel 1, but dataset.json names 1"),
    ("same channel twice", copy(IMAGE, "imagesTr/a1.nii.gz"), "E204", "a1.nii.gz and a1_0000.nii.gz are the same"),
    ("map twice", copy(MAP, "labelsTr/a1.nii"), "E204", "labelsTr has a1.nii and a1.nii.gz"),
    ("in both folders", copy(IMAGE, "imagesUn/a1_0000.nii.gz"), "E204", "imagesTr and imagesUn"),
    ("twins", copy(IMAGE, "imagesTr/A1_0000.nii.gz"), "E205", "'A1' and 'a1' are one name"),
    ("other ending", keys(file_ending=".nrrd"), "E206", "holds 5 .nii.gz; dataset.json says file_ending '.nrrd'"),
    ("map without image", copy(MAP, "labelsTr/b9.nii.gz"), "E207", "labelsTr/b9.nii.gz has no image"),
    ("map with channel", rename(MAP, "labelsTr/a1_0000.nii.gz"), "E207", "rename it to a1"),
    ("structures without image", copy(MAP, "structuresTr/b9.nii.gz"), "E207", "structuresTr/b9.nii.gz has no image"),
    ("no suffix", rename(IMAGE, "imagesTr/a1.nii.gz"), "W208", "1 images without _0000, such as a1"),
    ("hidden", copy(IMAGE, "imagesTr/._a1_0000.nii.gz"), "W209", "1 hidden files ignored, such as ._a1"),
    ("picture", text("imagesTr/a1.png", b"\x89PNG"), "E306", "a1.png is a flat picture, not a volume."),
    ("loose DICOM", text("imagesTr/a1.dcm", b"\0" * 128 + b"DICM"), "E306", "with one DICOM series"),
    ("notes", text("imagesTr/notes.txt", b"hello"), "W306", "is no image and ignored"),
]

FILE_FAULTS = [
    ("dangling link", both(lambda d: (d / IMAGE).unlink(), lambda d: (d / IMAGE).symlink_to("gone")), "E301", "link"),
    ("folder as image", both(lambda d: (d / IMAGE).unlink(), lambda d: (d / IMAGE).mkdir()), "E301", "is a folder"),
    ("folder as map", lambda d: (d / "labelsTr/a9").mkdir(), "E301", "expected a map file"),
    ("zero bytes", text(IMAGE, b""), "E301", "zero bytes"),
    ("truncated", cut(IMAGE, 0.5), "E302", "of the voxels are in the file"),
    ("truncated map", cut(MAP, 0.5), "E302", "the compressed data stop"),
    ("truncated in the header", text(IMAGE, gzip.compress(b"\x5c\1\0\0" + b"\0" * 50)), "E302", "only 54 bytes"),
    ("bad check sum", damaged, "E303", "CRC check failed"),
    ("pointer", text(IMAGE, b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "E304", "Git LFS pointer"),
    ("annex", text(IMAGE, b"../.git/annex/objects/aa"), "E304", "git-annex pointer"),
    ("web page", text(IMAGE, b"<!DOCTYPE html><html>"), "E304", "saved web page"),
    ("other content", text(IMAGE, b"spine" * 200), "E304", "not a NIfTI file"),
    (
        "not compressed",
        lambda d: (d / IMAGE).write_bytes(gzip.decompress((d / IMAGE).read_bytes())),
        "W305",
        "named .nii.gz but is not compressed",
    ),
    ("wrongly named", both(copy(IMAGE, "imagesTr/a6_0000.nii")), "E305", "Rename it to .nii.gz"),
    ("header of a pair", field("4s", 344, b"ni1\0"), "E306", ".hdr/.img pair"),
]

HEADER_FAULTS = [
    ("zero side", field("<h", 42, 0), "E401", "expected sides of 1 to 4096"),
    ("bomb", field("<4h", 40, 3, 4000, 4000, 4000), "E401", "at most 500000000"),
    ("no dimension", field("<h", 40, 0), "E401", "says 0 dimensions"),
    ("flat", image(X[0], spacing=(1, 1), origin=(0, 0), direction=(1, 0, 0, 1)), "E402", "a flat image of 56 x 60"),
    ("four dimensions", field("<5h", 40, 4, 56, 60, 3, 2), "E402", "2 volumes"),
    ("colours", field("<2h", 70, 128, 24), "E403", "RGB colour"),
    ("vectors", image(np.zeros((*tiny.SHAPE, 3), np.uint8)), "E403", "a colour image (3 values a voxel)"),
    ("complex", field("<2h", 70, 32, 64), "E403", "are complex"),
    ("no spacing", field("<f", 80, float("nan")), "E404", "nan x 1 x 4 mm"),
    ("negative spacing", field("<f", 84, -1.0), "E404", "expected numbers above 0"),
    ("zero column", both(field("<f", 280, 0.0), field("<f", 296, 0.0), field("<f", 312, 0.0)), "E405", "zero or not"),
    ("sheared", field("<f", 300, 0.3), "E405", "sheared"),
    ("huge spacing", image(X, spacing=(1, 1, 40.0)), "W406", "spacing of 40 x 1 x 1 mm"),
    ("small field", image(X, spacing=(0.5, 0.5, 4)), "W406", "covers 30 mm head-feet and 28 mm"),
    ("giant", image(X, spacing=(40, 40, 400)), "E406", "mm, more than a person"),
    ("no orientation", field("<2h", 252, 0, 0), "W407", "neither sform nor qform"),
    ("few slices", image(X[:4]), "W408", "has 4 sagittal slices"),
    ("axial", image(X, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)), "W409", "thick slices along head-feet"),
    ("map of other size", image(V[:, :50], MAP), "E410", "has 6 x 50 x 56 voxels instead of 6 x 60 x 56"),
    ("map of other spacing", image(V, MAP, spacing=(1, 1, 4.4)), "E411", "spacing of 4.4 x 1 x 1 mm instead of 4"),
    ("map shifted", image(V, MAP, origin=(12.2, 20, 30)), "E412", "is shifted by 2.20 mm (+2.20, +0.00, +0.00"),
    ("structures shifted", image(V, "structuresTr/a1.nii.gz", origin=(10, 20, 31)), "E412", "structuresTr/a1.nii.gz"),
    (
        "map turned",
        image(V, MAP, direction=(0, 0, -1, np.cos(0.1), np.sin(0.1), 0, np.sin(0.1), -np.cos(0.1), 0)),
        "E413",
        "is turned by about",
    ),
    ("contradicting matrices", field("<f", 292, 60.0), "E415", "qform (code 1) and sform (code 1) place a voxel up to"),
    (
        "other axes",
        image(X.transpose(2, 1, 0), spacing=(4, 1, 1), direction=(-1, 0, 0, 0, 0, 1, 0, -1, 0)),
        "W416",
        "4 PIR, 1 RIP",
    ),
]

VOXEL_FAULTS = [
    ("not finite", changed(IMAGE, lambda a: put((0, 0, 0), np.nan)(a.astype(np.float32))), "E501", "1 of 20160 voxels"),
    ("constant", changed(IMAGE, lambda a: a * 0 + 7), "E502", "the value 7 everywhere"),
    ("mostly zero", changed(IMAGE, lambda a: put(np.s_[:, 2:], 0)(a)), "W503", "97% of the voxels"),
    ("tomography", changed(IMAGE, lambda a: a - 1024), "W504", "computed tomography"),
    (
        "two patients, one image",
        copy(IMAGE, "imagesTr/a2_0000.nii.gz"),
        "E505",
        "same voxels as a1, but another patient",
    ),
    (
        "one patient, one image",
        both(copy(IMAGE, "imagesTr/a2_0000.nii.gz"), rows(",p1,", ",p0,")),
        "W506",
        "same voxels as a1",
    ),
    ("extreme", changed(IMAGE, lambda a: put((3, 3, 3), 1e30)(a.astype(np.float32))), "W507", "1e+30"),
    ("clipped", changed(IMAGE, lambda a: np.minimum(a, 600)), "W508", "have the largest value 600"),
]

LABEL_FAULTS = [
    ("interpolated", changed(MAP, lambda a: put((0, 0, 0), 0.37)(a.astype(np.float32))), "E601", "0.37"),
    ("negative", changed(MAP, lambda a: put((0, 0, 0), -5)(a.astype(np.int16))), "E602", "down to -5"),
    ("too large", changed(MAP, lambda a: put((0, 0, 0), 40000)(a.astype(np.uint16))), "E612", "up to 40000"),
    ("unknown code", changed(MAP, put((0, 1, 2), 99)), "E603", "1 voxels of 99 (first at canonical index (0, 1, 2))"),
    ("usual code not named", changed(MAP, put((0, 1, 2), 23)), "E603", "By the usual codes 23 is L4"),
    ("mask of 0 and 1", changed(MAP, lambda a: (a > 0).astype(np.uint8)), "E603", "does not tell the vertebrae apart"),
    (
        "another image as map",
        copy("imagesTr/a2_0000.nii.gz", MAP),
        "E603",
        "values that dataset.json does not name, from 1",
    ),
    ("unknown structure", changed("structuresTr/a1.nii.gz", put((0, 0, 0), 9)), "E603", "it names disc 1"),
    ("empty map", changed(MAP, lambda a: a * 0), "E604", "shows no vertebra"),
    ("upside down", changed(MAP, lambda a: a[:, ::-1].copy()), "E605", "L3 lies 36 mm above L1"),
    ("two exchanged", changed(MAP, lambda a: np.where(a > 20, 43 - a, a)), "E606", "L3 lies 18 mm above L2"),
    (
        "gap",
        both(changed(MAP, lambda a: np.where(a == 21, 0, a)), rows("a1,p0,L2,fracture\n", "")),
        "W607",
        "L2 missing between L1 and L3",
    ),
    # From the last row of L3 (51) to row 59 are 8 mm, from its last column (31) to column 50 are 19 mm: 20.6 mm.
    ("far part", changed(MAP, put((1, 59, 50), 22)), "W608", "L3 has 2 parts, one of 1 voxels 2.1 cm"),
    ("tiny", changed(MAP, lambda a: put((2, 45, 25), 22)(np.where(a == 22, 0, a))), "W609", "L3 has 1 voxels (4 mm3)"),
    ("one slice", changed(MAP, lambda a: put(np.s_[2:], 0)(a)), "W609", "L1 is drawn in a single slice"),
    (
        "readers differ",
        both(rename(MAP, "labelsTr/a1__x.nii.gz"), image(np.where(V == 22, 0, V), "labelsTr/a1__y.nii.gz")),
        "W610",
        "x: L1, L2, L3; y: L1, L2",
    ),
    ("image as map", copy(MAP, IMAGE), "E611", "holds the image itself"),
]

TABLE_FAULTS = [
    ("no table", lambda d: (d / "vertebraeTr.csv").unlink(), "E701", "vertebraeTr.csv is missing"),
    ("Latin-1", text("vertebraeTr.csv", "case,vertebra,class\nä,L1,0".encode("latin-1")), "E701", "not UTF-8"),
    ("too many cells", rows("a1,p0,L1,normal", "a1,p0,L1,normal,extra"), "E701", "line 2 has 5 cells, the header 4"),
    ("no vertebra column", columns("case,class", "a1,normal"), "E702", "one row a vertebra, not one a case"),
    ("no class column", columns("case,vertebra", "a1,L1"), "E702", "'class' is missing"),
    ("misspelt column", rows("patient", "pateint"), "E703", "Did you mean 'patient'?"),
    ("column twice", columns("case,vertebra,class,class", "a1,L1,0,0"), "E703", "'class' 2 times"),
    ("foreign column", rows("patient,", "colour,"), "W703", "'colour' has no meaning"),
    ("no such vertebra", rows("a1,p0,L1", "a1,p0,X1"), "E704", "'X1' is no vertebra"),
    ("level not declared", rows("a1,p0,L1", "a1,p0,T5"), "E704", "T5 is not among the vertebrae of dataset.json"),
    ("unknown class", rows("a1,p0,L1,normal", "a1,p0,L1,fractur"), "E705", "Did you mean 'fracture'?"),
    ("index too large", rows("a1,p0,L1,normal", "a1,p0,L1,2"), "E705", "'2' is unknown. Known: 0 normal, 1 fracture"),
    ("half a class", rows("a1,p0,L1,normal", "a1,p0,L1,0.5"), "E705", "'0.5' is unknown"),
    ("class without classes", keys(classes={}), "E705", "declares no classes"),
    ("no case", rows("a1,p0,L1", ",p0,L1"), "E706", "line 2 names no case"),
    ("case without image", rows("a1,p0,L1", "zz,p0,L1"), "E707", "the case has no image"),
    ("not a number", columns(POINTS, "a1,p0,L1,0,1,2,three"), "E708", "z_mm is 'three'"),
    ("infinite", columns(POINTS, "a1,p0,L1,0,1,2,inf"), "E708", "z_mm is 'inf'"),
    ("confidence 80", columns("case,vertebra,class,confidence", "a1,L1,0,80"), "E709", "confidence is 80"),
    (
        "reader contradicts",
        columns("case,vertebra,class,reader", "a1,L1,0,x", "a1,L1,1,x"),
        "E710",
        "reader 'x' says normal in line 2 and fracture in line 3",
    ),
    (
        "not in map",
        changed(MAP, lambda a: np.where(a == 22, 0, a)),
        "E711",
        "L3 is in the table, but the map has L1, L2",
    ),
    ("two patients", rows("a1,p0,L2", "a1,p9,L2"), "E712", "patient is 'p9', earlier 'p0'"),
    ("two sites", columns("case,vertebra,class,site", "a1,L1,0,A", "a1,L2,0,B"), "E712", "site is 'B', earlier 'A'"),
    ("half a point", columns(POINTS, "a1,p0,L1,0,1,,3"), "E713", "the point lacks y_mm"),
    ("reversed box", columns(BOXES, "a1,p0,L1,0,0,0,0,-1,1,1"), "E713", "a minimum lies below its maximum"),
    ("point outside", columns(POINTS, "a1,p0,L1,0,500,0,0"), "E714", "(500.0, 0.0, 0.0) lies outside the image"),
    ("box outside", columns(BOXES, "a1,p0,L1,0,500,0,0,510,1,1"), "E714", "box centre (505.0, 0.5, 0.5) lies outside"),
    ("positions apart", columns(POINTS, "a1,p0,L1,0,0,30,0", "a1,p0,L1,0,0,70,0"), "E715", "about 40 mm apart"),
    (
        "positions near",
        columns(POINTS, "a1,p0,L1,0,0,30,0", "a1,p0,L1,0,0,40,0"),
        "W715",
        "about 10 mm apart; their mean",
    ),
    ("one class read", rows("fracture", "normal"), "E716", "only normal is ever read"),
    ("class never read", keys(classes={"normal": 0, "fracture": 1, "tumour": 2}), "W716", "'tumour' is never read"),
    ("few patients", rows("p4", "p3"), "W717", "class 'normal' has 4 patients"),
    ("no class", rows("a1,p0,L1,normal", "a1,p0,L1,"), "W718", "1 vertebrae have no class"),
    (
        "no position",
        both(lambda d: shutil.rmtree(d / "labelsTr"), lambda d: shutil.rmtree(d / "structuresTr")),
        "E719",
        "or give x_mm, y_mm, z_mm",
    ),
    ("row repeated", columns("case,vertebra,class,reader", "a1,L1,0,x", "a1,L1,0,x"), "W720", "line 3 repeats"),
    ("no patients", columns("case,vertebra,class", "a1,L1,0", "a1,L2,1"), "W721", "no column 'patient'"),
    # L1 in the map: columns 20 to 31, rows 4 to 15: 20 + 25.5 mm back, 30 - 9.5 mm up, 10 - 2.5 * 4 mm right.
    # L3 lies 36 mm below it.
    ("centre at another vertebra", columns(POINTS, "a1,p0,L1,0,0,45.5,-20"), "E722", "and 4 mm from that of L3"),
    (
        "centre off the map",
        both(changed(MAP, lambda a: np.where(a > 20, 0, a)), columns(POINTS, "a1,p0,L1,0,0,45.5,-20")),
        "W722",
        "its point lies 40 mm from its centre",
    ),
]

FORM_FAULTS = [
    ("broken forms", text("annotationsTr.json", b"{"), "E801", "not valid JSON"),
    ("forms a list", forms([]), "E801", "must hold an object"),
    ("unknown form", forms({"default": {"vertebrae": {"form": "lasso"}}}), "E802", "'lasso' is unknown"),
    ("unknown kind", forms({"default": {"discs": {"form": "mask"}}}), "E802", "'discs' is unknown"),
    ("unknown option", forms({"a1": {"vertebrae": {"form": "box", "jitter_mm": 1}}}), "E802", "it has slack_mm"),
    ("negative option", forms({"a1": {"vertebrae": {"form": "box", "slack_mm": -1}}}), "E802", "0 or more"),
    ("no tolerance", forms({"a1": {"vertebrae": {"form": "coarse"}}}), "E802", "needs tolerance_mm"),
    ("form a word", forms({"a1": {"vertebrae": "mask"}}), "E802", '{"form": "mask"}'),
    ("form of no case", forms({"a11": {}}), "E803", "Did you mean 'a1'?"),
    ("chances of structures", forms({"a1": {"structures": {"form": "probability"}}}), "E802", "is for vertebrae"),
    ("no chances", forms(PROBABLE), "E804", "labelsTr/a1__probability.nii.gz is missing"),
    ("chances not used", image(CHANCES, CHANCE_MAP), "W804", "annotationsTr.json does not say form 'probability'"),
    (
        "chances of nobody",
        both(image(CHANCES, CHANCE_MAP), forms(PROBABLE), lambda d: (d / MAP).unlink()),
        "E804",
        "does not say which vertebrae it shows",
    ),
    ("percentages", image(100 * CHANCES, CHANCE_MAP), "E613", "from 0 to 90, expected chances from 0 to 1. Divide"),
    ("logits", image(CHANCES - 2, CHANCE_MAP), "E613", "from -2 to -1.1, expected chances from 0 to 1."),
    ("no chance anywhere", image(0 * CHANCES, CHANCE_MAP), "E604", "a1__probability.nii.gz shows no vertebra"),
    ("not a number", image(np.nan * CHANCES, CHANCE_MAP), "E501", "not finite"),
    ("chances elsewhere", image(CHANCES, CHANCE_MAP, origin=(10, 25, 30)), "E412", "Resample it linearly"),
    ("chances coarser", image(CHANCES[:, ::2], CHANCE_MAP), "E410", "Resample it linearly"),
]

FAULTS = [
    *DESCRIPTION_FAULTS, *NAMING_FAULTS, *FILE_FAULTS, *HEADER_FAULTS, *VOXEL_FAULTS, *LABEL_FAULTS, *TABLE_FAULTS,
    *FORM_FAULTS,
]  # fmt: skip


@pytest.mark.parametrize(("act", "code", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_fault_is_told(folder, act, code, words):
    act(folder)
    findings = check_dataset(folder).findings
    told = [finding.text for finding in findings if finding.code == code]
    assert any(words in text for text in told), [finding.line for finding in findings]


def test_good_dataset_has_no_finding(folder):
    report = check_dataset(folder)
    assert report.findings == ()
    assert report.cases == tiny.CASES


def test_fault_of_an_image_is_not_told_again_for_its_map_and_rows(folder):
    (folder / IMAGE).write_bytes(b"")
    assert [finding.code for finding in check_dataset(folder).errors] == ["E301"]


def test_channels_on_different_grids_are_a_warning_and_apart_an_error(folder):
    tiny.description(folder, channel_names={"0": "T1", "1": "T2"})
    for number, case in enumerate(tiny.CASES):
        shift = 100.0 if case == "a5" else 0.5
        tiny.write(folder / f"imagesTr/{case}_0001.nii.gz", tiny.voxels(10 + number), origin=(10, 20 + shift, 30))
    codes = {(f.case, f.code) for f in check_dataset(folder, verify_voxels=False).findings if f.code[1:] == "414"}
    assert codes == {("a1", "W414"), ("a2", "W414"), ("a3", "W414"), ("a4", "W414"), ("a5", "E414")}
