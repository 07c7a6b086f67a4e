"""The baseline plus a vertebra map, which at prediction gives instances and regions."""

from __future__ import annotations

from spinecls.tasks.base import WeightedTask
from spinecls.tasks.open_tasks import VertebraMapTask
from spinecls.trainers.base import TRAINERS
from spinecls.trainers.baseline import BaselineTrainer


@TRAINERS.register
class AuxSegTrainer(BaselineTrainer):
    """Baseline and segmentation of the vertebrae."""

    regions_from_masks = True

    def build_tasks(self) -> list[WeightedTask]:
        return [*super().build_tasks(), WeightedTask(VertebraMapTask(self.plan, self.configuration))]
