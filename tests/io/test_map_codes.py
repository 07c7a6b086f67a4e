"""Guards against names that maps do not mean: counted from 1, shifted, or codes of other tools for other structures."""

import column_dataset as column
import numpy as np
import pytest
import tiny_dataset as tiny

from spinecls.anatomy import LEVEL_CODES, parse_level
from spinecls.io.code_schemes import scheme_hint
from spinecls.io.dataset import check_dataset
from spinecls.io.name_checks import odd_step_text


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Column"
    path.mkdir()
    return path


def counted(array, from_below=False):
    codes = sorted(set(np.unique(array)) - {0}, reverse=from_below)
    changed = np.zeros_like(array)
    for number, code in enumerate(codes, start=1):
        changed[array == code] = number
    return changed


def told(folder):
    findings = check_dataset(folder, num_processes=1).findings
    return [finding.line for finding in findings if finding.case in ("", "a1")]


def test_maps_with_the_usual_codes_have_no_finding(folder):
    column.write_maps(folder, lambda a: a)
    assert told(folder) == []


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (counted, "E614", "C1 to C7 lie too far from each other, 2 times what is usual in adults. Their distances are"),
        (counted, "E614", '"vertebrae": {"T11": 1, "T12": 2, "L1": 3, "L2": 4, "L3": 5, "L4": 6, "L5": 7}'),
        (lambda a: counted(a, True), "E605", '"vertebrae": {"L5": 1, "L4": 2, "L3": 3, "L2": 4, "L1": 5, "T12": 6'),
        (lambda a: (a > 0).astype(np.uint8), "E615", "code 1 (C1) reaches over about"),
        (lambda a: (a > 0).astype(np.uint8) * 26, "E615", "code 26 (S1) reaches over about"),
        (lambda a: (a > 0).astype(np.uint8) * 255, "E604", "A mask of 0 and 255 does not tell the vertebrae apart"),
        (lambda a: np.where(a > 0, a - 12, 0), "E614", "Their distances are those of lumbar vertebrae"),
        (lambda a: np.where(a > 0, a + 1000, 0), "E603", "All codes of the map are known ones + 1000: python -c"),
        (lambda a: np.where(a > 0, a + 100, 0), "E603", "By the codes of TPTBox they would be discs"),
        (lambda a: 2 * a, "E603", "Divided by 2 all codes of the map are known ones: python -c"),
        (lambda a: np.where(a == 22, 1, 0), "W614", "C1 (code 1) is the only vertebra of the map"),
        (lambda a: np.where(a > 19, a + 1, 0), "W614", "3 of 3 cases have L6, which about one person in twenty has."),
        (lambda a: np.where(a == 26, 27, a), "E603", 'If 27 is the sacrum, write "S1": 27 under `vertebrae`.'),
        (
            lambda a: np.where(a > 0, 52 - np.where(a == 26, 25, a), 0) - (a > 0),
            "E603",
            """version 2 write "vertebrae": {"S1": 26, "L5": 27, "L4": 28, "L3": 29, "L2": 30, "L1": 31, "T12": 32}""",
        ),
        (
            lambda a: np.where(a > 0, 26 - np.where(a == 26, 25, a), 0),
            "E605",
            """by those of TotalSegmentator's vertebrae_mr write "vertebrae": {"S1": 1, "L5": 2, "L4": 3, "L3": 4, """,
        ),
        (lambda a: np.where(a > 0, a + 500, 0), "E603", "has 7 values that dataset.json does not name, from 519 to"),
    ],
)
def test_maps_of_other_numbering_are_told_with_what_to_write(folder, change, code, words):
    column.write_maps(folder, lambda a: change(a).astype(np.int16))
    assert any(line.startswith(f"[{code}]") and words in line for line in told(folder)), told(folder)


def test_a_person_without_a_level_has_no_odd_step():
    """Four steps of an adult, T12 absent: T11 and L1 are neighbours."""
    rows_mm = {"T9": 0.0, "T10": 26.0, "T11": 53.0, "L1": 82.0, "L2": 116.0}
    assert odd_step_text({level: (0.0, 0.0, -row) for level, row in rows_mm.items()}) == ""


@pytest.mark.parametrize(("share", "words"), [(2.0, "a vertebra between them bear no name?"), (0.3, "two vertebrae?")])
def test_a_step_unlike_the_others_is_told(share, words):
    rows_mm = {"T9": 0.0, "T10": 26.0, "T11": 53.0, "T12": 53.0 + 29 * share, "L1": 84 + 29 * share}
    text = odd_step_text({level: (0.0, 0.0, -row) for level, row in rows_mm.items()})
    assert text.startswith("T11 and T12 lie ")
    assert words in text


def test_two_vertebrae_under_one_code_are_told(folder):
    column.write_maps(folder, lambda a: np.where(a == 22, 21, a))
    assert "[W615] a1: L2 has two large parts, 34 mm apart from head to feet. Do two vertebrae have the code 21?" in (
        told(folder)
    )


def test_a_thoracic_column_counted_from_one_is_told_by_all_cases_together(folder, monkeypatch):
    monkeypatch.setattr(column, "PITCH_MM", 23.0)
    monkeypatch.setattr(column, "CODES", dict(zip(column.LEVELS, range(1, 8), strict=True)))
    column.write_maps(folder, lambda a: a)
    lines = [line for line in told(folder) if "614" in line]
    assert len(lines) == 1
    assert lines[0].startswith("[W614] in the median of 3 cases, C1 to C7 lie too far from each other, 1.4 times what")
    assert "Their distances are those of thoracic vertebrae" in lines[0]


