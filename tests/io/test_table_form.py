"""Guards against tables of other programs, languages and shapes: read as meant, or refused with what to do."""

import pytest
import tiny_dataset as tiny

from spinecls.io.dataset import check_dataset, load_dataset


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    return path


def told(folder):
    return [finding.line for finding in check_dataset(folder, verify_voxels=False).findings]


def rewritten(change):
    def act(folder):
        path = folder / "vertebraeTr.csv"
        path.write_bytes(change(path.read_text()))

    return act


def renamed(header):
    return rewritten(lambda text: "\n".join([header, *text.splitlines()[1:]]).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: ("sep=;\n" + text.replace(",", ";")).encode(),
        lambda text: ("\ufeffSEP=;\r\n" + text.replace(",", ";").replace("\n", "\r\n")).encode(),
        lambda text: ("sep=|\n" + text.replace(",", "|")).encode(),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("case,patient,vertebra,class", " Case , PATIENT,Vertebra,CLASS ").encode(),
        lambda text: (text + ",,,\n\n").encode(),
    ],
)
def test_tables_of_spreadsheets_are_read(folder, change):
    rewritten(change)(folder)
    assert told(folder) == []
    assert len(load_dataset(folder, verify_voxels=False).cases[4].vertebrae[2].readings) == 1


MISSING = "'case' and 'vertebra' and 'class' are missing."
NEEDED = "Needed: case, vertebra, class."
RENAME = "Rename {0!r} to 'case', {1!r} to 'vertebra', {2!r} to 'class'. " + NEEDED
SAVE = "Open it in the spreadsheet and save it as 'CSV UTF-8'"

REFUSED = [
    (rewritten(lambda t: t.replace("p0", "M\xfcller").encode("cp1252")),
     f"E701 is not UTF-8 text: line 2, which reads 'a1,M\xfcller,L1,normal' as Windows-1252 (Excel's 'CSV'). {SAVE}."),
    (rewritten(lambda t: t.encode("utf-16")), f"E701 is UTF-16 (Excel's 'Unicode text'), not UTF-8. {SAVE}."),
    (rewritten(lambda t: t.encode("utf-16-be")), f"E701 is UTF-16 (Excel's 'Unicode text'), not UTF-8. {SAVE}."),
    (rewritten(lambda t: b"PK\x03\x04\x14\0\6\0"),
     f"E701 is a workbook (.xlsx or .ods) by its content, not CSV. {SAVE} under the name vertebraeTr.csv."),
    (rewritten(lambda t: b"\xd0\xcf\x11\xe0\xa1"),
     f"E701 is an old Excel workbook (.xls) by its content, not CSV. {SAVE} under the name vertebraeTr.csv."),
    (rewritten(lambda t: b"\n<html>"),
     f"E701 is a web page or XML by its content, not CSV. {SAVE} under the name vertebraeTr.csv."),
    (rewritten(lambda t: t.replace("a3,p2,L1", 'a3,"p2,L1').encode()),
     'E701 line 16: unexpected end of data. Is a quotation mark (") not closed?'),
    (rewritten(lambda t: b""), "E728 is empty. Write the line case,vertebra,class and one row a vertebra below it."),
    (rewritten(lambda t: b"\n ,\n"),
     "E728 is empty. Write the line case,vertebra,class and one row a vertebra below it."),
    (rewritten(lambda t: t.splitlines()[0].encode()),
     "E728 has a header and no row. Write one row a vertebra, or remove the file."),
    (rewritten(lambda t: t.partition("\n")[2].encode()),
     f"E702 has the columns a1, p0, L1, normal; {MISSING} Its first line seems to be a row. Put the line "
     "case,vertebra,class above it."),
    (renamed("Fall,Patient,Wirbel,Klasse"),
     f"E702 has the columns Fall, Patient, Wirbel, Klasse; {MISSING} {RENAME.format('Fall', 'Wirbel', 'Klasse')}"),
    (renamed("cas,patient,vert\xe8bre,classe"),
     f"E702 has the columns cas, patient, vert\xe8bre, classe; {MISSING} "
     + RENAME.format("cas", "vert\xe8bre", "classe")),
    (renamed("case,patient,level,label"), "E702 has the columns case, patient, level, label; 'vertebra' and 'class' "
     f"are missing. Rename 'level' to 'vertebra', 'label' to 'class'. {NEEDED}"),
    (rewritten(lambda t: b"case,L1,L2,L3\na1,0,1,0\n"), "E702 has the columns case, L1, L2, L3; 'vertebra' and 'class' "
     "are missing. It seems to have one row a case and a column for each vertebra (L1, L2, L3 ...). Write one row a "
     "vertebra instead, such as case,vertebra,class and then spine_01,L1,normal."),
    (rewritten(lambda t: t.replace(",", "|").encode()), f"E702 has the columns case|patient|vertebra|class; {MISSING} "
     f"The first line holds the names of the columns, parted by commas, semicolons or tabs. {NEEDED}"),
    (rewritten(lambda t: ("\n".join(f'"{line}"' for line in t.splitlines())).encode()),
     f"E702 has the columns case,patient,vertebra,class; {MISSING} Whole lines stand in quotation marks, or a line "
     f"sep= names another separator. Remove them. {NEEDED}"),
    (rewritten(lambda t: t.replace(",", ";", 3).encode()),
     "E701 line 2 parts its cells by ',', the header by ';'. Use one of them."),
    (renamed("case,patienten-id,vertebra,class"),
     "E703: column 'patienten-id' is unknown. Did you mean 'patient'? Rename or remove it."),
]  # fmt: skip


