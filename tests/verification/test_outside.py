"""What happens outside a region must not count, and a leak must be found."""

import dataclasses

import numpy as np
import pytest

from spinecls.verification import outside
from spinecls.verification.check_results import Outcome
from spinecls.verification.instrument import Answers
from spinecls.verification.study import Place
from spinecls.verification.swaps import centre_voxel, intensity_matched


def answers(probabilities, evidence):
    probabilities = np.array(probabilities, float)
    return Answers(probabilities[None], probabilities, np.array(evidence, np.float32))


def test_a_change_is_counted_by_hand():
    before = answers([[0.5, 0.5]], [[[1.0, 2.0]]])
    after = answers([[0.25, 0.75]], [[[1.0, 2.0]]])
    change = outside.changes(before, after)[0]
    assert change.unequal
    assert change.flipped
    assert change.largest_probability == pytest.approx(0.25)
    assert change.largest_logit == pytest.approx(np.log(3))


def test_the_last_bit_of_the_evidence_counts():
    before = answers([[0.5, 0.5]], [[[1.0, 2.0]]])
    after = answers([[0.5, 0.5]], [[[1.0, np.nextafter(np.float32(2), np.float32(3))]]])
    assert outside.changes(before, after)[0].unequal


def test_equal_outputs_are_equal():
    same = answers([[0.5, 0.5]], [[[1.0, 2.0]]])
    assert not outside.changes(same, same)[0].unequal


def test_a_donors_vertebra_is_laid_on_the_vertebra(study):
    place = study.chosen[0]
    scan = study.scans[place.scan]
    here = tuple(centre_voxel(scan.regions[place.vertebra]))
    centres = [
        intensity_matched(other.image, other.marrow, scan.marrow)[(0, *centre_voxel(region))]
        for number, other in enumerate(study.scans)
        if number != place.scan
        for region in other.regions
    ]
    for image in outside.donor_images(study, place):
        assert image.shape == scan.image.shape
        assert image[(0, *here)] in centres


def test_donors_of_a_vertebra_differ(study):
    first, second = outside.donor_images(study, study.chosen[0])
    assert not np.array_equal(first, second)


def test_a_study_of_one_case_takes_its_own_image_turned_round(study):
    alone = dataclasses.replace(study, scans=study.scans[:1])
    images = outside.donor_images(alone, Place(0, 0))
    assert len(images) == study.donors
    assert all(not np.array_equal(image, study.scans[0].image) for image in images)
    assert np.array_equal(np.sort(images[0], axis=None), np.sort(study.scans[0].image, axis=None))


@pytest.mark.parametrize("seal", ["S2", "S3"])
@pytest.mark.parametrize("check", [outside.outside_swap, outside.lesion_in_neighbour])
def test_a_sealed_model_is_equal_to_the_last_bit(at_level, study, seal, check):
    result = check(at_level(seal), study)
    assert result.outcome is Outcome.PASSED
    assert result.guarantee
    assert result.numbers["unequal"] == 0
    assert result.numbers["largest_logit_change"] == 0


def test_every_vertebra_is_swapped_with_all_donors_and_both_extremes(instrument, study):
    assert outside.outside_swap(instrument, study).numbers["swaps"] == len(study.chosen) * (study.donors + 2)


def test_a_leak_breaks_the_guarantee(instrument, study, leak):
    result = outside.outside_swap(instrument, study)
    assert result.breaks_guarantee
    assert result.numbers["unequal"] > 0
    assert result.numbers["largest_logit_change"] > 0


@pytest.mark.parametrize("seal", ["S1", "S0"])
def test_an_open_model_changes_and_is_only_reported(at_level, study, seal):
    result = outside.outside_swap(at_level(seal), study)
    assert result.outcome is Outcome.REPORTED
    assert not result.breaks_guarantee
    assert result.numbers["unequal"] == result.numbers["swaps"]
    assert result.numbers["mean_divergence"].estimate > 0


def test_a_lesion_in_the_neighbour_changes_an_open_model(at_level, study):
    assert outside.lesion_in_neighbour(at_level("S0"), study).numbers["unequal"] > 0


def test_marrow_numbers_of_the_swapped_image_change_a_probability_at_s2(instrument, study):
    result = outside.outside_swap_with_marrow(instrument, study)
    assert result.outcome is Outcome.REPORTED
    assert result.numbers["largest_probability_change"] > 0


def test_marrow_numbers_of_the_swapped_image_change_nothing_at_s3(at_level, study):
    assert outside.outside_swap_with_marrow(at_level("S3"), study).numbers["largest_probability_change"] == 0


def test_without_neighbours_no_lesion_can_be_planted(instrument, study):
    first = study.scans[0]
    lonely = dataclasses.replace(first, regions=first.regions[:1])
    alone = dataclasses.replace(study, scans=(lonely,), chosen=(Place(0, 0),))
    assert outside.lesion_in_neighbour(instrument, alone).outcome is Outcome.NOT_APPLICABLE
