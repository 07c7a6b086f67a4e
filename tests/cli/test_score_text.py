import dataclasses

import pytest
from evaluation.conftest import make_case, make_description, make_vertebra

from spinecls.cli.score_text import score_text
from spinecls.evaluation import matching, summary
from spinecls.evaluation.matching import CaseTruth

PLACE = (0, 0, 0)


def text_of(flags=(), class_names=("normal", "oedema"), remarks=(), missed=()):
    predicted = dataclasses.replace(make_vertebra("L1", PLACE, (0.2, 0.8)[: len(class_names)]), flags=flags)
    truth = CaseTruth(identifier="a", patient="p", centres_lps={"L1": PLACE}, classes={"L1": 1} if class_names else {})
    description = make_description(class_names=class_names)
    outcomes = matching.judge([make_case("a", [predicted], class_names)], [truth], description, None)
    scores = summary.summarise(outcomes, description, None, None, draws=5)
    reference = {"cases": 7, "taken_from": "the training cases of the dataset"}
    head = {"dataset": "Dataset007_Test", "split": "Ts", "training_reference": reference}
    return score_text({**head, "remarks": remarks, "missed_cases": dict.fromkeys(missed, ""), **scores})


def line_of(text, start):
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_scores_stand_with_their_intervals_or_with_what_they_rest_on():
    assert line_of(text_of(), "right name within 20 mm").split() == [
        "right", "name", "within", "20", "mm", "1.000", "[one", "patient]",
    ]  # fmt: skip


def test_each_class_has_a_line_with_its_number_of_vertebrae():
    assert line_of(text_of(), "oedema (1)").split("  ")[-1].strip() == "1.000 [one patient]"
    assert "not defined" in line_of(text_of(), "normal (0)")


def test_text_is_short():
    assert len(text_of().splitlines()) < 45
    assert max(len(line) for line in text_of().splitlines()) <= 120


def test_referral_is_told_where_a_vertebra_is_referred():
    assert line_of(text_of(flags=("refer",)), "share referred").endswith("1.000 [one patient]")
    assert "referred" not in text_of()


def test_remarks_stand_above_the_scores_in_whole_words():
    remark = "Without a prediction, all their vertebrae count as missed: " + ", ".join(["case_with_a_long-name"] * 9)
    text = text_of(remarks=[remark])
    above = text[: text.index("Found and named")]
    assert " ".join(line.lstrip("- ").strip() for line in above.splitlines()[3:]).strip() == remark
    assert max(len(line) for line in text.splitlines()) <= 120


def test_first_line_says_how_many_cases_were_missed():
    first = text_of(missed=("x",)).splitlines()[0]
    assert first == "Dataset007_Test, test cases: 1 case (1 without prediction), 1 patient, 1 annotated vertebrae"


@pytest.mark.parametrize("words", ["Classified", "Each class", "Prediction sets", "Affected vertebrae"])
def test_dataset_without_classes_shows_location_alone(words):
    assert words in text_of()
    assert words not in text_of(class_names=())
