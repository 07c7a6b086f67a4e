"""The baseline: locate, name, and classify by sealed crops around ellipsoids."""

from __future__ import annotations

from spinecls.tasks.classification import ClassificationTask
from spinecls.tasks.open_tasks import CentreTask, LevelTask
from spinecls.tasks.task import WeightedTask
from spinecls.trainers.trainer import TRAINERS, Trainer


@TRAINERS.register
class BaselineTrainer(Trainer):
    """Centres, levels and classes; needs centres only."""

    def build_tasks(self) -> list[WeightedTask]:
        tasks = [
            WeightedTask(CentreTask(self.plan, self.configuration)),
            WeightedTask(LevelTask(self.plan, self.configuration), 0.3),
        ]
        if len(self.plan.class_names) > 1:
            tasks.append(WeightedTask(ClassificationTask(self.plan, self.configuration)))
        return tasks
