"""The task that ties drawn lesions to the evidence of the class."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from spinecls.dataloading.batch import SealedBatch
from spinecls.dataloading.cases import UNKNOWN, SealedSource
from spinecls.dataloading.sealed_crops import CropSampler
from spinecls.dataloading.targets import Target
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.structures import codes_target, no_codes
from spinecls.tasks.task import CropOutputs, SealedTask


class LesionEvidenceTask(SealedTask):
    """Evidence of a class is positive on the drawn lesions that show it and negative elsewhere in the region.

    A voxel label so supervises the very map that the class is pooled from. Of grades there is one map, the severity;
    every drawn lesion raises it.
    """

    name = "lesion"
    share = 1.0

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        self.codes = lesion_codes(plan)

    def target(self, case: SealedSource, sampler: CropSampler) -> Target | None:
        return codes_target(case.lesions, sampler)

    def empty(self) -> Target:
        return no_codes(self.size)

    def loss(self, outputs: CropOutputs, batch: SealedBatch) -> torch.Tensor:
        return lesion_loss(outputs.evidence, batch.targets[self.name]["codes"], batch.pooled, self.codes)


def lesion_codes(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """For each evidence map the codes of the structures that show its class; empty for a class that none shows."""
    shown: dict[str, list[int]] = {name: [] for name in plan.class_names[1:]}
    for structure, class_name in plan.lesion_structures.items():
        if class_name in shown:
            shown[class_name].append(plan.structures[structure])
    codes = tuple(tuple(class_codes) for class_codes in shown.values())
    return (sum(codes, ()),) if plan.class_order else codes


def lesion_loss(
    evidence: torch.Tensor, lesions: torch.Tensor, counted: torch.Tensor, codes: tuple[tuple[int, ...], ...]
) -> torch.Tensor:
    """Binary cross entropy of the evidence, what is drawn in a crop weighing as much as all that is not.

    So a small lesion counts as much as a large one, and a vertebra without any half as much as one that has.

    Parameters
    ----------
    evidence : (N, E, s, r, a) logits
    lesions : (N, s, r, a) long, codes of structures, `UNKNOWN` where none were drawn
    counted : (N, s, r, a) bool, voxels whose evidence counts
    codes : one tuple an evidence map

    Returns
    -------
    Scalar: mean over the maps of which something is drawn; 0 (with a gradient of 0) when nothing is
    """
    known = counted & (lesions != UNKNOWN)
    losses = []
    for channel, shown in enumerate(codes):
        if not shown or not bool(known.any()):
            continue
        target = torch.isin(lesions, torch.tensor(shown, device=lesions.device))
        cost = functional.binary_cross_entropy_with_logits(evidence[:, channel], target.float(), reduction="none")
        drawn, others = _means(cost, known & target), _means(cost, known & ~target)
        losses.append((drawn.sum() + others.sum()) / (len(drawn) + len(others)))
    return torch.stack(losses).mean() if losses else 0 * evidence.sum()


def _means(cost: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(M,) mean cost over the chosen voxels of each of the M crops that have any."""
    counts = chosen.flatten(1).sum(dim=1)
    sums = (cost * chosen).flatten(1).sum(dim=1)
    return sums[counts > 0] / counts[counts > 0]
