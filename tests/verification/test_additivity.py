"""The logits are what the documented formula makes of the evidence."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from spinecls.networks.pooling import POOLINGS
from spinecls.networks.reader import Reader
from spinecls.planning.plan import NetworkPlan
from spinecls.verification import additivity
from spinecls.verification.check_results import Outcome
from spinecls.verification.instrument import Instrument

NETWORK = NetworkPlan(
    features=(4, 6), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3), (3, 3, 3)), convs_per_stage=1
)


@pytest.mark.parametrize("ordinal", [False, True], ids=["nominal", "grades"])
@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_the_second_implementation_agrees_with_the_reader(pooling, ordinal):
    torch.manual_seed(1)
    reader = Reader(NETWORK, 1, 4, {}, pooling, ordinal).eval()
    for parameter in reader.pooling.parameters():
        torch.nn.init.normal_(parameter)
    crops = torch.randn(1, 2, 4, 8, 8)
    counted = torch.rand(1, 4, 8, 8) > 0.4
    caught = []
    reader.pooling.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[2]))
    with torch.inference_mode():
        logits, evidence = reader.sealed_pass(crops, counted)
    again = additivity.recomputed_logits(reader, evidence[0].numpy(), caught[0][0].numpy(), counted[0].numpy())
    assert again == pytest.approx(logits[0].numpy(), abs=1e-5)


def test_the_soft_maximum_of_two_voxels_by_hand():
    torch.manual_seed(0)
    reader = Reader(NETWORK, 1, 2, {}).eval()
    sharpness = float(reader.pooling.sharpness.detach())
    evidence, counted = np.zeros((1, 1, 1, 3)), np.array([[[True, True, False]]])
    evidence[0, 0, 0] = [1.0, 0.0, 7.0]
    again = additivity.recomputed_logits(reader, evidence, evidence, counted)
    assert again[1] == pytest.approx(math.log((math.exp(sharpness) + 1) / 2) / sharpness)


def test_the_evidence_of_a_trained_model_adds_up(instrument, study):
    result = additivity.evidence_adds_up(instrument, study)
    assert result.outcome is Outcome.PASSED
    assert result.numbers["largest_difference"] < 1e-4
    assert result.numbers["voxels_outside"] == 0


def altered(instrument, number, sealed_pass):
    """The same model with another sealed pass of one of its readers."""
    model = copy.deepcopy(instrument.models[0])
    original = model.readers[number].sealed_pass
    model.readers[number].sealed_pass = lambda crops, pooled=None: sealed_pass(*original(crops, pooled))
    return Instrument(dataclasses.replace(instrument.predictor, models=[model]))


@pytest.mark.parametrize("number", [0, 1])
def test_a_logit_from_elsewhere_in_any_reader_breaks_the_guarantee(number, instrument, study):
    other = altered(instrument, number, lambda logits, evidence: (logits + torch.tensor([0, 1e-3, 0]), evidence))
    assert additivity.evidence_adds_up(other, study).breaks_guarantee


@pytest.mark.parametrize("number", [0, 1])
def test_evidence_outside_in_any_reader_breaks_the_guarantee(number, instrument, study):
    other = altered(instrument, number, lambda logits, evidence: (logits, evidence + 1e-30))
    result = additivity.evidence_adds_up(other, study)
    assert result.breaks_guarantee
    assert result.numbers["voxels_outside"] > 0
