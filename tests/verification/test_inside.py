"""What happens inside a region must count."""

import dataclasses

import numpy as np
import pytest

from spinecls.verification import inside
from spinecls.verification.check_results import Outcome
from spinecls.verification.instrument import Answers


class Reader:
    """A stand-in whose class is 1 where the middle of the region is bright, whatever the network says."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def ask(self, questions):
        return self.classify(questions)

    def reference(self, question, count):
        return self.classify([question] * count)

    def classify(self, questions):
        rows = []
        for q in questions:
            content = q.image[0][q.region.slices][q.region.mask]
            score = self.scale * (np.median(content) - q.marrow[0, 0]) / q.marrow[0, 1]
            rows.append([0.9, 0.1] if score <= 0 else [0.1, 0.9])
        probabilities = np.array(rows)
        return Answers(probabilities[None], probabilities, np.zeros((len(rows), 2, 1, 1, 1), np.float32))


@pytest.fixture
def read_study(study):
    """The study with the classes of the stand-in; the vertebrae of each second case are bright."""
    scans = []
    for number, scan in enumerate(study.scans):
        image = scan.image + (5 * scan.marrow[0, 1] if number % 2 else -5 * scan.marrow[0, 1])
        scan = dataclasses.replace(scan, image=image.astype(np.float32))
        altered = dataclasses.replace(study, scans=(scan,))
        answers = Reader().ask([altered.question(place) for place in altered.places])
        scans.append(dataclasses.replace(scan, answers=answers))
    return dataclasses.replace(study, scans=tuple(scans))


def test_a_model_that_reads_the_region_follows_its_content(read_study):
    result = inside.inside_swap(Reader(), read_study)
    assert result.outcome is Outcome.PASSED
    assert result.numbers["following"].estimate == 1
    assert result.numbers["round_trip"].estimate == 1
    assert result.numbers["unchanged"].estimate == 0


def test_a_model_that_does_not_look_inside_fails(read_study, monkeypatch):
    # As if the content had never arrived: the target keeps its class, the donor its own in the round trip.
    monkeypatch.setattr(inside, "with_content", lambda image, *arguments: image)
    result = inside.inside_swap(Reader(), read_study)
    assert result.outcome is Outcome.FAILED
    assert result.numbers["following"].estimate == 0
    assert not result.breaks_guarantee


def test_where_all_classes_are_equal_none_can_follow(read_study):
    first = read_study.scans[0]
    same = np.tile([0.9, 0.1], (len(first.regions), 1))
    scan = dataclasses.replace(first, answers=Answers(same[None], same, first.answers.evidence))
    alone = dataclasses.replace(read_study, scans=(scan,), chosen=read_study.places[:1])
    assert inside.inside_swap(Reader(), alone).outcome is Outcome.NOT_APPLICABLE


def test_a_region_has_eight_variants(study):
    question = study.question(study.chosen[0])
    variants = inside.region_variants(question.region, question.grid)
    assert len(variants) == 8
    assert variants["grown 1.5 mm"].mask.sum() > question.region.mask.sum()
    assert variants["shrunk 1.5 mm"].mask.sum() < question.region.mask.sum()


def test_moving_the_region_of_a_bright_vertebra_does_not_flip_a_median_reader(read_study):
    assert inside.region_shift(Reader(), read_study).numbers["flip_rate"].estimate == 0


def test_moving_the_region_changes_a_network(instrument, study):
    result = inside.region_shift(instrument, study)
    assert result.outcome is Outcome.REPORTED
    assert 0 < result.numbers["mean_probability_change"].estimate < 1
