"""Is an image like those a model was trained on? Limits from the training cases, and what lies outside, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from spinecls.planning.fingerprint_types import CaseFingerprint
from spinecls.planning.plan import FamiliarChannel, FamiliarContrast, FamiliarImages, FamiliarRange, Plan

LEAST_PATIENTS = 3
"""Fewer patients give no limits."""

WIDENING = ((3, 11.22), (4, 4.22), (5, 2.55), (6, 1.84), (8, 1.21), (10, 0.94), (15, 0.7), (20, 0.61), (50, 0.51),
            (100, 0.46), (1000, 0.42))  # fmt: skip
"""By number of patients, the share of the usual range that is added at both ends.

So that 0.25 % of further patients fall outside when the number is normally distributed: worked out by simulation of up
to 100,000 samples each.
"""

CONTRAST_ALARMS = 0.01
"""Share of further patients whose contrast numbers, taken together, are too far from the mean when all are normal."""

USUAL = (0.05, 0.95)


class Number(NamedTuple):
    """How a number is told and compared.

    `offset`: compared is log(value + offset), or the value itself where it is None; `slack` is the least that is added
    to the usual range at both ends, in what is compared, for what no training set is large enough to show.
    """

    words: str
    unit: str
    offset: float | None
    slack: float

    def compared(self, value: float) -> float:
        """The value on the scale on which it is compared."""
        return value if self.offset is None else float(np.log(value + self.offset))

    def restored(self, value: float) -> float:
        """Inverse of `compared`; never below 0 where logarithms are compared."""
        return value if self.offset is None else max(0.0, float(np.exp(value)) - self.offset)


# A length may differ by a quarter: training scales by 0.85 to 1.18.
GRID = {
    "slice_distance_mm": Number("slice distance", " mm", 0.0, 0.22),
    "row_distance_mm": Number("voxel size head-feet", " mm", 0.0, 0.22),
    "column_distance_mm": Number("voxel size front-back", " mm", 0.0, 0.22),
    "left_right_mm": Number("field of view left-right", " mm", 0.0, 0.22),
    "head_feet_mm": Number("field of view head-feet", " mm", 0.0, 0.22),
    "front_back_mm": Number("field of view front-back", " mm", 0.0, 0.22),
}
CHANNEL = {
    "asymmetry": Number("excess of dark over bright tissue", "", None, 0.1),
    "evenness": Number("share of the brightness range that half the tissue takes", "", None, 0.05),
    "bright_tail": Number("brightness of the brightest tissue", "", 0.05, 0.3),
    "detail": Number("contrast of small structures", "", 0.0, 0.15),
    "stripes": Number("brightness of upright stripes such as the canal", "", None, 0.05),
    "noise": Number("noise", "", 0.002, 0.3),
    "fineness_head_feet": Number("fineness head-feet (0.5 smooth, 1 noise)", "", 0.0, 0.1),
    "fineness_front_back": Number("fineness front-back (0.5 smooth, 1 noise)", "", 0.0, 0.1),
    "saturated": Number("share of voxels at the greatest brightness", "", 0.001, 1.5),
}
CONTRAST = ("asymmetry", "evenness", "bright_tail", "detail", "stripes")


def grid_numbers(shape: Sequence[int], spacing_mm: Sequence[float]) -> dict[str, float]:
    """Voxel sizes and field of view of a canonical grid, by the names of `GRID`."""
    views_mm = [n * s for n, s in zip(shape, spacing_mm, strict=True)]
    return dict(zip(GRID, (*map(float, spacing_mm), *map(float, views_mm)), strict=True))


def familiar_images(cases: Sequence[CaseFingerprint]) -> FamiliarImages | None:
    """What images of training look like; None with fewer than `LEAST_PATIENTS` patients.

    The usual range of a number runs from its 5th to its 95th percentile; every patient counts once, however often
    scanned. The limits are wider by the share that `WIDENING` says, at least by the number's slack.
    """
    patients = len({case.patient for case in cases})
    if patients < LEAST_PATIENTS:
        return None
    grids = [(case.patient, grid_numbers(case.shape, case.spacing_mm)) for case in cases]
    channels = []
    for channel in range(min(len(case.appearance) for case in cases)):
        seen = [(case.patient, case.appearance[channel]) for case in cases if case.appearance[channel]]
        channels.append(FamiliarChannel(ranges=_ranges(CHANNEL, seen), contrast=_contrast(seen)))
    return FamiliarImages(patients=patients, grid=_ranges(GRID, grids), channels=tuple(channels))


def _weights(patients: Sequence[str]) -> np.ndarray:
    """Weight of each scan; those of a patient add up to 1."""
    scans = Counter(patients)
    return np.array([1 / scans[patient] for patient in patients])


def _ranges(numbers: Mapping[str, Number], seen: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, FamiliarRange]:
    weights = _weights([patient for patient, _ in seen])
    patients = round(weights.sum())
    if patients < LEAST_PATIENTS:
        return {}
    counts, shares = zip(*WIDENING, strict=True)
    # In 1 / patients, because that is what the shares are nearly straight in; from the largest count on.
    widening = np.interp(1 / patients, 1 / np.array(counts[::-1]), shares[::-1])
    ranges = {}
    for name, number in numbers.items():
        values = np.array([number.compared(measured[name]) for _, measured in seen])
        order = np.argsort(values)
        positions = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
        low, high = np.interp(USUAL, positions, values[order])
        margin = max(widening * (high - low), number.slack)
        usual, allowed = (
            (number.restored(a), number.restored(b)) for a, b in ((low, high), (low - margin, high + margin))
        )
        ranges[name] = FamiliarRange(usual=usual, allowed=allowed)
    return ranges


def _contrast(seen: Sequence[tuple[str, Mapping[str, float]]]) -> FamiliarContrast | None:
    """Mean and spread of the contrast numbers taken together; None with fewer than twice as many patients as numbers.

    The distance is Mahalanobis'. A further patient of the same kind is beyond the limit with probability
    `CONTRAST_ALARMS` when the numbers are normal (Hotelling's T-squared of a future observation, e.g. Johnson and
    Wichern, Applied Multivariate Statistical Analysis, section 5.6).
    """
    # Imported here, for a run that finds its plan up to date imports no heavy library.
    from scipy.special import fdtri

    size = len(CONTRAST)
    weights = _weights([patient for patient, _ in seen])
    n = round(weights.sum())
    if n < 2 * size:
        return None
    values = np.array([_compared_contrast(measured) for _, measured in seen])
    mean = weights @ values / weights.sum()
    covariance = (values - mean).T * weights @ (values - mean) / weights.sum() * n / (n - 1)
    # A tenth of the slack in every direction, because numbers that never differ would make any distance infinite.
    covariance += np.diag([(CHANNEL[name].slack / 10) ** 2 for name in CONTRAST])
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    t_squared = size * (n - 1) / (n - size) * fdtri(size, n - size, 1 - CONTRAST_ALARMS)
    return FamiliarContrast(
        mean=tuple(map(float, mean)),
        whitening=tuple(tuple(map(float, row)) for row in whitening),
        limit=float(np.sqrt(t_squared * (n + 1) / n)),
    )


def _compared_contrast(measured: Mapping[str, float]) -> list[float]:
    return [CHANNEL[name].compared(measured[name]) for name in CONTRAST]


def unfamiliar(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    appearance: Sequence[Mapping[str, float]],
    plan: Plan,
) -> tuple[str, ...]:
    """In which ways an image is unlike those of training, in words; empty when it is not, or the plan has no limits.

    Parameters
    ----------
    shape, spacing_mm : canonical grid as scanned
    appearance : from `appearance.appearance`, one mapping a channel
    """
    if plan.familiar is None:
        return ()
    reasons = _outside(GRID, plan.familiar.grid, grid_numbers(shape, spacing_mm))
    for name, familiar, measured in zip(plan.channel_names, plan.familiar.channels, appearance, strict=False):
        if not measured:
            said = ["too small or too uniform an image to be judged"] if familiar.ranges else []
        else:
            said = _outside(CHANNEL, familiar.ranges, measured) + _far(familiar.contrast, measured)
        reasons += [f"{name}: {text}" for text in said]
    return tuple(reasons)


def _outside(
    numbers: Mapping[str, Number], ranges: Mapping[str, FamiliarRange], measured: Mapping[str, float]
) -> list[str]:
    said = []
    for name, familiar in ranges.items():
        value, (low, high) = measured[name], familiar.allowed
        if not low <= value <= high:
            number = numbers[name]
            said.append(f"{number.words} {value:.3g}{number.unit}; training scans {_told(familiar)}{number.unit}")
    return said


def _told(familiar: FamiliarRange) -> str:
    """The usual range as a person writes it."""
    low, high = (f"{end:.3g}" for end in familiar.usual)
    return low if low == high else f"{low} to {high}"


def _far(contrast: FamiliarContrast | None, measured: Mapping[str, float]) -> list[str]:
    if contrast is None:
        return []
    steps = np.asarray(contrast.whitening) @ np.subtract(_compared_contrast(measured), contrast.mean)
    distance = float(np.linalg.norm(steps))
    if distance <= contrast.limit:
        return []
    text = f"contrast, all its numbers together, {distance:.1f} away from the training scans"
    return [f"{text} (limit {contrast.limit:.1f}); perhaps another sequence"]


def familiarity_reason(familiar: FamiliarImages | None) -> str:
    """Sentence for `--explain`."""
    if familiar is None:
        return f"fewer than {LEAST_PATIENTS} patients: nothing that images to be predicted could be compared with."
    usual = {name: _told(entry) for name, entry in familiar.grid.items()}
    text = (
        f"of {familiar.patients} patients, 5th to 95th percentile: field of view {usual['head_feet_mm']} mm head-feet, "
        f"{usual['front_back_mm']} mm front-back, {usual['left_right_mm']} mm left-right; slice distance "
        f"{usual['slice_distance_mm']} mm. Predictions of images far outside these and the like, in contrast and "
        "quality too, say so."
    )
    if any(channel.contrast is None for channel in familiar.channels):
        text += f" With fewer than {2 * len(CONTRAST)} patients another sequence is easily missed."
    return text
