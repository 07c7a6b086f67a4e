"""The task of the sealed pass: the class of a vertebra from its own voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spinecls.beliefs import MAX_SETS
from spinecls.dataloading.batch import SealedBatch
from spinecls.dataloading.cases import SealedSource
from spinecls.dataloading.sealed_crops import CropSampler
from spinecls.dataloading.targets import Target, stacked
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.losses import adjusted_log_probabilities, belief_loss
from spinecls.tasks.task import CropOutputs, SealedTask

LARGEST_PRIOR_RATIO = 100.0


def class_prior(plan: Plan) -> torch.Tensor:
    """(K,) share of each class among the training vertebrae, plus-one smoothed and limited to a ratio of 100."""
    counts = torch.tensor([float(plan.class_counts.get(name, 0)) for name in plan.class_names]) + 1
    counts = counts.clamp_min(counts.max() / LARGEST_PRIOR_RATIO)
    return counts / counts.sum()


def drawn_prior(plan: Plan, configuration: Configuration) -> torch.Tensor:
    """(K,) share of each class among the crops that training draws, a part of which is drawn evenly over classes."""
    natural = class_prior(plan)
    share = configuration.balanced_crop_share
    return (1 - share) * natural + share / len(natural)


class ClassificationTask(SealedTask):
    """Class of a vertebra, by the logit-adjusted loss of its beliefs."""

    name = "class"

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        self.log_prior = drawn_prior(plan, configuration).log()
        self.q = configuration.class_q

    def target(self, case: SealedSource, sampler: CropSampler) -> Target:
        return {"sets": case.label.sets, "masses": case.label.masses, "readers": case.label.readers}

    def empty(self) -> Target:
        classes = len(self.plan.class_names)
        return {
            "sets": np.zeros((MAX_SETS, classes), bool),
            "masses": np.zeros(MAX_SETS, np.float32),
            "readers": np.full(MAX_SETS, -1),
        }

    def batched(self, rows: Sequence[Target]) -> dict[str, torch.Tensor]:
        """What `beliefs.Belief` has, of N vertebrae: `sets` (N, R, K), `masses` and `readers` (N, R).

        How many sets there are, R, is not known before: where readers are told apart there is one for each reading.
        """
        return stacked(rows)

    def loss(self, outputs: CropOutputs, batch: SealedBatch) -> torch.Tensor:
        log_prior, wanted = self.log_prior.to(outputs.logits.device), batch.targets[self.name]
        adjusted = adjusted_log_probabilities(outputs.logits, log_prior, self.configuration.logit_adjustment)
        return belief_loss(adjusted, wanted["sets"], wanted["masses"], self.q)
