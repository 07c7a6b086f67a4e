"""Check that the evidence comes from what the network has learned: new random weights must give another map."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from spinecls.networks.model import SpineModel
from spinecls.networks.reader import Reader
from spinecls.verification.check_results import CheckResult, Outcome, mean_over_patients
from spinecls.verification.instrument import Instrument
from spinecls.verification.measures import spearman
from spinecls.verification.study import Study

LARGEST_CORRELATION = 0.2
JUDGED_BLOCKS = 2
DRAWS = 3
"""Random networks for each depth; a single one may resemble the trained one by chance."""


def _output_blocks(reader: Reader) -> list[tuple[str, list[nn.Module]]]:
    """Blocks of a reader from the output down: the evidence head, then the decoder's stages."""
    decoder = reader.backbone.unet.decoder
    stages = list(zip(decoder.stages, decoder.transpconvs, strict=True))[::-1]
    return [("evidence head", [reader.evidence])] + [
        (f"decoder stage {number}", list(modules)) for number, modules in enumerate(stages, start=1)
    ]


def randomised(model: SpineModel, seed: int) -> Iterator[tuple[str, SpineModel]]:
    """Copies of a model in each of whose readers one more block, from the output down, has new weights."""
    changed = copy.deepcopy(model)
    for number, (name, _) in enumerate(_output_blocks(model.readers[0])):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            for block in (block for reader in changed.readers for block in _output_blocks(reader)[number][1]):
                for module in block.modules():
                    if callable(reset := getattr(module, "reset_parameters", None)):
                        reset()
        yield name, changed


def model_randomisation(instrument: Instrument, study: Study) -> CheckResult:
    """Rank correlation of the evidence, inside the region, with that of ever more random networks.

    Cascading randomisation of Adebayo et al., NeurIPS 2018, on the first fold; the mean of the absolute correlations
    over vertebrae and random draws is judged once the two top blocks are new.
    """
    model = instrument.models[0]
    crops = instrument.crops([study.question(place) for place in study.chosen])
    counted = crops.pooled.numpy()
    patients = [study.patient(place) for place in study.chosen]
    original = instrument.answer(crops, [model])
    targets = original.lesion_classes
    correlations: dict[str, list[list[float]]] = {}
    for draw in range(DRAWS):
        for name, changed in randomised(model, study.seed + 1000 * draw):
            evidence = instrument.answer(crops, [changed]).evidence
            rows = [
                abs(spearman(original.evidence[row, k][counted[row]], evidence[row, k][counted[row]]))
                for row, k in enumerate(targets)
            ]
            correlations.setdefault(name, []).append(rows)
    numbers = {name: mean_over_patients(np.mean(rows, axis=0), patients) for name, rows in correlations.items()}
    depth = list(numbers)[min(JUDGED_BLOCKS, len(numbers)) - 1]
    judged = numbers[depth]
    return CheckResult(
        key="model_randomisation",
        title="evidence of randomised networks",
        outcome=Outcome.PASSED if judged.estimate < LARGEST_CORRELATION else Outcome.FAILED,
        numbers={depth: judged, **numbers},
        threshold=f"|rank correlation| < {LARGEST_CORRELATION} after the top {JUDGED_BLOCKS} blocks",
        sentence=(
            f"With new random weights down to {depth} the evidence has a mean absolute rank correlation of "
            f"{judged.estimate:.3f} with the trained network's."
        ),
    )
