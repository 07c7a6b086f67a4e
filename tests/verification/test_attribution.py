"""Attribution, and evidence against drawn lesions."""

import dataclasses

import numpy as np
import pytest
import torch

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region
from spinecls.verification.attribution import attribution_inside, evidence_on_lesions
from spinecls.verification.check_results import Outcome
from spinecls.verification.instrument import Answers
from spinecls.verification.study import Place, Scan, Study

ANGLE = np.deg2rad(30)
OBLIQUE = ((-1.0, 0.0, 0.0), (0.0, np.cos(ANGLE), -np.sin(ANGLE)), (0.0, np.sin(ANGLE), np.cos(ANGLE)))
SHAPE = (3, 6, 8)


def inside_only(instrument, crops, target):
    """Gradient times input stands for integrated gradients: zero where the crop shows nothing."""
    channels = crops.images[:, :-1].clone().requires_grad_()
    images = torch.cat([channels, crops.images[:, -1:]], dim=1)
    sum(reader.sealed_pass(images, crops.pooled)[0][0, target] for reader in instrument.readers).backward()
    return (channels.grad * channels)[0].detach()


def test_attribution_of_a_sealed_model_is_exactly_zero_outside(instrument, study):
    result = attribution_inside(instrument, study, inside_only)
    assert result.outcome is Outcome.PASSED
    assert result.numbers["inside_share"].estimate == 1
    assert result.numbers["largest_outside"] == 0
    assert 0 < result.numbers["chance"] < 1


def test_attribution_outside_breaks_the_guarantee(instrument, study):
    result = attribution_inside(instrument, study, lambda *question: inside_only(*question) + 1e-12)
    assert result.breaks_guarantee


def test_attribution_of_an_open_model_lies_outside_too(at_level, study):
    result = attribution_inside(at_level("S0"), study, inside_only)
    assert result.outcome is Outcome.REPORTED
    assert result.numbers["inside_share"].estimate < 1


def test_integrated_gradients_add_up_to_the_change_of_the_logit(instrument, study):
    pytest.importorskip("captum", reason="captum is optional and not installed")
    from spinecls.verification.integrated_gradients import integrated_gradients

    crops = instrument.crops([study.question(study.chosen[0])])
    with torch.inference_mode():
        logits = [
            sum(reader.sealed_pass(c.images, c.pooled)[0][0, 1] for reader in instrument.readers)
            for c in (crops, crops.with_channels(torch.zeros_like(crops.images[:, :-1])))
        ]
    total = float(integrated_gradients(instrument, crops, 1).sum())
    assert total == pytest.approx(float(logits[0] - logits[1]), rel=0.1, abs=0.02)


class Direct:
    """A stand-in whose sealed grid is the box of the region."""

    def native_evidence(self, question, evidence):
        return np.where(question.region.mask, evidence, 0), question.region


def lesion_study(strongest, truth=1):
    """One vertebra with a lesion in voxel (1, 2, 2) of its region; spacing 4 x 2 x 1.4 mm, an oblique grid."""
    grid = Geometry(shape=SHAPE, spacing_mm=(4.0, 2.0, 1.4), origin_lps=(5.0, 6.0, 7.0), direction=OBLIQUE)
    mask = np.ones(SHAPE, bool)
    lesion = np.zeros(SHAPE, bool)
    lesion[1, 2, 2] = True
    evidence = np.zeros((1, 2, *SHAPE), np.float32)
    evidence[(0, 1, *strongest)] = 1
    probabilities = np.array([[0.4, 0.6]])
    scan = Scan(
        identifier="case",
        patient="patient",
        image=np.zeros((1, *SHAPE), np.float32),
        grid=grid,
        regions=(Region(mask, (0, 0, 0), grid, "mask"),),
        marrow=np.array([[0.0, 1.0]]),
        answers=Answers(probabilities[None], probabilities, evidence),
        truth=(truth,),
        lesions={1: lesion},
    )
    return Study((scan,), (Place(0, 0),), 1, 0)


@pytest.mark.parametrize(
    ("strongest", "hit"),
    [((1, 2, 2), 1), ((1, 2, 4), 1), ((1, 3, 3), 1), ((1, 2, 5), 0), ((1, 4, 2), 0), ((0, 2, 2), 0)],
    ids=["on it", "2.8 mm", "2.4 mm", "4.2 mm", "4 mm", "next slice, 4 mm"],
)
def test_a_hit_is_within_three_millimetres(strongest, hit):
    assert evidence_on_lesions(Direct(), lesion_study(strongest)).numbers["hit_rate"].estimate == hit


def test_chance_of_a_hit_is_the_share_of_voxels_so_near():
    # Around (2, 2) of the slice: the five of its row, three of each neighbouring row (2.44 mm), no more slices.
    result = evidence_on_lesions(Direct(), lesion_study((1, 2, 2)))
    assert result.numbers["hit_chance"].estimate == pytest.approx(11 / np.prod(SHAPE))


def test_precision_of_evidence_on_the_lesion_alone_is_one():
    result = evidence_on_lesions(Direct(), lesion_study((1, 2, 2)))
    assert result.numbers["average_precision"].estimate == 1
    assert result.numbers["average_precision_chance"].estimate == pytest.approx(1 / np.prod(SHAPE))


def test_a_lesion_in_a_vertebra_of_another_class_is_a_neighbours():
    assert evidence_on_lesions(Direct(), lesion_study((1, 2, 2), truth=0)).outcome is Outcome.NOT_APPLICABLE


def test_without_outlines_hits_are_not_applicable(instrument, study):
    bare = dataclasses.replace(study, scans=tuple(dataclasses.replace(s, lesions={}) for s in study.scans))
    assert evidence_on_lesions(instrument, bare).outcome is Outcome.NOT_APPLICABLE
