"""Reading of the cases that are examined: images, what is annotated of them, and what the model finds in them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spinecls.errors import DatasetError, SpineclsError, UsageError, counted
from spinecls.evaluation.matching import DETECTION_RADIUS_MM, CaseTruth
from spinecls.evaluation.truth import truth_of
from spinecls.inference.case_results import Located
from spinecls.inference.models import TrainedModel, checkpoint_hashes
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_image, read_label_map
from spinecls.io.input_files import find_inputs
from spinecls.planning.plan import Plan
from spinecls.records import Case, DatasetDescription
from spinecls.verification.instrument import Instrument, Question
from spinecls.verification.study import Scan, Study, evenly, spread

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A case that may be examined; `annotated` where it is one of a dataset, with the description of that."""

    identifier: str
    patient: str
    images: tuple[Path, ...]
    annotated: tuple[Case, DatasetDescription] | None = None


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Cases to choose from; `held_out` is whether the model learned from none of them, None = not known."""

    sources: Sequence[Source]
    held_out: bool | None = None

    @property
    def note(self) -> str:
        """What the examined cases are to the model."""
        if self.held_out is None:
            return "Whether the model learned from these cases is not known."
        if self.held_out:
            return "The model did not learn from these cases."
        return (
            "The model, or some of its folds, learned from these cases: the guarantees do not depend on it, but "
            "lesions are found more easily. Choose one fold by -f to examine the cases that it did not learn from."
        )


def images_cohort(source: Path, plan: Plan) -> Cohort:
    """Images of a folder, or one image; nothing is known of them."""
    inputs = find_inputs(source, len(plan.channel_names))
    for case, reason in inputs.failed.items():
        logger.warning("%s is left out: %s", case, reason)
    for line in inputs.skipped_lines:
        logger.warning(line)
    return Cohort(
        sources=[Source(identifier=c.identifier, patient=c.identifier, images=c.images) for c in inputs.cases]
    )


def dataset_cohort(folder: Path, plan: Plan, model: TrainedModel) -> Cohort:
    """Annotated cases of a raw dataset: those that a single fold did not learn from where it says which, else all.

    Raises
    ------
    UsageError
        When the dataset's classes or number of channels are not the model's.
    """
    raw = load_dataset(folder, verify_voxels=False)
    description = raw.description
    if tuple(description.class_names) != tuple(plan.class_names):
        raise UsageError(
            f"-d {folder}: its classes are {', '.join(description.class_names)}, the model's "
            f"{', '.join(plan.class_names)}. Give the images alone by -i {folder / 'imagesTr'}."
        )
    if len(description.channel_names) != len(plan.channel_names):
        raise UsageError(
            f"-d {folder}: {len(description.channel_names)} channels, the model needs {len(plan.channel_names)} "
            f"({', '.join(plan.channel_names)})."
        )
    sources = [
        Source(identifier=c.identifier, patient=c.patient, images=c.images, annotated=(c, description))
        for c in raw.cases
    ]
    unseen = _held_out_cases(model)
    kept = [source for source in sources if source.identifier in unseen]
    if kept and model.dataset == folder.name:
        return Cohort(sources=kept, held_out=True)
    return Cohort(sources=sources, held_out=False if model.dataset == folder.name else None)


def _held_out_cases(model: TrainedModel) -> set[str]:
    """Validation cases of a model of one fold; of several folds every case was learned by some."""
    if len(model.folds) != 1:
        return set()
    fold = model.fold(model.folds[0])
    return {path.stem for path in fold.validation.glob("*.json")} - {fold.summary.stem}


def build_study(instrument: Instrument, cohort: Cohort, vertebrae: int, donors: int, seed: int) -> Study:
    """Read and predict cases, and choose vertebrae evenly over them.

    A case that cannot be read, or in which nothing is found, is left out with a warning.

    Parameters
    ----------
    vertebrae : how many at most are examined closely, and so how many cases at most are read

    Raises
    ------
    DatasetError
        When no vertebra is found in any case.
    """
    scans = []
    for source in tqdm(spread(cohort.sources, vertebrae), desc="read and locate", unit="case", disable=None):
        try:
            scan = read_scan(instrument, source)
        except SpineclsError as error:
            logger.warning("%s is left out: %s", source.identifier, error)
            continue
        if scan is None:
            logger.warning("%s is left out: the model finds no vertebra in it.", source.identifier)
            continue
        scans.append(scan)
    if not scans:
        raise DatasetError(
            f"No vertebra was found in {counted(len(cohort.sources), 'case')}, so there is nothing to examine. Give "
            "images like those that the model learned from."
        )
    chosen = evenly([len(scan.regions) for scan in scans], vertebrae, np.random.default_rng(seed))
    annotated = any(source.annotated is not None for source in cohort.sources)
    return Study(tuple(scans), chosen, donors, seed, annotated)


def read_scan(instrument: Instrument, source: Source) -> Scan | None:
    """One case with the model's output; None when no vertebra is found."""
    predictor = instrument.predictor
    volume = read_image(source.images, register=predictor.plan.register_channels)
    image = np.asarray(volume.array, np.float32)
    located = predictor.locate(image, volume.geometry)
    if not located.regions:
        return None
    questions = [
        Question(image=image, grid=volume.geometry, region=region, marrow=located.marrow) for region in located.regions
    ]
    truth: tuple[int | None, ...] = (None,) * len(questions)
    lesions: Mapping[int, np.ndarray] = {}
    if source.annotated is not None:
        truth = classes_at(located, truth_of(*source.annotated))
        lesions = _lesions(*source.annotated, volume.array.shape[1:])
    return Scan(
        identifier=source.identifier,
        patient=source.patient,
        image=image,
        grid=volume.geometry,
        regions=located.regions,
        marrow=located.marrow,
        answers=instrument.ask(questions),
        truth=truth,
        lesions=lesions,
    )


