"""Guards against persons, sites, readers and cases that a table spells in several ways, and against copied rows."""

import pytest
import tiny_dataset as tiny

from spinecls.io.dataset import check_dataset, load_dataset
from spinecls.io.table_twins import twin_groups


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    return path


def lines(folder, code):
    return [finding.line for finding in check_dataset(folder, verify_voxels=False).findings if finding.code == code]


@pytest.mark.parametrize(
    "spellings",
    [
        ("007", "7", "7.0", "7,0"),
        ("P01", "P 01", "p01", "p1", "P-01", "P_1", "p.01"),
        ("P1", "\N{CYRILLIC CAPITAL LETTER ER}1"),
        ("Anna", "\N{FULLWIDTH LATIN CAPITAL LETTER A}nna", "anna\N{ZERO WIDTH SPACE}", "An\N{NO-BREAK SPACE}na"),
        ("J\N{LATIN SMALL LETTER U WITH DIAERESIS}rg", "Ju\N{COMBINING DIAERESIS}rg"),
    ],
)
def test_spellings_of_one_name_are_a_group(spellings):
    assert twin_groups(spellings) == [sorted(spellings)]


@pytest.mark.parametrize("values", [("P1", "P10"), ("1-1", "11"), ("2.5", "25"), ("1.10", "11"), ("x", "x")])
def test_other_names_are_no_group(values):
    assert twin_groups(values) == []


@pytest.mark.parametrize(("column", "end"), [("patient", "; folds may part the scans"), ("site", ""), ("reader", "")])
def test_spellings_are_told_with_what_to_write(folder, column, end):
    rows = [f"{case},L{i},{i % 2},{name}" for case, name in zip(tiny.CASES, ("007", "7", "7.0", "x", "y"), strict=True)
            for i in (1, 2)]  # fmt: skip
    tiny.table(folder, f"case,vertebra,class,{column}", *rows)
    text = f"[W727] vertebraeTr.csv: '007', '7', '7.0' look like one {column} and are taken as 3{end}"
    assert lines(folder, "W727") == [text + ". If they are one, write one spelling in all rows."]


@pytest.mark.parametrize("empty", ["", "nan", "None", "NA", "-"])
def test_a_patient_who_is_not_given_is_told_and_nobody_shares_the_empty_name(folder, empty):
    tiny.replace_in_table(folder, ",p0,", f",{empty},")
    tiny.replace_in_table(folder, ",p1,", f",{empty},")
    assert lines(folder, "W726")[0].startswith("[W726] vertebraeTr.csv: 2 of 5 cases have no patient (a1, a2); each is")
    assert [case.patient for case in load_dataset(folder, verify_voxels=False).cases] == ["a1", "a2", "p2", "p3", "p4"]


def test_copied_and_contradicting_rows_are_told_by_case(folder):
    rows = ["a1,L1,0", "a1,L1,0", "a1,L2,1", "a1,L2,1", "a2,L1,0", "a2,L1,1", "a3,L1,0", "a3,L2,1"]
    tiny.table(folder, "case,vertebra,class", *rows)
    end = "and count as readings of several people. Keep one of each, or name who read it in a column 'reader'."
    assert lines(folder, "W732") == [
        f"[W732] a1: L1 (lines 2, 3: normal); L2 (lines 4, 5: fracture): rows repeat each other, {end}"
    ]
    assert lines(folder, "W733") == [f"[W733] a2: L1 (lines 6, 7: normal, fracture): rows contradict each other, {end}"]


def test_rows_of_named_readers_are_no_copies(folder):
    tiny.table(folder, "case,vertebra,class,reader", "a1,L1,0,x", "a1,L1,0,y", "a1,L2,1,x", "a1,L2,0,")
    assert lines(folder, "W732") + lines(folder, "W733") == []


def test_a_row_of_nobody_that_repeats_a_named_reader_is_told(folder):
    tiny.table(folder, "case,vertebra,class,reader", "a1,L1,0,x", "a1,L2,1,x", "a1,L1,0,")
    assert lines(folder, "W732")[0].startswith("[W732] a1: L1 (lines 4, 2: normal): rows repeat each other, and count")


@pytest.mark.parametrize("spoiled", ["1E+05", '"1,2E+12"', "########", "#NAME?"])
def test_a_patient_that_a_spreadsheet_spoiled_is_told(folder, spoiled):
    tiny.replace_in_table(folder, ",p0,", f",{spoiled},")
    plain = spoiled.strip('"')
    assert lines(folder, "W737") == [
        f"[W737] vertebraeTr.csv: the patient of a1 is {plain!r}, which a spreadsheet makes of other names. Make the "
        "column one of text and fill it again."
    ]


@pytest.mark.parametrize("nobody", ["unknown", "Anonymous", "0"])
def test_several_cases_of_nobody_are_not_one_person_without_a_word(folder, nobody):
    tiny.replace_in_table(folder, ",p0,", f",{nobody},")
    assert lines(folder, "W737") == []
    tiny.replace_in_table(folder, ",p1,", f",{nobody},")
    assert lines(folder, "W737")[0].startswith(
        f"[W737] vertebraeTr.csv: the patient of a1, a2 is {nobody!r}, so that 2 cases count as one person's. Name the"
    )


@pytest.mark.parametrize("protected", ['"=""007"""', "'007"])
def test_a_number_that_was_kept_from_a_spreadsheet_is_the_number(folder, protected):
    tiny.replace_in_table(folder, ",p0,", f",{protected},")
    assert load_dataset(folder, verify_voxels=False).cases[0].patient == "007"


@pytest.mark.parametrize(
    "written", ["a1.nii.gz", "a1_0000.nii.gz", "a1_0000", "imagesTr/a1_0000.nii.gz", r"C:\data\a1.nii", "a1.mha"]
)
def test_names_of_files_are_read_as_their_cases_and_told_once(folder, written):
    tiny.replace_in_table(folder, "a1,", f"{written},")
    assert len(load_dataset(folder, verify_voxels=False).cases[0].vertebrae[0].readings) == 1
    assert lines(folder, "W729") == [
        f"[W729] vertebraeTr.csv: 1 of its cases are names of files, such as {written}, read as a1"
    ]


@pytest.mark.parametrize(("written", "hint"), [("A1", "Did you mean 'a1'?"), ("a 1", "Did you mean 'a1'?"),
                                               ("b7_0000", "Add its image"), ("a1_2024", "Add its image")])  # fmt: skip
def test_a_case_that_is_not_there_is_an_error_with_a_guess(folder, written, hint):
    tiny.replace_in_table(folder, "a1,", f"{written},")
    assert all(hint in line for line in lines(folder, "E707"))


def test_leading_zeros_that_a_spreadsheet_dropped_are_guessed(folder):
    (folder / "imagesTr/a5_0000.nii.gz").rename(folder / "imagesTr/007_0000.nii.gz")
    (folder / "labelsTr/a5.nii.gz").rename(folder / "labelsTr/007.nii.gz")
    tiny.replace_in_table(folder, "a5,", "7,")
    assert "Did you mean '007'? (Spreadsheets drop leading zeros" in lines(folder, "E707")[0]
