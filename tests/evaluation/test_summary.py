import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from sklearn.metrics import roc_auc_score

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.evaluation import matching, summary
from spinecls.evaluation.matching import CaseTruth
from spinecls.evaluation.truth import class_of, class_prior, truth_of
from spinecls.io.dataset import load_dataset
from spinecls.records import Case, ClassReading, VertebraAnnotation

DATA = Path(os.environ.get("SPINECLS_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
TRUE = {"L1": (0, 0, 80), "L2": (0, 0, 40), "L3": (0, 0, 0)}
AXES = ["PIR", "RAI", "LPS", "ASL", "SPR"]


def patient(name, classes=(0, 1, 0), **more):
    return CaseTruth(
        identifier=name, patient=more.pop("patient", name), centres_lps=TRUE,
        classes=dict(zip(TRUE, classes, strict=True)), **more,
    )  # fmt: skip


def run(predictions, truth, description, prior=(0.75, 0.25), lowest="L3"):
    outcomes = matching.judge(predictions, truth, description, lowest)
    return summary.summarise(outcomes, description, prior, lowest, draws=40)


@pytest.fixture
def two_patients(vertebra, case, description):
    """First patient all right; second: L1 right, L2 called L1's neighbour L3, L3 missed, one superfluous."""
    first = case("a", [vertebra("L1", (0, 0, 80), (0.9, 0.1)), vertebra("L2", (0, 0, 44), (0.2, 0.8), ("oedema",)),
                       vertebra("L3", (0, 3, 4), (0.6, 0.4), ("normal", "oedema"))])  # fmt: skip
    second = case("b", [vertebra("L1", (0, 0, 78), (0.3, 0.7), ("oedema",)), vertebra("L3", (0, 0, 41), (0.4, 0.6)),
                        vertebra("S1", (0, 70, 30))])  # fmt: skip
    return run([first, second], [patient("a"), patient("b")], description())


def estimate(result, *keys):
    for key in keys:
        result = result[key]
    return result["estimate"]


def doubting(case):
    return dataclasses.replace(
        case, vertebrae=tuple(dataclasses.replace(v, flags=("numbering_ambiguous",)) for v in case.vertebrae)
    )


def test_errors_are_counted_apart_in_doubted_and_undoubted_cases(vertebra, case, description):
    right = [vertebra("L1", (0, 0, 80), (0.9, 0.1)), vertebra("L2", (0, 0, 40), (0.9, 0.1))]
    # All one level off, L3 missed: two wrong names.
    shifted = [vertebra("L2", (0, 0, 80), (0.9, 0.1)), vertebra("L3", (0, 0, 40), (0.9, 0.1))]
    predictions = [case("a", right), doubting(case("b", shifted)), doubting(case("c", right))]
    result = run(predictions, [patient("a"), patient("b"), patient("c"), patient("d")], description())
    doubt = ("location", "numbering_doubt")
    # Of three predicted cases two are doubted; in them two of four found vertebrae bear wrong names.
    assert estimate(result, *doubt, "doubted_cases") == pytest.approx(2 / 3)
    assert estimate(result, *doubt, "wrong_names_when_doubted") == pytest.approx(2 / 4)
    assert estimate(result, *doubt, "wrong_names_when_not_doubted") == 0.0


def test_identification_is_grouped_by_the_vertebrae_in_view(two_patients, vertebra, case, description):
    # Three annotated vertebrae each, four of six identified.
    assert estimate(two_patients, "location", "identification_rate_by_vertebrae_in_view", "3-4") == pytest.approx(4 / 6)
    assert set(two_patients["location"]["identification_rate_by_vertebrae_in_view"]) == {"3-4"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identification_rate", 4 / 6),
        ("identification_rate_half_pitch", 4 / 6),
        ("whole_case_right", 1 / 2),
        ("off_by_one_rate", 1 / 6),
        ("missed_rate", 1 / 6),
        ("centre_error_mm", (0 + 4 + 5 + 2) / 4),
        ("precision_10mm", 5 / 6),
        ("recall_10mm", 5 / 6),
        ("f1_10mm", 5 / 6),
        # In the second patient the superfluous one is the lowest, so it is called L3, 70 mm from any vertebra; counting
        # up from it names the other two rightly.
        ("trivial_counter_identification_rate", 5 / 6),
    ],
)
def test_location_score_by_hand(two_patients, name, expected):
    assert estimate(two_patients, "location", name) == pytest.approx(expected)


def test_identification_rate_by_level_and_region(two_patients):
    location = two_patients["location"]
    by_level = {level: score["estimate"] for level, score in location["identification_rate_by_level"].items()}
    assert by_level == {"L1": 1.0, "L2": 0.5, "L3": 0.5}
    assert {name: score["items"] for name, score in location["identification_rate_by_region"].items()} == {"lumbar": 6}


def test_end_to_end_auc_gives_missed_and_misnamed_vertebrae_the_prior(two_patients):
    positive = [0, 1, 0, 0, 1, 0]
    assert estimate(two_patients, "classification", "end_to_end", "auc_by_class", "oedema") == pytest.approx(
        roc_auc_score(positive, [0.1, 0.8, 0.4, 0.7, 0.25, 0.25])
    )


def test_auc_of_identified_vertebrae_leaves_the_others_out(two_patients):
    assert estimate(two_patients, "classification", "identified", "auc_by_class", "oedema") == pytest.approx(
        roc_auc_score([0, 1, 0, 0], [0.1, 0.8, 0.4, 0.7])
    )


def test_confusion_decides_missed_vertebrae_by_the_prior(two_patients):
    assert two_patients["classification"]["end_to_end"]["confusion"].tolist() == [[3, 1], [1, 1]]
    assert two_patients["classification"]["identified"]["confusion"].tolist() == [[2, 1], [0, 1]]


def test_prior_corrected_confusion_decides_for_the_rarer_class_sooner(two_patients):
    # L3 of the first patient: 0.4 / 0.25 > 0.6 / 0.75.
    assert two_patients["classification"]["identified"]["confusion_prior_corrected"].tolist() == [[1, 2], [0, 1]]


def test_coverage_and_size_are_of_identified_vertebrae(two_patients):
    sets = two_patients["classification"]["prediction_sets"]
    assert estimate(sets, "coverage") == 3 / 4
    assert estimate(sets, "coverage_by_class", "normal") == pytest.approx(2 / 3)
    assert estimate(sets, "mean_size") == 5 / 4


def test_coverage_of_few_patients_gets_no_verdict(two_patients):
    assert two_patients["classification"]["prediction_sets"]["coverage_by_class"]["normal"]["not_below_target"] is None


@pytest.mark.parametrize(("covered", "verdict"), [(30, True), (26, True), (15, False)])
def test_coverage_verdict_asks_for_the_upper_end(vertebra, case, description, covered, verdict):
    truth, predictions = [], []
    for index in range(30):
        chosen = ("normal",) if index < covered else ("oedema",)
        predictions.append(case(str(index), [vertebra("L1", (0, 0, 80), prediction_set=chosen)]))
        truth.append(patient(str(index), (0, None, None)))
    outcomes = matching.judge(predictions, truth, description(), None)
    result = summary.summarise(outcomes, description(), None, None, draws=500)
    by_class = result["classification"]["prediction_sets"]["coverage_by_class"]
    assert by_class["normal"]["not_below_target"] is verdict


def test_scores_by_level_and_site(vertebra, case, description):
    truth = [patient("a", site="north"), patient("b", site="south", classes=(1, 1, 0))]
    predictions = [
        case(name, [vertebra(lv, TRUE[lv], (1 - p, p)) for lv, p in zip(TRUE, (0.3, 0.9, 0.1), strict=True)])
        for name in "ab"
    ]
    classification = run(predictions, truth, description())["classification"]
    assert {name: s["auc_macro"]["estimate"] for name, s in classification["by_site"].items()} == {
        "north": 1.0,
        "south": 1.0,
    }
    assert classification["by_level"]["L1"]["auc_macro"]["estimate"] == 0.5
    assert math.isnan(classification["by_level"]["L2"]["auc_macro"]["estimate"])


def test_scores_by_region_and_sequence_name_their_patients(vertebra, case, description):
    places = {"T12": (0, 0, 120), **TRUE}
    truth = [
        CaseTruth(
            identifier=name, patient=name, sequence=sequence, centres_lps=places, classes=dict.fromkeys(places, k)
        )
        for name, sequence, k in (("a", "T1", 0), ("b", "STIR", 1), ("c", "", 1))
    ]
    classification = run([], truth, description())["classification"]
    sizes = {
        group: {name: (scores["vertebrae"], scores["patients"]) for name, scores in classification[group].items()}
        for group in ("by_region", "by_sequence")
    }
    assert sizes["by_region"] == {"thoracic": (3, 3), "lumbar": (9, 3)}
    assert sizes["by_sequence"] == {"STIR": (4, 1), "T1": (4, 1)}
    assert list(classification["by_region"]) == ["thoracic", "lumbar"]


def referred(vertebra):
    return dataclasses.replace(vertebra, flags=("truncated", "refer"))


def test_errors_are_counted_apart_in_referred_and_other_vertebrae(vertebra, case, description):
    # Truth is 0, 1, 0. L2 is wrong and referred in both scans; in the second L1 is right and referred, L3 right.
    found = {"L1": vertebra("L1", TRUE["L1"], (0.9, 0.1)), "L2": referred(vertebra("L2", TRUE["L2"], (0.6, 0.4))),
             "L3": vertebra("L3", TRUE["L3"], (0.1, 0.9))}  # fmt: skip
    second = found | {"L1": referred(found["L1"]), "L3": vertebra("L3", TRUE["L3"], (0.8, 0.2))}
    result = run([case("a", found.values()), case("b", second.values())], [patient("a"), patient("b")], description())
    flag = result["classification"]["refer_flag"]
    assert estimate(flag, "share_referred") == pytest.approx(3 / 6)
    assert estimate(flag, "error_referred") == pytest.approx(2 / 3)
    assert estimate(flag, "error_not_referred") == pytest.approx(1 / 3)


def test_without_a_referred_vertebra_there_is_no_referral_to_judge(two_patients):
    assert two_patients["classification"]["refer_flag"] is None


def test_nothing_predicted_identifies_nothing_and_has_no_precision(description):
    result = run([], [patient("a")], description())
    location = result["location"]
    assert estimate(location, "identification_rate") == 0.0
    assert estimate(location, "f1_10mm") == 0.0
    assert math.isnan(estimate(location, "precision_10mm"))
    assert math.isnan(estimate(location, "centre_error_mm"))
    assert estimate(result, "classification", "end_to_end", "auc_by_class", "oedema") == 0.5
    assert math.isnan(estimate(result, "classification", "identified", "auc_macro"))


def test_no_case_at_all_is_undefined_everywhere(description):
    result = run([], [], description())
    assert (result["cases"], result["vertebrae"]) == (0, 0)
    assert math.isnan(estimate(result, "location", "identification_rate"))


def test_dataset_without_classes_has_no_classification(vertebra, case, description):
    predicted = case("a", [vertebra("L1", TRUE["L1"], ())], class_names=())
    truth = dataclasses.replace(patient("a"), classes={})
    result = run([predicted], [truth], description(class_names=()), prior=None)
    assert result["classification"] is None
    assert estimate(result, "location", "identification_rate") == pytest.approx(1 / 3)


def test_class_without_position_counts_for_classes_and_not_for_location(vertebra, case, description):
    unplaced = CaseTruth(identifier="a", patient="a", classes={"L1": 1, "L2": 0})
    result = run([case("a", [vertebra("L1", (0, 0, 0), (0.1, 0.9))])], [unplaced], description())
    assert result["vertebrae_without_position"] == 2
    assert result["location"]["identification_rate"]["items"] == 0
    assert estimate(result, "classification", "end_to_end", "auc_by_class", "oedema") == 1.0
    assert result["classification"]["identified"]["vertebrae"] == 1


def test_without_training_reference_there_is_no_counter(vertebra, case, description):
    result = run([case("a", [vertebra("L1", TRUE["L1"])])], [patient("a")], description(), lowest=None)
    assert math.isnan(estimate(result, "location", "trivial_counter_identification_rate"))


def test_patients_and_not_cases_are_drawn(vertebra, case, description):
    truth = [patient("a", patient="p"), patient("b", patient="p")]
    result = run([case("a", [vertebra("L1", TRUE["L1"])]), case("b", [])], truth, description())
    rate = result["location"]["identification_rate"]
    assert (result["cases"], result["patients"]) == (2, 1)
    assert rate["no_interval"] == "one patient"
    assert np.isnan([rate["low"], rate["high"]]).all()


def test_result_goes_into_strict_json(tmp_path, two_patients):
    files.write_json(tmp_path / "s.json", two_patients)
    content = json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)
    assert content["location"]["identification_rate"]["items"] == 6


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([], None),
        ([(("oedema",), 1.0)], 1),
        ([(("normal", "oedema"), 1.0)], None),
        ([(("normal",), 1.0), (("oedema",), 1.0)], None),
        ([(("normal",), 0.4), (("oedema",), 0.9)], 1),
        ([(("normal",), 1.0), (("oedema",), 0.7), (("oedema",), 0.6)], 1),
        ([(("normal",), 0.0)], None),
    ],
)
def test_class_of_several_readings(readings, expected):
    made = [ClassReading(classes=classes, confidence=confidence) for classes, confidence in readings]
    assert class_of(made, ("normal", "oedema")) == expected


