"""The baseline with auxiliary tasks, which regularise what few annotated vertebrae leave open."""

from __future__ import annotations

from spinecls.tasks.adjacency import NonAdjacencyTask
from spinecls.tasks.lesion_evidence import LesionEvidenceTask, lesion_codes
from spinecls.tasks.open_tasks import VertebraMapTask
from spinecls.tasks.reconstruction import ReconstructionTask, SealedReconstructionTask
from spinecls.tasks.structures import SealedStructuresTask, StructuresTask
from spinecls.tasks.task import WeightedTask
from spinecls.trainers.baseline import BaselineTrainer
from spinecls.trainers.trainer import TRAINERS, Trainer


@TRAINERS.register
class AuxSegTrainer(BaselineTrainer):
    """Baseline and voxel labels: the vertebrae, and where they are drawn other structures and lesions.

    The vertebra map is kept at prediction, where it gives regions and instances. Lesions of a class supervise the
    evidence of that class, in the readers. Other structures are learnt by the finder and, as far as they lie in the
    regions of vertebrae, by the readers.
    """

    regions_from_masks = True

    def build_tasks(self) -> list[WeightedTask]:
        tasks = [*super().build_tasks(), WeightedTask(VertebraMapTask(self.plan, self.configuration))]
        classes = len(self.plan.class_names) > 1
        # What is nothing but lesions is too little of a patch to be learnt there, and is learnt as evidence.
        if set(self.plan.structures) - (set(self.plan.lesion_structures) if classes else set()):
            tasks.append(WeightedTask(StructuresTask(self.plan, self.configuration)))
            if classes:
                tasks.append(WeightedTask(SealedStructuresTask(self.plan, self.configuration)))
        if classes and any(lesion_codes(self.plan)):
            tasks.append(WeightedTask(LesionEvidenceTask(self.plan, self.configuration)))
        return tasks


class Autoencoding(Trainer):
    """Adds what is learnt from images as such, annotated or not, and from crops; to be mixed into a trainer."""

    def build_tasks(self) -> list[WeightedTask]:
        tasks = [
            *super().build_tasks(),
            WeightedTask(ReconstructionTask(self.plan, self.configuration)),
            WeightedTask(NonAdjacencyTask(self.plan, self.configuration)),
        ]
        if len(self.plan.class_names) > 1:
            tasks.append(WeightedTask(SealedReconstructionTask(self.plan, self.configuration)))
        return tasks


@TRAINERS.register
class AuxAETrainer(Autoencoding, BaselineTrainer):
    """Baseline and autoencoder."""


@TRAINERS.register
class AuxSegAETrainer(Autoencoding, AuxSegTrainer):
    """Baseline, segmentation and autoencoder."""


@TRAINERS.register
class PretrainAETrainer(Trainer):
    """The autoencoder of the finder alone, on all scans of the fold and those without annotation.

    Its weights are a start for another trainer, by `-pretrained_weights`; they predict nothing.
    """

    final_name = "checkpoint_pretrained.pt"

    def build_tasks(self) -> list[WeightedTask]:
        return [WeightedTask(ReconstructionTask(self.plan, self.configuration))]
