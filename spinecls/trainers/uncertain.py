"""Learning from annotation that is loose, partial or contradictory."""

from __future__ import annotations

from spinecls.tasks.classification import ClassificationTask
from spinecls.tasks.loose_tasks import (
    BelievedMapTask,
    BelievedStructuresTask,
    ConsistencyTask,
    ReaderClassificationTask,
)
from spinecls.tasks.open_class import OpenClassTask
from spinecls.tasks.open_tasks import VertebraMapTask
from spinecls.tasks.structures import StructuresTask
from spinecls.tasks.task import Task, WeightedTask
from spinecls.trainers.auxiliary import Autoencoding, AuxSegTrainer
from spinecls.trainers.trainer import TRAINERS

CONSISTENCY_WEIGHT = 0.1


@TRAINERS.register
class UncertainLabelsTrainer(AuxSegTrainer):
    """Voxels count as far as their annotation is sure, regions by their size, readers by how often they are right.

    Boxes, points, scribbles, coarse outlines and some slices all teach where vertebrae are (`dataloading.forms`). With
    known readers (`Plan.readers`) a class counts as far as they make it likely: they are judged by each other before
    (`Plan.readers_judged`), or each has a matrix that is learnt along.
    """

    learns_beliefs = True

    def build_tasks(self) -> list[WeightedTask]:
        instead: dict[type[Task], type[Task]] = {
            VertebraMapTask: BelievedMapTask,
            StructuresTask: BelievedStructuresTask,
        }
        if self.plan.readers and not self.plan.readers_judged:
            instead[ClassificationTask] = ReaderClassificationTask
        tasks = []
        for weighted in super().build_tasks():
            kind = instead.get(type(weighted.task))
            task = weighted.task if kind is None else kind(self.plan, self.configuration)
            tasks.append(WeightedTask(task, weighted.weight))
        tasks.append(WeightedTask(ConsistencyTask(self.plan, self.configuration), CONSISTENCY_WEIGHT))
        if len(self.plan.class_names) > 1:
            # Without a weight until somebody asks for it: whether it helps has not been measured.
            tasks.append(WeightedTask(OpenClassTask(self.plan, self.configuration), 0.0))
        return tasks


@TRAINERS.register
class UncertainLabelsAETrainer(Autoencoding, UncertainLabelsTrainer):
    """The same and the autoencoder."""
