"""Classes of vertebrae learnt by the finder, from patches that show their surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from spinecls.beliefs import Belief, partly_visible
from spinecls.dataloading.batch import OpenBatch
from spinecls.dataloading.cases import TrainingCase
from spinecls.dataloading.open_patches import OpenSampler
from spinecls.dataloading.targets import Target
from spinecls.networks.finder import Finder
from spinecls.networks.grades import CumulativeLink
from spinecls.networks.pooling import POOLINGS
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.classification import class_prior
from spinecls.tasks.losses import adjusted_log_probabilities, belief_loss
from spinecls.tasks.open_targets import vertebra_numbers
from spinecls.tasks.task import OpenOutputs, OpenTask

CLASS_SHOWN = 0.5
"""Share of a vertebra that an open patch must show for its class to be learnt there."""


@dataclass
class ClassRegions:
    """The M vertebrae of open patches of whose class something is believed.

    Attributes
    ----------
    numbers : (B, S, R, A) long, which vertebra of its patch a voxel belongs to, 0 = none
    patch, number : (M,) long, where each of the vertebrae is
    sets : (M, R, K) bool; masses : (M, R)
    """

    numbers: torch.Tensor
    patch: torch.Tensor
    number: torch.Tensor
    sets: torch.Tensor
    masses: torch.Tensor


def _shown_labels(case: TrainingCase, numbers: np.ndarray, sampler: OpenSampler) -> dict[int, Belief]:
    """Beliefs about the classes of the vertebrae that a patch shows, by number; the less of them the less is believed.

    Parameters
    ----------
    numbers : `vertebra_numbers` of the patch
    """
    # A voxel of the patch stands for so many of the map.
    shown = abs(np.linalg.det(sampler.step)) * np.bincount(numbers.ravel(), minlength=len(case.classes) + 1)[1:]
    shares = shown / [max(region.voxels, 1) for region in case.classes]
    return {
        row + 1: partly_visible(region.label, float(share))
        for row, (region, share) in enumerate(zip(case.classes, shares, strict=True))
        if share >= CLASS_SHOWN and region.label.weight > 0
    }


def _class_regions(rows: Sequence[Target]) -> ClassRegions | None:
    """Vertebrae of all patches; None when nothing is believed of any of them."""
    labelled = [(patch, number, label) for patch, row in enumerate(rows) for number, label in row["labels"].items()]
    if not labelled:
        return None
    return ClassRegions(
        numbers=torch.from_numpy(np.stack([row["numbers"] for row in rows])).long(),
        patch=torch.tensor([patch for patch, _, _ in labelled]),
        number=torch.tensor([number for _, number, _ in labelled]),
        sets=torch.from_numpy(np.stack([label.sets for _, _, label in labelled])),
        masses=torch.from_numpy(np.stack([label.masses for _, _, label in labelled])),
    )


class OpenClassPooling(nn.Module):
    """From evidence of the open pass to the classes of vertebrae, as the sealed head does from that of its crops.

    Attention looks at features, which the open pass does not give out; the soft maximum stands for it.
    """

    def __init__(self, num_classes: int, pooling: str, ordinal: bool) -> None:
        super().__init__()
        self.pooling = POOLINGS["lse" if pooling == "attention" else pooling](1 if ordinal else num_classes - 1)
        self.link = CumulativeLink(num_classes) if ordinal else None

    def forward(self, evidence: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """(M, K) logits of (M, E, S, R, A) evidence in (M, S, R, A) bool regions."""
        pooled = self.pooling(evidence, regions)
        if self.link is not None:
            return self.link(pooled[:, 0])
        return torch.cat([torch.zeros_like(pooled[:, :1]), pooled], dim=1)


class OpenClassTask(OpenTask):
    """Class of the vertebrae in open patches, from evidence that sees their surroundings; dropped at prediction.

    It shapes the finder only: what is predicted comes from the readers. Who read what is not told apart.
    """

    name = "open_class"
    predicts = False

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        # Open patches show vertebrae as they come; crops are drawn more evenly over the classes.
        self.log_prior = class_prior(plan).log()

    def dense_heads(self) -> dict[str, int]:
        return {self.name: 1 if self.plan.class_order else len(self.plan.class_names) - 1}

    def module(self) -> nn.Module:
        return OpenClassPooling(len(self.plan.class_names), self.configuration.pooling, self.plan.class_order)

    def bind(self, network: Finder) -> None:
        self.pooling = network.auxiliary[self.name]

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target | None:
        if not case.classes:
            return None
        numbers = vertebra_numbers(case, sampler)
        return {"numbers": numbers, "labels": _shown_labels(case, numbers, sampler)}

    def empty(self) -> Target:
        return {"numbers": np.zeros(self.size, np.uint8), "labels": {}}

    def batched(self, rows: Sequence[Target]) -> dict[str, ClassRegions | None]:
        return {"classes": _class_regions(rows)}

    def loss(self, outputs: OpenOutputs, batch: OpenBatch) -> torch.Tensor:
        evidence = outputs.open[self.name]
        classes: ClassRegions | None = batch.targets[self.name]["classes"]
        if classes is None:
            return 0 * evidence.sum()
        regions = classes.numbers[classes.patch] == classes.number[:, None, None, None]
        logits = self.pooling(evidence[classes.patch], regions)
        log_prior = self.log_prior.to(logits.device)
        adjusted = adjusted_log_probabilities(logits, log_prior, self.configuration.logit_adjustment)
        return belief_loss(adjusted, classes.sets, classes.masses, self.configuration.class_q)
