import csv
import dataclasses
import json
import math

import pytest

from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.io import predictions
from spinecls.records import CasePrediction, VertebraPrediction

GRID = Geometry(
    shape=(4, 5, 6),
    spacing_mm=(3.0, 1.0, 0.5),
    origin_lps=(-10.5, 2.25, 7.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)
L4 = VertebraPrediction(
    level="L4",
    level_probability=0.75,
    runner_up="L5",
    runner_up_probability=0.125,
    centre_lps=(1.5, -2.25, 1 / 3),
    box_lps=((0.0, -10.0, -12.0), (3.0, 5.0, 12.0)),
    score=0.5,
    class_probabilities=(0.25, 0.75),
    prediction_set=("normal", "oedema"),
    entropy=0.5623,
    visible_fraction=0.875,
    region={"margin_mm": 3.0, "voxels": 12},
    flags=("truncated", "uncalibrated"),
)
CASE = CasePrediction(
    identifier="spine_01",
    class_names=("normal", "oedema"),
    vertebrae=(L4,),
    model={"trainer": "T"},
    geometry=GRID,
    warnings=("noise 9; training scans 1",),
    input={"voxels": ["0a1b"], "files": "ab"},
    outputs={"spine_01.nii.gz": "cd"},
)
EMPTY = dataclasses.replace(CASE, identifier="spine_02", vertebrae=(), geometry=None)


@pytest.mark.parametrize("case", [CASE, EMPTY])
def test_case_json_returns_what_was_written(tmp_path, case):
    assert predictions.read_case_json(predictions.write_case_json(tmp_path, case)) == case


@pytest.mark.parametrize("change", [lambda c: c.pop("input"), lambda c: c.update(input=None)], ids=["absent", "null"])
def test_result_that_does_not_say_which_image_it_is_of_is_read(tmp_path, change):
    path = predictions.write_case_json(tmp_path, CASE)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert predictions.read_case_json(path) == dataclasses.replace(CASE, input={})


def test_case_json_of_an_earlier_version_says_nothing_of_its_input_and_files(tmp_path):
    path = _edit(tmp_path, lambda content: (content.pop("input"), content.pop("outputs")))
    assert predictions.read_case_json(path) == dataclasses.replace(CASE, input={}, outputs={})


def test_case_json_keys_class_probabilities_by_name(tmp_path):
    content = json.loads(predictions.write_case_json(tmp_path, CASE).read_text())
    assert content["vertebrae"][0]["class_probabilities"] == {"normal": 0.25, "oedema": 0.75}


def test_probability_that_is_not_a_number_is_null_and_comes_back(tmp_path):
    unknown = dataclasses.replace(L4, class_probabilities=(math.nan, math.nan))
    path = predictions.write_case_json(tmp_path, dataclasses.replace(CASE, vertebrae=(unknown,)))
    assert json.loads(path.read_text())["vertebrae"][0]["class_probabilities"] == {"normal": None, "oedema": None}
    assert all(math.isnan(p) for p in predictions.read_case_json(path).vertebrae[0].class_probabilities)


@pytest.mark.parametrize("identifier", ["", "../up", "a/b", "a\\b", ".hidden"])
def test_identifier_that_is_no_file_name_is_refused(tmp_path, identifier):
    with pytest.raises(DatasetError, match="Rename the case"):
        predictions.write_case_json(tmp_path, dataclasses.replace(CASE, identifier=identifier))


def test_number_of_probabilities_must_be_that_of_classes(tmp_path):
    case = dataclasses.replace(CASE, class_names=("normal", "oedema", "fat"))
    with pytest.raises(DatasetError, match="vertebra L4: 2 class probabilities for 3 classes"):
        predictions.write_case_json(tmp_path, case)


def _edit(tmp_path, change):
    path = predictions.write_case_json(tmp_path, CASE)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format="other"), 'because "format" is not'),
        (lambda c: c.update(format_version=99), "format_version 99, expected 3"),
        (lambda c: c.pop("model"), "missing keys: model"),
        (lambda c: c["vertebrae"][0].update(levle="L3"), "vertebra 0: missing keys: none; unknown keys: levle"),
        (lambda c: c["vertebrae"][0]["class_probabilities"].pop("oedema"), "class_probabilities: missing keys: oedema"),
        (lambda c: c["vertebrae"][0].update(centre_lps=[1, 2]), "wrong type or number of entries"),
        (lambda c: c["vertebrae"][0].update(entropy="high"), "wrong type or number of entries"),
    ],
)
def test_faulty_case_json_is_named(tmp_path, change, words):
    with pytest.raises(DatasetError, match=words):
        predictions.read_case_json(_edit(tmp_path, change))


