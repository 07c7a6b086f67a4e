"""What passes between the stages: annotations of a raw dataset and predictions. Numbers and names, no images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinecls.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class ClassReading:
    """One reading of one vertebra: any of `classes` is meant, believed with mass `confidence`.

    An exact class is a tuple of one name; "one of these" has several; the missing mass 1 - confidence lies on all
    classes (nothing said).
    """

    classes: tuple[str, ...]
    confidence: float = 1.0
    reader: str = ""


@dataclass(frozen=True, kw_only=True)
class VertebraAnnotation:
    """What is known of one vertebra of one case; any part may be missing.

    Attributes
    ----------
    level : name of the level (`anatomy.LEVELS`)
    centre_lps : centre of the vertebra from the table, world millimetres; None when only the map or nothing says it
    box_lps : corners ((x, y, z) minimum, (x, y, z) maximum) from the table
    in_map : whether the vertebra map of the case has voxels of this level
    readings : classes given by readers; empty = not read
    """

    level: str
    centre_lps: tuple[float, float, float] | None = None
    box_lps: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    in_map: bool = False
    readings: tuple[ClassReading, ...] = ()

    @property
    def has_position(self) -> bool:
        return self.in_map or self.centre_lps is not None or self.box_lps is not None


@dataclass(frozen=True, kw_only=True)
class AnnotationForm:
    """How loosely something is annotated, see `io.annotation_forms.FORMS`; options are None where nobody said them.

    `order` is that of the keys in annotationsTr.json, in which they are written again.
    """

    form: str
    tolerance_mm: float | None = None
    slack_mm: float | None = None
    jitter_mm: float | None = None
    slices: tuple[int, ...] | None = None
    sure: bool | None = None
    order: tuple[str, ...] = field(default=(), compare=False)


EXACT = AnnotationForm(form="mask")
"""Form of what is outlined."""


@dataclass(frozen=True, kw_only=True)
class AnnotationForms:
    """Form of each kind of annotation of a case; None where nobody said it: then a map is exact. `order` as above."""

    vertebrae: AnnotationForm | None = None
    structures: AnnotationForm | None = None
    order: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One examination of a raw dataset.

    `images` holds one path a channel, in channel order; `vertebra_maps` one path a reader ("" without readers);
    `chance_map` the chance (0 to 1) of each voxel to belong to a vertebra.
    """

    identifier: str
    patient: str
    images: tuple[Path, ...]
    site: str = ""
    vertebra_maps: Mapping[str, Path] = field(default_factory=dict)
    chance_map: Path | None = None
    structure_map: Path | None = None
    vertebrae: tuple[VertebraAnnotation, ...] = ()
    annotation_form: AnnotationForms = field(default_factory=AnnotationForms)


@dataclass(frozen=True, kw_only=True)
class DatasetDescription:
    """The checked content of dataset.json.

    `class_names` in index order, index 0 = nothing found; `levels` and `structures` map names to codes in the maps;
    `lesion_structures` maps a structure to the class that it shows.
    """

    name: str
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    file_ending: str
    class_order: bool = False
    levels: Mapping[str, int] = field(default_factory=dict)
    structures: Mapping[str, int] = field(default_factory=dict)
    lesion_structures: Mapping[str, str] = field(default_factory=dict)
    vertebrae_complete: bool = True
    ignore_label: int = 255
    reference: str = ""
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """A raw dataset that passed its checks."""

    folder: Path
    description: DatasetDescription
    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def all_cases(self) -> tuple[Case, ...]:
        """Annotated cases, then those without any annotation."""
        return (*self.cases, *self.unlabelled)


NUMBERING_AMBIGUOUS = "numbering_ambiguous"
"""Flag of every vertebra of a case whose names could all be shifted."""

UNSURE = "unsure"
"""Flag of a vertebra whose class is among the least certain fifth, by what validation has shown."""

TRUNCATED = "truncated"
"""Flag of a vertebra that the border of the image cuts."""

NO_MASK = "no_mask"
"""Flag of a vertebra whose region is an ellipsoid, though the model segments."""

UNFAMILIAR_IMAGE = "unfamiliar_image"
"""Flag of every vertebra of a case whose image is unlike those of training."""

REFER = "refer"
"""Flag of a vertebra whose class a reader should look at."""

NOTHING_FOUND = "nothing_found"
"""Reason for which a whole scan is referred: no vertebra was found in it."""

REFER_REASONS = (UNSURE, NUMBERING_AMBIGUOUS, TRUNCATED, NO_MASK, UNFAMILIAR_IMAGE)
"""Flags for any of which a vertebra is referred."""


@dataclass(frozen=True, kw_only=True)
class VertebraPrediction:
    """One located, named and classified vertebra.

    `level_probabilities` holds every level of at least a thousandth; `class_probabilities` in class index order;
    `region` describes the voxels that the class may depend on; `evidence` holds for each evidence map (a class but the
    first, or of grades `severity`) its pooled value and the sum of the vertebra's contributions to it;
    `entropy` of the reported probabilities in nats; `doubt` has two parts of the ensemble's entropy in nats:
    `aleatoric`, which every fold and view has by itself, and `disagreement` between them.
    """

    level: str
    level_probability: float
    runner_up: str
    runner_up_probability: float
    centre_lps: tuple[float, float, float]
    box_lps: tuple[tuple[float, float, float], tuple[float, float, float]]
    score: float
    class_probabilities: tuple[float, ...]
    prediction_set: tuple[str, ...]
    entropy: float
    visible_fraction: float
    region: Mapping
    evidence: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    doubt: Mapping[str, float] = field(default_factory=dict)
    level_probabilities: Mapping[str, float] = field(default_factory=dict)
    relative_name: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CasePrediction:
    """All vertebrae of one scan, from head to feet.

    `geometry` is the canonical grid of its image; `warnings` says in which ways the image is unlike those of training;
    `input` says which image it was (`voxels`: `image_digests` of its channels; `files`: hash of all its files),
    `outputs` gives the hash of each file that was written of the case; both are empty where that is not known.
    """

    identifier: str
    class_names: tuple[str, ...]
    vertebrae: tuple[VertebraPrediction, ...]
    model: Mapping
    geometry: Geometry | None = None
    warnings: tuple[str, ...] = ()
    input: Mapping = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


SEVERITY = "severity"
"""Name of the one evidence map of classes that are grades."""


def evidence_names(class_names: Sequence[str], ordinal: bool) -> tuple[str, ...]:
    """Names of the evidence maps of a model; none without classification."""
    if len(class_names) < 2:
        return ()
    return (SEVERITY,) if ordinal else tuple(class_names[1:])
