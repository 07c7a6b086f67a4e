"""New weights, from the output down."""

import pytest
import torch

from spinecls.verification import randomisation
from spinecls.verification.check_results import Outcome


def changed_blocks(model, other):
    """First parts of the names of the parameters that differ."""
    before, after = model.state_dict(), other.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_blocks_lose_their_weights_one_after_the_other(instrument):
    model = instrument.models[0]
    depths = []
    for name, other in randomisation.randomised(model, seed=0):
        depths.append((name, changed_blocks(model, other)))
    assert [name for name, _ in depths] == ["evidence head", "decoder stage 1", "decoder stage 2"]
    readers = [f"readers.{number}." for number in range(2)]
    assert depths[0][1] == {f"{reader}evidence.{name}" for reader in readers for name in ("weight", "bias")}
    last = len(model.readers[0].backbone.unet.decoder.stages) - 1
    second = depths[1][1] - depths[0][1]
    decoder = "backbone.unet.decoder"
    for reader in readers:
        own = {name.removeprefix(reader) for name in second if name.startswith(reader)}
        assert own
        assert all(n.startswith((f"{decoder}.stages.{last}.", f"{decoder}.transpconvs.{last}.")) for n in own)
    assert not any(name.startswith("finder.") for _, names in depths for name in names)
    assert depths[2][1] > depths[1][1]


def test_the_trained_network_keeps_its_weights(instrument):
    model = instrument.models[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    list(randomisation.randomised(model, seed=0))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_map_that_does_not_depend_on_the_weights_fails(instrument, study, monkeypatch):
    def unchanged(model, seed):
        yield "evidence head", model
        yield "decoder stage 1", model

    monkeypatch.setattr(randomisation, "randomised", unchanged)
    result = randomisation.model_randomisation(instrument, study)
    assert result.outcome is Outcome.FAILED
    assert result.numbers["decoder stage 1"].estimate == pytest.approx(1)


def test_correlations_of_every_depth_are_told_and_the_second_is_judged(instrument, study):
    result = randomisation.model_randomisation(instrument, study)
    assert list(result.numbers) == ["decoder stage 1", "evidence head", "decoder stage 2"]
    assert all(0 <= value.estimate <= 1 for value in result.numbers.values())
    assert (result.outcome is Outcome.PASSED) == (result.numbers["decoder stage 1"].estimate < 0.2)