def test_folder_gives_cases_by_name_and_passes_over_other_json(tmp_path):
    for case in (EMPTY, CASE):
        predictions.write_case_json(tmp_path, case)
    (tmp_path / "summary.json").write_text('{"cases": 2}')
    assert [case.identifier for case in predictions.read_folder(tmp_path)] == ["spine_01", "spine_02"]


def test_folder_without_predictions_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no prediction found"):
        predictions.read_folder(tmp_path)


def test_renamed_copy_of_a_case_is_refused(tmp_path):
    path = predictions.write_case_json(tmp_path, CASE)
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match="holds case 'spine_01', expected 'copy'"):
        predictions.read_folder(tmp_path)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        predictions.read_folder(tmp_path / "nowhere")


def test_table_has_exactly_the_documented_columns(tmp_path):
    with open(predictions.write_table(tmp_path, [CASE, EMPTY]), newline="") as stream:
        header, *rows = list(csv.reader(stream))
    assert ",".join(header) == (
        "case,vertebra,x_mm,y_mm,z_mm,class,p_normal,p_oedema,prediction_set,entropy,p_vertebra,visible_fraction,flags"
    )
    (row,) = rows
    assert ",".join(row) == (
        "spine_01,L4,1.5,-2.25,0.333,oedema,0.25,0.75,normal|oedema,0.5623,0.75,0.875,truncated|uncalibrated"
    )


def test_table_returns_what_was_written(tmp_path):
    (row,) = predictions.read_table(predictions.write_table(tmp_path, [CASE]))
    assert row == predictions.TableRow(
        case="spine_01",
        level="L4",
        centre_lps=(1.5, -2.25, 0.333),
        class_name="oedema",
        class_probabilities={"normal": 0.25, "oedema": 0.75},
        prediction_set=("normal", "oedema"),
        entropy=0.5623,
        level_probability=0.75,
        visible_fraction=0.875,
        flags=("truncated", "uncalibrated"),
    )


def test_case_name_that_a_spreadsheet_would_run_is_guarded_and_comes_back(tmp_path):
    path = predictions.write_table(tmp_path, [dataclasses.replace(CASE, identifier="=1+1")])
    assert "\n'=1+1," in path.read_text()
    assert predictions.read_table(path)[0].case == "=1+1"


def test_table_of_nothing_holds_the_header(tmp_path):
    path = predictions.write_table(tmp_path, [])
    assert predictions.read_table(path) == []
    assert path.read_text().startswith("case,vertebra,x_mm")


def test_class_without_probabilities_is_empty_in_the_table(tmp_path):
    unknown = dataclasses.replace(L4, class_probabilities=(math.nan, math.nan))
    (row,) = predictions.read_table(
        predictions.write_table(tmp_path, [dataclasses.replace(CASE, vertebrae=(unknown,))])
    )
    assert row.class_name == ""
    assert math.isnan(row.class_probabilities["normal"])


def test_cases_of_other_classes_do_not_share_a_table(tmp_path):
    with pytest.raises(DatasetError, match="case spine_01 has normal, oedema"):
        predictions.write_table(tmp_path, [CASE, dataclasses.replace(EMPTY, class_names=("normal", "fat"))])


def test_table_without_a_column_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("case,vertebra\na,L1\n")
    with pytest.raises(DatasetError, match="line 2: no value for x_mm"):
        predictions.read_table(tmp_path / "t.csv")


def test_table_with_a_word_for_a_number_is_named(tmp_path):
    path = predictions.write_table(tmp_path, [CASE])
    path.write_text(path.read_text().replace("0.5623", "high"))
    with pytest.raises(DatasetError, match=r"line 2: a number was expected.*high"):
        predictions.read_table(path)


def test_failures_return_with_commas_and_line_breaks(tmp_path):
    failures = [("a", "too small, 3 voxels\nexpected 8"), ("=b", "no header")]
    predictions.write_failures(tmp_path, failures)
    assert predictions.read_failures(tmp_path) == failures


def test_scans_in_which_nothing_was_found_are_referred_first(tmp_path):
    unsure = dataclasses.replace(CASE, vertebrae=(dataclasses.replace(L4, flags=("refer", "truncated")),))
    odd = dataclasses.replace(EMPTY, identifier="spine_03")
    plain = dataclasses.replace(EMPTY, warnings=())
    text = predictions.write_referrals(tmp_path, [unsure, plain, odd]).read_text().splitlines()
    assert text == [
        "case,vertebra,class,entropy,prediction_set,reasons",
        "spine_02,,,,,nothing_found",
        "spine_03,,,,,nothing_found",
        "spine_01,L4,oedema,0.5623,normal|oedema,truncated",
    ]


def test_no_failure_leaves_the_header_alone(tmp_path):
    assert predictions.write_failures(tmp_path, []).read_text().split() == ["case,reason"]


def test_folder_without_failure_table_has_no_failures(tmp_path):
    assert predictions.read_failures(tmp_path) == []
