"""A trainer that learns the class alone, in regions cut by the drawn maps: for experiments that need no localiser."""

from spinecls.tasks.base import WeightedTask
from spinecls.tasks.classification import ClassificationTask
from spinecls.trainers.base import Trainer


class ClassOnlyTrainer(Trainer):
    """The sealed pass alone; what it predicts has to be told where the vertebrae are."""

    regions_from_masks = True

    def build_tasks(self) -> list[WeightedTask]:
        return [WeightedTask(ClassificationTask(self.plan, self.configuration))]
