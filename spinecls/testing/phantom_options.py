"""What a phantom looks like: the options, checked in one place."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from spinecls.errors import UsageError

CLASS_NAMES = ("normal", "inflammatory", "structural")
STRUCTURES = {"disc": 1, "canal": 2, "inflammatory_lesion": 3, "structural_lesion": 4}
LESION_STRUCTURES = {"inflammatory_lesion": "inflammatory", "structural_lesion": "structural"}
CHANNELS = ("T2", "STIR", "T1")
FIELDS = ("lumbosacral", "thoracolumbar", "thoracic", "cervical", "whole")
VARIANTS = ("none", "T13", "L6", "no_T12", "no_L5")
IGNORE_LABEL = 255
MAX_OBLIQUE_DEGREES = 30.0

ORIENTATIONS = tuple(
    "".join(letters) for pairs in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*pairs)
)
"""The 48 codes of image axes; each letter says where its axis (x, y, z) runs to, as `SimpleITK.DICOMOrient`."""


@dataclass(frozen=True, kw_only=True)
class PhantomOptions:
    """How phantoms are drawn; the defaults can be learned by a small network in minutes.

    Attributes
    ----------
    shape : voxels of the canonical array (slice left to right, row head to feet, column front to back)
    spacing_mm : voxel distance along the same axes
    channels : sequences to imitate, of `CHANNELS`, in channel order
    fields : parts of the column in view, of `FIELDS`, one drawn a case; repeats weigh
    variants : numbers of vertebrae, of `VARIANTS`, one drawn a case; repeats weigh
    lesion_probability : chance of each vertebra to have a lesion
    lesion_contrast : least and greatest lesion amplitude in noise standard deviations
    noise_sd : noise standard deviation as a fraction of the brightest tissue
    texture : relative standard deviation of the tissue's texture
    bias_field : greatest relative deviation of the coil's sensitivity from one
    lordosis : factor on all sagittal curves; 0 = straight
    scoliosis_mm : greatest amplitude of the lateral curve
    distractors_per_vertebra : mean number of meaningless spots outside the bodies for each vertebra
    orientation : axis code of written images, of `ORIENTATIONS`
    oblique_degrees : rotation of the scanned grid against the world, at most 30
    complete : whether every visible vertebra is annotated; if not, a random run of neighbours is
    """

    shape: tuple[int, int, int] = (24, 96, 64)
    spacing_mm: tuple[float, float, float] = (4.0, 2.0, 2.0)
    channels: tuple[str, ...] = ("T2",)
    fields: tuple[str, ...] = ("lumbosacral", "lumbosacral", "thoracolumbar")
    variants: tuple[str, ...] = ("none",)
    lesion_probability: float = 0.4
    lesion_contrast: tuple[float, float] = (4.0, 8.0)
    noise_sd: float = 0.04
    texture: float = 0.05
    bias_field: float = 0.15
    lordosis: float = 1.0
    scoliosis_mm: float = 4.0
    distractors_per_vertebra: float = 0.5
    orientation: str = "PIR"
    oblique_degrees: float = 0.0
    complete: bool = True

    def __post_init__(self) -> None:
        _check_names("channels", self.channels, CHANNELS)
        _check_names("fields", self.fields, FIELDS)
        _check_names("variants", self.variants, VARIANTS)
        _check_names("orientation", (self.orientation,), ORIENTATIONS)
        _check(len(self.shape) == 3 and min(self.shape) >= 4, "shape", self.shape, "three numbers of at least 4")
        _check(len(self.spacing_mm) == 3 and min(self.spacing_mm) > 0, "spacing_mm", self.spacing_mm, "three above 0")
        _check(0 <= self.lesion_probability <= 1, "lesion_probability", self.lesion_probability, "0 to 1")
        low, high = self.lesion_contrast
        _check(0 <= low <= high, "lesion_contrast", self.lesion_contrast, "(least, greatest), neither negative")
        for name in ("noise_sd", "texture", "bias_field", "scoliosis_mm", "distractors_per_vertebra"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _check(abs(self.oblique_degrees) <= MAX_OBLIQUE_DEGREES, "oblique_degrees", self.oblique_degrees, "-30 to 30")


def _check(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"PhantomOptions: {name} is {got!r}, expected {expected}.")


def _check_names(name: str, got: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [item for item in got if item not in known]
    if unknown or not got:
        listed = ", ".join(known)
        raise UsageError(f"PhantomOptions: {name} is {got!r}; expected one or more of {listed}.")
