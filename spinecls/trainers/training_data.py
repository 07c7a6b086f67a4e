"""Loading of what a fold is trained from, whole, into memory: spine MRI is small enough."""

from __future__ import annotations

import dataclasses
import logging

from spinecls.dataloading.cases import labelled_regions, sealed_sources, training_case
from spinecls.dataloading.compiled import AnnotationCompiler
from spinecls.dataloading.loader import TrainingData
from spinecls.dataloading.readings import readers_of
from spinecls.errors import DatasetError, counted
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import Configuration, Plan
from spinecls.records import EXACT
from spinecls.trainers.placement import lacks_places
from spinecls.trainers.refinement import Expected, expected_of

logger = logging.getLogger(__name__)

TRUSTED_FORMS = ("mask", "point", "box", "slices", "scribble", "none")
"""Forms of vertebra annotation that training treats as what they are; others are trained as if drawn exactly."""

BELIEVED_FORMS = (*TRUSTED_FORMS, "coarse", "probability")
"""Those of trainers that learn from beliefs."""


def load_training_data(
    stored: StoredCases,
    plan: Plan,
    configuration: Configuration,
    *,
    masks: bool,
    beliefs: bool = False,
    images: StoredCases | None = None,
    expected: Expected | None = None,
) -> TrainingData:
    """Cases in memory.

    Parameters
    ----------
    masks : whether sealed crops are cut around masks
    beliefs : whether it is to be said what loose annotation tells of each voxel, and who read what
    images : scans without annotation to learn from as images, beside those with one; None = no task does
    expected : by case and level the class probabilities by an earlier round; None = there was none
    """
    readers = readers_of(stored.dataset_folder, stored.identifiers, plan, expected) if beliefs else None
    # Passes of its own: what is drawn exactly is the measure of what is not, and cases are not kept in memory.
    compiler = AnnotationCompiler(stored, plan) if beliefs else None
    every, sealed, unplaced, forms = [], [], [], set()
    for read in stored:
        case = read if compiler is None else compiler.placed(read)
        forms.add((case.annotation_form.vertebrae or EXACT).form)
        unplaced += [case] if lacks_places(case) else []
        trained = training_case(case, plan)
        trained = trained if compiler is None else compiler(case, trained)
        told = expected_of(expected, case.identifier)
        if len(plan.class_names) > 1:
            regions = labelled_regions(case, trained, plan, readers, told)
            trained = dataclasses.replace(trained, classes=regions)
        every.append(trained)
        sealed += sealed_sources(case, plan, configuration, masks, readers, told)
    seen = [] if images is None else every + [training_case(case, plan) for case in images]
    placed = [case for case in every if len(case.centres)]
    moved = () if compiler is None else tuple(compiler.moved)
    data = TrainingData(placed, sealed, seen, unplaced, readers, expected, moved)
    _require_anything(data, len(plan.class_names))
    _tell(data, forms - set(BELIEVED_FORMS if beliefs else TRUSTED_FORMS))
    return data


def _require_anything(data: TrainingData, num_classes: int) -> None:
    if not data.cases:
        raise DatasetError(
            "No training case has the position of a vertebra. Give a vertebra map (labelsTr) or centres "
            "(x_mm, y_mm, z_mm in vertebraeTr.csv) for about ten cases."
        )
    if num_classes > 1 and not data.sealed and not data.unplaced:
        raise DatasetError("No training vertebra has a class. Fill the column class of vertebraeTr.csv.")


def _tell(data: TrainingData, other_forms: set[str]) -> None:
    """Say what is learnt from otherwise than it might seem."""
    if data.unplaced:
        logger.info(
            "Vertebrae with a class and no position, in %s, are looked for when the finder has learnt.",
            counted(len(data.unplaced), "case"),
        )
    if other_forms:
        logger.warning("Annotation of the form %s is trained as if drawn exactly.", ", ".join(sorted(other_forms)))
