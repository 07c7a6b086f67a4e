"""Guards against classes that are read as other ones: a number may be an index or part of a name, a dash no class."""

import re

import pytest
import tiny_dataset as tiny

from spinecls.errors import DatasetError
from spinecls.io.class_cells import AmbiguousClass, ClassCells, UnreadableClass
from spinecls.io.dataset import check_dataset, load_dataset

GRADES_FROM_1 = ("grade 1", "grade 2", "grade 3", "grade 4")


@pytest.mark.parametrize(
    ("names", "cell"),
    [
        (GRADES_FROM_1, "1"),
        (GRADES_FROM_1, "3.0"),
        (GRADES_FROM_1, "2,0"),
        (GRADES_FROM_1, "0|1"),
        (("Pfirrmann I", "Pfirrmann II", "Pfirrmann III"), "1"),
        (("Pfirrmann1", "Pfirrmann2"), "1"),
        (("normal", "type 2", "type 3"), "2"),
        (("I", "II", "III"), "2"),
        (("grade 1", "grade 1b"), "1"),
        (("grade 2", "grade 1", "grade 0"), "2"),
        (("severe 3", "mild 1", "none 0"), "0"),
    ],
)
def test_a_number_of_two_classes_is_refused(names, cell):
    with pytest.raises(AmbiguousClass, match=r"by its index in dataset.json or .* by its name\. Write the names"):
        ClassCells(names).read(cell)


@pytest.mark.parametrize(
    ("names", "cell", "read"),
    [
        (("grade 0", "grade 1", "grade 2"), "1", "grade 1"),
        (GRADES_FROM_1, "GRADE 2", "grade 2"),
        (GRADES_FROM_1, "0", "grade 1"),
        (("normal", "Modic 1", "Modic 2"), "2", "Modic 2"),
        (("normal", "grade 1 (of 2)", "grade 2 (of 2)"), "1", "grade 1 (of 2)"),
        (("normal", "loss > 20 %", "loss > 40 %"), "2", "loss > 40 %"),
        (("none", "fracture"), "None", "none"),
        (("normal", "unknown"), "unknown", "unknown"),
        (("normal", "fracture"), "1,0", "fracture"),
    ],
)
def test_a_number_with_one_meaning_is_read(names, cell, read):
    assert ClassCells(names).read(cell) == (read,)


@pytest.mark.parametrize(
    "cell",
    ["", "NA", "n/a", "#N/A", "<NA>", "NaN", "None", "NULL", "-", "--", "?", "n.a.", "-1", "-1.0", "-1,0", "unknown"],
)
def test_a_vertebra_that_nobody_read_has_no_class(cell):
    assert ClassCells(("normal", "fracture")).read(cell) == ()


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("4", "Did you mean 'grade 4'?"),
        ("#REF!", "is an error of the spreadsheet"),
        ("-2", "is unknown"),
        ("1_0", "is unknown"),
        ("TRUE", "is unknown"),
        ("IV", "Did you mean 'grade 4'?"),
        ("1; 2", "Part several possible classes by |, such as 1|2."),
        ("grade 1;", "Did you mean 'grade 1'?"),
        ("grade 1|", "class '' is unknown"),
    ],
)
def test_what_names_no_class_is_refused(cell, words):
    with pytest.raises(UnreadableClass, match=re.escape(words)):
        ClassCells(GRADES_FROM_1).read(cell)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    return path


def _classes(folder, names, cells):
    tiny.description(folder, classes={name: index for index, name in enumerate(names)})
    rows = [f"{case},p{n},L{1 + i},{cell}" for n, case in enumerate(tiny.CASES) for i, cell in enumerate(cells)]
    tiny.table(folder, "case,patient,vertebra,class", *rows)
    return check_dataset(folder, verify_voxels=False)


def test_a_table_of_grades_from_one_is_refused_once_a_number(folder):
    told = [f.text for f in _classes(folder, ("grade 1", "grade 2", "grade 3"), "121").findings if f.code == "E731"]
    assert [text.partition(":")[0] for text in told] == [
        "vertebraeTr.csv, 10 rows, the first in line 2",
        "vertebraeTr.csv, 5 rows, the first in line 3",
    ]


@pytest.mark.parametrize(("cells", "refused"), [("121", True), ("132", True), ("012", False), ("11|22", True)])
def test_numbers_without_a_zero_are_refused(folder, cells, refused):
    cells = ["1", "1|2", "2"] if "|" in cells else cells
    codes = [finding.code for finding in _classes(folder, ("mild", "moderate", "severe"), cells).errors]
    assert ("E730" in codes) == refused


def test_names_need_no_zero(folder):
    assert _classes(folder, ("mild", "moderate", "severe"), ("severe", "moderate", "2")).errors == ()


@pytest.mark.parametrize("name", ["1", "2.5", "1e0", "", "-", "nan", "#N/A", "a|b"])
def test_a_class_is_not_called_as_a_number_or_an_empty_cell(folder, name):
    tiny.description(folder, classes={"normal": 0, name: 1})
    with pytest.raises(DatasetError, match="E105"):
        load_dataset(folder, verify_voxels=False)
