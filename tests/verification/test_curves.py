"""Deletion and insertion."""

import dataclasses

import numpy as np
import pytest
import torch

from spinecls.networks.model import SpineModel
from spinecls.networks.reader import SealedOutputs
from spinecls.verification import curves
from spinecls.verification.check_results import Outcome
from spinecls.verification.instrument import Answers, Crops, Instrument
from spinecls.verification.measures import area_under_curve
from spinecls.verification.study import Place

VALUES = (4.0, 3.0, 2.0, 1.0)


@pytest.fixture
def crop():
    """A region of four voxels, 4, 3, 2 and 1, and a voxel outside."""
    channel, region = torch.zeros(1, 1, 1, 1, 5), torch.zeros(1, 1, 1, 1, 5)
    channel[..., :4], region[..., :4] = torch.tensor(VALUES), 1
    return Crops(torch.cat([channel, region], dim=1), region[:, 0] > 0.5)


def sums(crops):
    """Share of the region's sum that is shown."""
    return crops.images[:, 0].flatten(1).sum(dim=1).numpy() / sum(VALUES)


def test_deletion_takes_the_first_voxels_away_and_insertion_shows_them_first(crop):
    order = np.arange(4)
    deleted, inserted = (sums(curves.partly_shown(crop, order, first)) for first in (False, True))
    # Steps 0, 5, 10, 15, 20 have 0, 1, 2, 3, 4 of the four voxels.
    assert deleted[::5] == pytest.approx([1.0, 0.6, 0.3, 0.1, 0.0])
    assert inserted[::5] == pytest.approx([0.0, 0.4, 0.7, 0.9, 1.0])


def test_the_region_channel_stays_while_voxels_vanish(crop):
    partly = curves.partly_shown(crop, np.arange(4), False)
    assert torch.equal(partly.images[:, 1], crop.images[:, 1].expand(curves.STEPS + 1, 1, 1, 5))


def test_areas_by_hand(crop):
    # Counts by step, halves rounded to even: 0 in steps 0-2, 1 in 3-7, 2 in 8-12, 3 in 13-17, 4 in 18-20.
    expected = (2.5 * 1 + 5 * 0.6 + 5 * 0.3 + 5 * 0.1) / 20
    assert area_under_curve(sums(curves.partly_shown(crop, np.arange(4), False))) == pytest.approx(expected)
    expected = (5 * 0.4 + 5 * 0.7 + 5 * 0.9 + 2.5 * 1) / 20
    assert area_under_curve(sums(curves.partly_shown(crop, np.arange(4), True))) == pytest.approx(expected)


def test_a_random_order_holds_every_counted_voxel_once():
    counted = np.random.default_rng(0).random((3, 6, 5)) > 0.5
    order = curves.random_order(counted, np.random.default_rng(1))
    assert np.array_equal(np.sort(order), np.flatnonzero(counted))


def with_class(study, index):
    """The study as if the model gave all vertebrae one class."""
    scans = []
    for scan in study.scans:
        probabilities = np.eye(scan.answers.probabilities.shape[1])[[index] * len(scan.regions)]
        answers = Answers(probabilities[None], probabilities, scan.answers.evidence)
        scans.append(dataclasses.replace(scan, answers=answers))
    return dataclasses.replace(study, scans=tuple(scans))


class Departure(torch.nn.Module):
    """A reader whose evidence is known: class 1 is what departs from the marrow's intensity, averaged."""

    ordinal = False

    def explained_pass(self, crops, pooled):
        evidence = crops[:, :1].abs() * pooled[:, None]
        evidence = torch.cat([evidence, torch.zeros_like(evidence)], dim=1)
        contributions = evidence / pooled.sum(dim=(1, 2, 3)).clamp(min=1).view(-1, 1, 1, 1, 1)
        numbers = contributions.sum(dim=(2, 3, 4))
        logits = torch.nn.functional.pad(numbers, (1, 0))
        return SealedOutputs(logits, evidence, numbers, contributions, speaks=evidence)


@pytest.fixture
def departure(instrument, study):
    """A model of the known reader, and the study as it answers it; all vertebrae as if of class 1."""
    model = SpineModel(torch.nn.Identity(), [Departure()])
    known = Instrument(dataclasses.replace(instrument.predictor, models=[model], fold_plans=()))
    scans = []
    for i, scan in enumerate(study.scans):
        answers = known.ask([study.question(Place(i, v)) for v in range(len(scan.regions))])
        scans.append(dataclasses.replace(scan, answers=answers))
    return known, with_class(dataclasses.replace(study, scans=tuple(scans)), 1)


def test_inserting_by_evidence_shows_the_class_sooner_than_deleting(departure):
    numbers = curves.deletion_and_insertion(*departure).numbers
    deletion, chance, insertion = (numbers[key].estimate for key in ("deletion", "random_order", "insertion"))
    assert deletion < chance < insertion
    assert numbers["random_minus_deletion"].estimate == pytest.approx(chance - deletion)
    assert numbers["insertion_minus_random"].estimate == pytest.approx(insertion - chance)


def test_vertebrae_without_a_finding_have_nothing_to_delete(instrument, study):
    assert curves.deletion_and_insertion(instrument, with_class(study, 0)).outcome is Outcome.NOT_APPLICABLE
