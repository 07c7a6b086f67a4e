"""The plan: every number that preprocessing, training and prediction need, each with the sentence that explains it.

Plain frozen dataclasses that check themselves and go to and from strict JSON; an unknown key is an error, so a
misspelt edit is never ignored. No torch, no images: the plan can be read anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spinecls import files
from spinecls.errors import PlanError, nearest
from spinecls.plain import from_plain
from spinecls.sealing.sealing_levels import SEALS
from spinecls.types import SpacingMm, Triple, triple


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """Shape of the U-Net; one entry a stage, from full resolution to the bottleneck.

    `strides[0]` is (1, 1, 1). The class named by `backbone` comes from dynamic-network-architectures.
    """

    backbone: str = "PlainConvUNet"
    features: tuple[int, ...]
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    convs_per_stage: int = 2

    def __post_init__(self) -> None:
        if not len(self.features) == len(self.strides) == len(self.kernels):
            raise PlanError(
                f"network: features ({len(self.features)}), strides ({len(self.strides)}) and kernels "
                f"({len(self.kernels)}) must have one entry a stage."
            )
        if self.backbone not in BACKBONES:
            raise PlanError(f"network.backbone: {self.backbone!r} is not known. Known: {', '.join(BACKBONES)}.")

    @property
    def divisor(self) -> Triple:
        """Patch edges must be multiples of these."""
        product = [1, 1, 1]
        for stride in self.strides:
            product = [p * s for p, s in zip(product, stride, strict=True)]
        return triple(product)


BACKBONES = ("PlainConvUNet", "ResidualEncoderUNet")

POOLINGS = ("lse", "mean", "max", "attention", "extent")
"""How the evidence of the voxels becomes the number of a vertebra."""

RECONSTRUCTIONS = ("denoise", "masked", "plain")
WEIGHTINGS = ("gradient_norm", "uncertainty", "fixed")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "seal": SEALS,
    "pooling": POOLINGS,
    "reconstruction": RECONSTRUCTIONS,
    "task_weighting": WEIGHTINGS,
}
"""Fields of a configuration that take one of a few words."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Numbers of one configuration (`2d`, `3d_fullres`, `3d_lowres`); axes are slice, head-feet, front-back.

    Attributes
    ----------
    spacing_mm, patch_size, network : of the finder, whose open pass locates, names and segments
    sealed_spacing_mm, sealed_size, reader_network : of the readers, whose sealed pass, one crop a vertebra, classifies
    members : how many readers; 0 where there are no classes
    steps, learning_rate : of the training of the finder; reader_steps, reader_learning_rate : of each reader
    batch_size, sealed_batch_size : open patches and sealed crops in one training step
    normalisation : scheme of each channel, `robust_zscore` or `none`
    heatmap_sigma_mm : width of the Gaussian at a vertebra centre
    sealing_margin_mm : in-plane growth of a vertebra's region beyond its mask
    region_error_mm : how far the outlines that readers are trained with are off, standard deviation of the border, see
        `dataloading.rough`
    seal : what the class of a vertebra may depend on, see `sealing.sealing_levels.SEALS`
    pooling : how evidence is pooled, see `networks.pooling`
    reconstruction : what an autoencoder is given, see `tasks.reconstruction`
    task_weighting : how auxiliary tasks are weighted, see `tasks.balancing`
    task_weights : what the user set by `--set task_weights.<task>`: the share of an auxiliary task's gradient, the
        weight of a main task; 0 leaves the task out
    mirror_axes, sealed_mirror_axes : axes mirrored in training; head-feet (1) only where levels do not matter
    rotation_degrees, scale_range : largest in-plane rotation and the range of zoom in training
    contrast_inversion_share, contrast_curve_share, bias_field_share, thick_slice_share : share of open patches whose
        contrast is inverted, whose intensities go through a random curve, which get a smooth change of brightness, and
        whose slices are made thicker, in training
    class_q : how little a wrong class may cost, from 0 (cross entropy) to 1 (absolute error), see
        `tasks.losses.belief_loss`
    short_view_share : share of open patches taken from a scan that was cut short head to feet first
    """

    name: str
    spacing_mm: SpacingMm
    patch_size: Triple
    sealed_spacing_mm: SpacingMm
    sealed_size: Triple
    network: NetworkPlan
    reader_network: NetworkPlan
    members: int = 1
    batch_size: int = 1
    sealed_batch_size: int = 8
    normalisation: tuple[str, ...] = ("robust_zscore",)
    heatmap_sigma_mm: float = 6.0
    sealing_margin_mm: float = 3.0
    region_error_mm: float = 0.8
    mirror_axes: tuple[int, ...] = (0,)
    sealed_mirror_axes: tuple[int, ...] = (0, 1, 2)
    rotation_degrees: float = 15.0
    sealed_rotation_degrees: float = 20.0
    scale_range: tuple[float, float] = (0.85, 1.18)
    contrast_inversion_share: float = 0.0
    contrast_curve_share: float = 0.0
    bias_field_share: float = 0.0
    thick_slice_share: float = 0.0
    short_view_share: float = 0.0
    steps: int = 1000
    learning_rate: float = 2e-3
    reader_steps: int = 1000
    reader_learning_rate: float = 2e-3
    logit_adjustment: float = 1.0
    class_q: float = 0.0
    balanced_crop_share: float = 1 / 3
    estimated_memory_gb: float = 0.0
    estimated_step_seconds: float = 0.0
    estimated_reader_step_seconds: float = 0.0
    seal: str = "S2"
    pooling: str = "lse"
    reconstruction: str = "denoise"
    task_weighting: str = "gradient_norm"
    task_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, known in CHOICES.items():
            if (value := getattr(self, key)) not in known:
                raise PlanError(f"{self.name}.{key}: {value!r} is not known. Known: {', '.join(known)}.")
        if not 0 <= self.class_q <= 1:
            raise PlanError(f"{self.name}.class_q: {self.class_q:g} is not between 0 and 1.")
        if 1 in self.mirror_axes:
            raise PlanError(f"{self.name}.mirror_axes: axis 1 runs head to feet; mirroring it would turn levels round.")
        sizes = (("patch_size", self.patch_size, self.network), ("sealed_size", self.sealed_size, self.reader_network))
        for label, size, network in sizes:
            wrong = [n % d for n, d in zip(size, network.divisor, strict=True)]
            if any(wrong) or min(size) < 1:
                raise PlanError(f"{self.name}.{label}: {size} must be multiples of {network.divisor}.")

    @property
    def estimated_minutes(self) -> float:
        """Expected time of a fold's training, finder and readers one after the other."""
        readers = self.members * self.reader_steps * self.estimated_reader_step_seconds
        return (self.steps * self.estimated_step_seconds + readers) / 60