def classes_at(located: Located, truth: CaseTruth) -> tuple[int | None, ...]:
    """Annotated class of what lies at each located centre, whatever name the model gives it; None within 10 mm of none.

    The class belongs to a piece of bone: one that is named one level off is still the same bone.
    """
    return tuple(None if level is None else truth.classes.get(level) for level in levels_at(located, truth))


def levels_at(located: Located, truth: CaseTruth) -> tuple[str | None, ...]:
    """Annotated name of what lies at each located centre; None within 10 mm of none."""
    levels = list(truth.centres_lps)
    if not levels:
        return (None,) * len(located.regions)
    annotated = np.array([truth.centres_lps[level] for level in levels])
    distance_mm = np.linalg.norm(located.centres_lps[:, None] - annotated[None], axis=2)
    nearest = distance_mm.argmin(axis=1)
    return tuple(
        levels[column] if distance_mm[row, column] <= DETECTION_RADIUS_MM else None
        for row, column in enumerate(nearest)
    )


def _lesions(case: Case, description: DatasetDescription, shape: tuple[int, ...]) -> Mapping[int, np.ndarray]:
    """Outlines of a case by the class that they show."""
    if case.structure_map is None or not description.lesion_structures:
        return {}
    structures, _ = read_label_map(case.structure_map)
    if structures.shape != tuple(shape):
        raise DatasetError(
            f"{case.structure_map}: grid {structures.shape}, that of the image is {tuple(shape)}. Run spinecls_check."
        )
    outlines: dict[int, np.ndarray] = {}
    for structure, shown in description.lesion_structures.items():
        target = description.class_names.index(shown)
        drawn = structures == description.structures[structure]
        outlines[target] = outlines.get(target, np.zeros_like(drawn)) | drawn
    return outlines


def model_identity(model: TrainedModel, instrument: Instrument) -> dict:
    """What was examined, for the report."""
    return {
        "name": model.name,
        "folds": list(model.folds),
        "seal": instrument.seal,
        "pooling": instrument.predictor.configuration.pooling,
        "checkpoints": checkpoint_hashes(model),
    }
