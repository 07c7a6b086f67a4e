"""The task of the sealed pass: the class of a vertebra from its own voxels."""

from __future__ import annotations

import torch

from spinecls.dataloading.batch import Batch
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.base import Outputs, Task
from spinecls.tasks.losses import adjusted_log_probabilities, belief_loss

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


class ClassificationTask(Task):
    """Class of a vertebra, by the logit-adjusted loss of its beliefs."""

    name = "class"
    sealed = True

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        self.log_prior = drawn_prior(plan, configuration).log()
        self.q = configuration.class_q

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        log_prior = self.log_prior.to(outputs.logits.device)
        adjusted = adjusted_log_probabilities(outputs.logits, log_prior, self.configuration.logit_adjustment)
        return belief_loss(adjusted, batch.sealed.sets, batch.sealed.masses, self.q)