def test_what_the_check_says_to_write_mends_it(folder):
    levels = {"L5": 1, "L4": 2, "L3": 3, "L2": 4, "L1": 5, "T12": 6, "T11": 7}
    column.write_maps(folder, lambda a: counted(a, True), vertebrae=levels)
    assert told(folder) == []


@pytest.mark.parametrize("scale", [0.55, 1.25])
def test_children_and_tall_people_have_no_finding(folder, monkeypatch, scale):
    monkeypatch.setattr(column, "SPACING_MM", (4.0, 2.0 * scale, 2.0 * scale))
    monkeypatch.setattr(column, "PITCH_MM", column.PITCH_MM * scale)
    column.write_maps(folder, lambda a: a)
    assert told(folder) == []


def test_a_small_column_named_lumbar_is_a_warning(folder, monkeypatch):
    monkeypatch.setattr(column, "PITCH_MM", 16.0)
    column.write_points(folder, column.rows_of())
    assert any(line.startswith("[W724]") for line in told(folder))


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ({1, 2, 3, 4, 5, 100, 201, 202, 203}, "By SPIDER's codes 100 is the canal, 201 to 203 are discs. Move what"),
        ({1, 2, 3, 106, 201, 202}, "level + 100 and + 200: 106 is discs"),
        ({1, 2, 3, 4, 201, 202, 203}, "By SPIDER's codes 201 to 203 are discs"),
        ({1, 2, 3, 4, 201}, 'write "vertebrae": {"L5": 1, "L4": 2, "L3": 3, "L2": 4} in dataset.json'),
        ({20, 21, 22, 120, 121}, "By the codes of TPTBox and SPINEPS, level + 100 and + 200: 120 to 121 are discs."),
        ({20, 21, 22, 220, 221, 222}, "220 to 222 are endplates. Move what is no vertebra to structuresTr"),
        ({32, 41, 42, 43, 44, 45, 50, 95, 100}, 'codes of TotalSpineSeg: write "vertebrae": {"T12": 32, "L1": 41,'),
        ({26, 27, 28, 29, 30, 31, 32}, 'codes of TotalSpineSeg: write "vertebrae": {"T6": 26, "T7": 27'),
        ({7, 20, 300}, ""),
        ({20, 21, 22}, ""),
        ({24, 26, 27}, "What lies below S1 is not named here: set it to 0, or join it to S1 (26)."),
        ({20, 24, 29, 30}, "27 is the coccyx and 29 to 33 are S2 to S6"),
        ({3, 4, 27}, ""),
    ],
)
def test_codes_of_other_tools_are_recognised(present, words):
    hint = scheme_hint(present, LEVEL_CODES)
    assert words in hint
    assert bool(words) == bool(hint)


def test_codes_of_discs_are_told_in_one_finding_a_map(folder):
    def with_discs(array):
        below = np.roll(array, 16, axis=1)
        return np.where((array == 0) & (below > 0) & (np.arange(array.shape[1])[:, None] % 17 < 3), below + 100, array)

    column.write_maps(folder, with_discs)
    lines = [line for line in told(folder) if line.startswith("[E603]")]
    assert len(lines) == 1
    assert "119 to 1" in lines[0]
    assert "Is it an image" not in lines[0]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("L01", "L1"), ("LWK1", "L1"), ("LWK 1", "L1"), ("BWK12", "T12"), ("HWK3", "C3"), ("TH12", "T12"),
        ("Th.12", "T12"), ("D12", "T12"), ("C 1", "C1"), ("L.1", "L1"), ("l_5", "L5"),
        ("Lumbar 1", "L1"), ("VL1", "L1"), ("SWK1", "S1"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER L}1", "L1"), ("L9", None), ("20", None), ("L5/S1", None), ("", None),
    ],
)  # fmt: skip
def test_spellings_of_levels(text, level):
    assert parse_level(text) == level


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20", "It is the code of L1 in maps."),
        ("L1/L2", "It names a disc."),
        ("L5-S1", "It names a disc."),
        ("\N{CYRILLIC CAPITAL LETTER TE}1", "is cyrillic capital letter te"),
    ],
)
def test_what_is_no_level_is_told_with_a_guess(tmp_path, text, words):
    folder = tmp_path / "Dataset001_Tiny"
    tiny.write_good(folder)
    tiny.replace_in_table(folder, "a1,p0,L1", f"a1,p0,{text}")
    assert any(words in line for line in told(folder) if "[E704]" in line)


def test_a_thoracic_column_named_lumbar_is_seen_in_the_inventory(folder, monkeypatch):
    monkeypatch.setattr(column, "PITCH_MM", 24.0)
    monkeypatch.setattr(column, "CODES", dict(zip(column.LEVELS, (18, 19, 20, 21, 22, 23, 24), strict=True)))
    column.write_points(folder, column.rows_of())
    # Steps of 24 mm and a little bend over the 36 mm of adults.
    assert check_dataset(folder).inventory["pitch"] == {"of_adults": 0.68, "cases": 3, "like": "thoracic"}