@dataclass(frozen=True, kw_only=True)
class LevelStatistics:
    """Size of a level in the annotated cases.

    `count` is the number of annotated vertebrae; `extent_mm` the median size along the vertebra's own axes (left-right,
    along the spine, front-back), of typical adults where none is outlined whole; `pitch_mm` the median distance of its
    centre to the centre of the next level below (0 when never seen).
    """

    count: int
    extent_mm: tuple[float, float, float]
    pitch_mm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FamiliarRange:
    """A number of the training images: from its 5th to its 95th percentile, and the limits of what passes for like."""

    usual: tuple[float, float]
    allowed: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class FamiliarContrast:
    """The contrast numbers of the training images taken together.

    An image is at the distance |whitening (x - mean)|, x being its numbers; beyond `limit` it counts as unlike them.
    """

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    limit: float


@dataclass(frozen=True, kw_only=True)
class FamiliarChannel:
    """Contrast and quality of one channel of the training images."""

    ranges: Mapping[str, FamiliarRange]
    contrast: FamiliarContrast | None = None


@dataclass(frozen=True, kw_only=True)
class FamiliarImages:
    """What the training images look like, by the names in `familiarity`; `patients` is how many they are of."""

    patients: int
    grid: Mapping[str, FamiliarRange]
    channels: tuple[FamiliarChannel, ...]

    def __str__(self) -> str:
        return f"{len(self.grid) + sum(len(channel.ranges) for channel in self.channels)} numbers"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that was decided for a dataset.

    `reasons` maps "<configuration>.<field>" or "<field>" to the sentence shown by `--explain`; `overrides` records
    what the user set by `--set`; `levels` maps level names to codes in label maps; `register_channels` says whether the
    channels of a case are aligned onto the first one before anything else, in training and in prediction; `readers` are
    those whose readings of the training cases are told apart, known in the plan of a fold, and `readers_judged` whether
    by what they say of the same vertebrae (`beliefs.readers`); `familiar` is what an image is compared with before it
    is predicted, None where there is nothing to compare with; `training_images` are the digests of the images that a
    fold learned from, known in the plan of a fold, None where they are not known.
    """

    plans_name: str
    dataset_name: str
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    class_order: bool
    class_counts: Mapping[str, int]
    levels: Mapping[str, int]
    structures: Mapping[str, int]
    lesion_structures: Mapping[str, str]
    vertebrae_complete: bool
    ignore_label: int
    level_statistics: Mapping[str, LevelStatistics]
    configurations: Mapping[str, Configuration]
    register_channels: bool = False
    readers: tuple[str, ...] = ()
    readers_judged: bool = False
    familiar: FamiliarImages | None = None
    training_images: tuple[str, ...] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    dataset_hash: str = ""
    spinecls_version: str = ""

    def configuration(self, name: str) -> Configuration:
        """Configuration called `name`."""
        if name not in self.configurations:
            raise PlanError(
                f"Configuration {name!r} is not in the plan {self.plans_name}.{nearest(name, self.configurations)} "
                f"Known: {', '.join(self.configurations)}."
            )
        return self.configurations[name]


def save_plan(path: Path, plan: Plan) -> None:
    """Write a plan as JSON."""
    files.write_json(path, dataclasses.asdict(plan))


def load_plan(path: Path) -> Plan:
    """Plan from its JSON file; any unknown, missing or ill-typed key is named."""
    if not Path(path).is_file():
        # Beside the plans of a dataset lie the files that they were made from.
        others = sorted(other.stem for other in Path(path).parent.glob("*.json"))
        hint = nearest(Path(path).stem, others, 0.7)
        raise PlanError(f"{path}: no plan.{hint} Run spinecls_plan_and_preprocess first.")
    return from_plain(Plan, files.read_json(path), str(path))