def test_prior_is_the_share_of_each_class():
    assert class_prior([0, 0, 1, None, 0], 3).tolist() == [0.75, 0.25, 0.0]


def test_prior_of_nothing_read_is_even():
    assert class_prior([None], 4).tolist() == [0.25] * 4


def write_map(path, boxes, orientation="PIR", angle=0.0, spacing=(1.0, 2.0, 3.0)):
    """Label map of 10 x 12 x 8 voxels in the file's own order; boxes are {code: ((start, stop) of x, y, z)}."""
    image = sitk.Image(10, 12, 8, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin((-7.0, 11.0, 3.0))
    for code, (x, y, z) in boxes.items():
        image[x[0] : x[1], y[0] : y[1], z[0] : z[1]] = code
    # Every direction is in use: an orientation code of the file, turned by an angle about the left-right axis.
    turn = np.asarray([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    flipped = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(orientation)
    image.SetDirection((turn @ np.asarray(flipped).reshape(3, 3)).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return image


def a_case(path, *annotations):
    maps = {"": path} if path else {}
    return Case(identifier="a", patient="p", images=(), site="s", vertebra_maps=maps, vertebrae=annotations)


@pytest.mark.parametrize("orientation", AXES)
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_centroid_of_a_map_agrees_with_simpleitk(tmp_path, description, orientation, angle):
    path = tmp_path / "a.nii.gz"
    image = write_map(path, {20: ((1, 4), (2, 5), (1, 3)), 21: ((5, 9), (6, 11), (3, 8))}, orientation, angle)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(image)
    centres = truth_of(a_case(path), description()).centres_lps
    assert centres["L1"] == pytest.approx(shapes.GetCentroid(20), abs=1e-3)
    assert centres["L2"] == pytest.approx(shapes.GetCentroid(21), abs=1e-3)


def test_position_comes_from_the_map_then_the_point_then_the_box(tmp_path, description):
    write_map(tmp_path / "a.nii.gz", {20: ((0, 1), (0, 1), (0, 1))})
    box = ((0.0, 0.0, 0.0), (2.0, 4.0, 6.0))
    truth = truth_of(
        a_case(
            tmp_path / "a.nii.gz",
            VertebraAnnotation(level="L1", centre_lps=(50.0, 50.0, 50.0)),
            VertebraAnnotation(level="L2", centre_lps=(9.0, 8.0, 7.0), box_lps=box),
            VertebraAnnotation(level="L3", box_lps=box),
            VertebraAnnotation(level="L4", readings=(ClassReading(classes=("oedema",)),)),
        ),
        description(),
    )
    assert truth.centres_lps["L1"] == pytest.approx((-7.0, 11.0, 3.0))
    assert truth.centres_lps["L2"] == (9.0, 8.0, 7.0)
    assert truth.centres_lps["L3"] == (1.0, 2.0, 3.0)
    assert "L4" not in truth.centres_lps
    assert truth.classes == {"L1": None, "L2": None, "L3": None, "L4": 1}


def test_dice_by_hand_with_a_missing_and_a_wrongly_named_vertebra(tmp_path, description):
    # L1: 12 true, 8 predicted, 8 shared -> 16 / 20; L2 is predicted as L3; L4 is not predicted.
    true = {20: ((0, 3), (0, 4), (0, 1)), 21: ((5, 7), (0, 2), (0, 2)), 23: ((8, 9), (0, 2), (0, 2))}
    write_map(tmp_path / "t.nii.gz", true)
    write_map(tmp_path / "p.nii.gz", {20: ((0, 2), (0, 4), (0, 1)), 22: ((5, 7), (0, 2), (0, 2))})
    truth = truth_of(a_case(tmp_path / "t.nii.gz"), description(), tmp_path / "p.nii.gz")
    assert truth.dice == pytest.approx({"L1": 0.8, "L2": 0.0, "L4": 0.0})


def test_dice_leaves_out_what_the_truth_does_not_know(tmp_path, description):
    write_map(tmp_path / "t.nii.gz", {20: ((0, 2), (0, 2), (0, 2)), 255: ((2, 4), (0, 2), (0, 2))})
    write_map(tmp_path / "p.nii.gz", {20: ((0, 4), (0, 2), (0, 2))})
    assert truth_of(a_case(tmp_path / "t.nii.gz"), description(), tmp_path / "p.nii.gz").dice == {"L1": 1.0}


def test_missing_predicted_map_has_dice_zero(tmp_path, description):
    write_map(tmp_path / "t.nii.gz", {20: ((0, 2), (0, 2), (0, 2))})
    assert truth_of(a_case(tmp_path / "t.nii.gz"), description(), tmp_path / "none.nii.gz").dice == {"L1": 0.0}


def test_readers_are_averaged(tmp_path, description):
    for reader, stop in (("r1", 2), ("r2", 4)):
        write_map(tmp_path / f"{reader}.nii.gz", {20: ((0, stop), (0, 2), (0, 2))})
    maps = {reader: tmp_path / f"{reader}.nii.gz" for reader in ("r1", "r2")}
    case = dataclasses.replace(a_case(None), vertebra_maps=maps)
    truth = truth_of(case, description(), tmp_path / "r1.nii.gz")
    assert truth.dice["L1"] == pytest.approx((1 + 2 * 8 / 24) / 2)
    one, two = (truth_of(a_case(path), description()).centres_lps["L1"] for path in maps.values())
    assert truth.centres_lps["L1"] == pytest.approx(np.mean([one, two], axis=0))


def test_predicted_map_on_another_grid_is_refused(tmp_path, description):
    write_map(tmp_path / "t.nii.gz", {20: ((0, 2), (0, 2), (0, 2))})
    write_map(tmp_path / "p.nii.gz", {20: ((0, 2), (0, 2), (0, 2))}, spacing=(1.0, 2.0, 3.2))
    with pytest.raises(DatasetError, match="Expected the grid of the input image"):
        truth_of(a_case(tmp_path / "t.nii.gz"), description(), tmp_path / "p.nii.gz")


def test_truth_predicted_on_real_scans_is_all_right(vertebra, case):
    folder = DATA / "Dataset001_LumbarSpA"
    if not folder.is_dir():
        pytest.skip(f"real scans are not at {folder}; set SPINECLS_TEST_DATA")
    raw = load_dataset(folder, verify_voxels=False)
    names = raw.description.class_names
    truth = [truth_of(c, raw.description, c.vertebra_maps[""]) for c in raw.cases[:3]]
    predictions = [
        case(t.identifier, [vertebra(lv, centre, np.eye(3)[t.classes[lv]], (names[t.classes[lv]],))
                            for lv, centre in t.centres_lps.items()], class_names=names)
        for t in truth
    ]  # fmt: skip
    outcomes = matching.judge(predictions, truth, raw.description, None)
    assert len(outcomes) == 3
    for vertebra_outcome in (v for outcome in outcomes for v in outcome.vertebrae):
        assert vertebra_outcome.match.error_mm == 0.0
        assert vertebra_outcome.dice == 1.0