@pytest.mark.parametrize(("act", "line"), REFUSED)
def test_a_table_that_cannot_be_used_is_refused_in_one_line_with_what_to_do(folder, act, line):
    act(folder)
    lines = [found.replace("] vertebraeTr.csv", "")[1:] for found in told(folder)]
    assert [found for found in lines if found.startswith(("E70", "E728"))] == [line]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vertebraeTr.xlsx", "vertebraeTr.xlsx lies there. Open it in the spreadsheet and save it as 'CSV UTF-8'"),
        ("vertebraeTr.ods", "vertebraeTr.ods lies there."),
        ("VertebraeTr.CSV", "Is it VertebraeTr.CSV? Rename it to vertebraeTr.csv."),
        ("vertebraeTr.csv.csv", "Is it vertebraeTr.csv.csv? Rename it"),
        ("vertebrae.csv", "Is it vertebrae.csv? Rename it"),
        ("vertebraeTr.tsv", "vertebraeTr.tsv lies there."),
        ("notes.txt", "Write case,vertebra,class there."),
    ],
)
def test_a_table_under_another_name_is_found(folder, name, words):
    (folder / "vertebraeTr.csv").rename(folder / name)
    assert words in next(line for line in told(folder) if "[E701]" in line)


def test_a_header_alone_is_a_warning_where_there_are_no_classes(folder):
    tiny.description(folder, classes={})
    tiny.table(folder, "case,vertebra")
    assert next(line for line in told(folder) if "728" in line).startswith("[W728]")


def test_a_foreign_name_of_an_optional_column_is_told(folder):
    renamed("case,patient,vertebra,class,zentrum")(folder)
    assert told(folder) == [
        "[W703] vertebraeTr.csv: column 'zentrum' has no meaning here and is ignored; rename it if 'site' is meant"
    ]


def test_numbers_of_a_table_may_be_missing_as_classes_may(folder):
    tiny.table(folder, "case,vertebra,class,confidence,x_mm,y_mm,z_mm", "a1,L1,0,None,<NA>,#N/A,-", "a1,L2,1,NaN,,,")
    assert [line for line in told(folder) if line.startswith("[E7")] == []
