"""Trainers that learn the class alone, in regions cut by the drawn maps: for experiments that need no localiser."""

import dataclasses

from spinecls.planning.plan import Configuration
from spinecls.tasks.classification import ClassificationTask
from spinecls.tasks.task import WeightedTask
from spinecls.trainers.open_baseline import with_context
from spinecls.trainers.trainer import Trainer


class ClassOnlyTrainer(Trainer):
    """The sealed pass alone; what it predicts has to be told where the vertebrae are."""

    regions_from_masks = True

    def build_tasks(self) -> list[WeightedTask]:
        return [WeightedTask(ClassificationTask(self.plan, self.configuration))]


class OpenClassOnlyTrainer(ClassOnlyTrainer):
    """The same with open crops that show the surroundings, as those of `OpenBaselineTrainer` do."""

    seal = "S0"

    @classmethod
    def configured(cls, configuration: Configuration) -> Configuration:
        return dataclasses.replace(with_context(configuration), seal="S0")
