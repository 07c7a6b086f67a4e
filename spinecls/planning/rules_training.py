"""Rules for training: widths, batches, targets, augmentation, schedule. Each returns a value and its reason."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping

import numpy as np

from spinecls.anatomy import LEVEL_CODES, RANK
from spinecls.planning.fingerprint_types import Fingerprint
from spinecls.planning.plan import LevelStatistics
from spinecls.planning.rules_grid import pitch_mm, typical_extent_mm
from spinecls.records import DatasetDescription

DEFAULT_CPU_MINUTES = 30.0
USABLE_TIME = 0.92
"""Share of the time budget left for steps; the rest goes to loading and to validation."""

GPU_STEPS = 8000
REFERENCE_PATIENTS = 25
STEP_LIMITS = (2000, 50000)
FEWEST_STEPS = 200

FINDER_SHARE = 0.5
"""Of the time budget, for the finder; the rest is for the readers."""

READER_STEPS = 500
"""Steps of a reader for `REFERENCE_PATIENTS`.

Twice as many learn the training vertebrae by heart; two readers of half as many, which cost the same, know more of new
ones.
"""
READER_STEP_LIMITS = (500, 10000)
FEWEST_READER_STEPS = 500
WANTED_MEMBERS = 3
MOST_MEMBERS = 5


def feature_widths(device: str, num_patients: int) -> tuple[tuple[int, int], str]:
    """Features of the first stage and their cap."""
    if device == "cpu":
        return (16, 128), "16 features, doubled a stage up to 128: what a CPU trains in reasonable time."
    if num_patients < 30:
        reason = f"24 features, doubled a stage up to 240: three quarters of 32 and 320, for {num_patients} patients."
        return (24, 240), reason
    return (32, 320), "32 features, doubled a stage up to 320."


def sealing_margin_mm(fingerprint: Fingerprint) -> tuple[float, str]:
    """3 mm, at most half a disc, so that the region never reaches the neighbour's endplate."""
    # Along the spine: the box of a tilted vertebra is higher than the vertebra.
    heights = [v.own_extent_mm[1] for v in fingerprint.vertebrae if v.own_extent_mm and not v.truncated]
    height = statistics.median(heights) if heights else 0.75 * pitch_mm(fingerprint, 50)
    pitch = pitch_mm(fingerprint, 50)
    half_disc = (pitch - height) / 2
    margin = round(min(3.0, max(1.0, half_disc)), 2)
    return margin, (
        f"3 mm, at least 1 mm and at most half the disc: median pitch {pitch:.1f} mm less median height "
        f"{height:.1f} mm leaves {half_disc:.1f} mm a side."
    )


def heatmap_sigma_mm(fingerprint: Fingerprint, slice_mm: float) -> tuple[float, str]:
    """Width of the target Gaussian: a fraction of the pitch, and never narrower than the slices resolve."""
    pitch = pitch_mm(fingerprint, 50)
    sigma = round(max(3.0, 0.15 * pitch, 0.8 * slice_mm), 2)
    return sigma, (
        f"largest of 3 mm, 0.15 x the median pitch of {pitch:.1f} mm and 0.8 x the slice distance of {slice_mm:.3g} mm."
    )


def mirror_axes(class_names: tuple[str, ...]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], str]:
    """Axes mirrored in the open and in the sealed pass; classes that name a side keep that axis as it is."""
    words = {word for name in class_names for word in re.split(r"[^a-z]+", name.lower())}
    sided = {
        0: words & {"left", "right"},
        1: words & {"upper", "lower", "superior", "inferior", "cranial", "caudal"},
        2: words & {"anterior", "posterior", "ventral", "dorsal"},
    }
    open_axes = () if sided[0] else (0,)
    sealed_axes = tuple(axis for axis in range(3) if not sided[axis])
    kept = sorted(word for side_words in sided.values() for word in side_words)
    reason = "left-right only where levels are named, all three axes for a sealed crop, which knows no level"
    return (open_axes, sealed_axes), reason + (f"; not where a class says {', '.join(kept)}." if kept else ".")


def contrast_inversion_share(description: DatasetDescription) -> tuple[float, str]:
    """How often the open pass sees a scan as its negative, as TotalSpineSeg does to be at home in T1 and in T2."""
    channels = len(description.channel_names)
    if channels > 1:
        return 0.0, f"{channels} channels: each has its own contrast, which the other scans share."
    return 0.2, "one channel: scans of another sequence show fluid and fat the other way round."


def contrast_curve_share(description: DatasetDescription) -> tuple[float, str]:
    """How often the open pass sees a scan through a random contrast curve."""
    channels = len(description.channel_names)
    if channels > 1:
        return 0.0, f"{channels} channels: each has its own contrast, which the other scans share."
    return 0.2, "one channel: in another sequence other tissues are the bright ones."


def thick_slice_share(fingerprint: Fingerprint, patch_slices: int) -> tuple[float, str]:
    """How often slices are made thicker: where the scans of the dataset differ in it, so will those to come."""
    if patch_slices == 1:
        return 0.0, "a patch is one slice, which has no neighbours to be mixed with."
    distances = [case.spacing_mm[0] for case in fingerprint.cases.values()]
    ratio = max(distances) / min(distances)
    return (0.25 if ratio > 1.5 else 0.0), (
        f"slice distances run from {min(distances):.3g} to {max(distances):.3g} mm, a factor of {ratio:.2g} "
        "(limit 1.5)."
    )


SHORT_VIEW_PITCHES = 3.5
"""Least length of a scan, in vertebrae, of which a part still shows something to name."""


def short_view_share(fingerprint: Fingerprint) -> tuple[float, str]:
    """How often a scan is cut short head to feet: small fields of view with known levels, for nothing."""
    pitch = pitch_mm(fingerprint, 50)
    seen = fingerprint.median_body_mm[1] / pitch
    return (0.3 if seen >= SHORT_VIEW_PITCHES else 0.0), (
        f"the median scan is {seen:.1f} vertebrae long (limit {SHORT_VIEW_PITCHES}); a part of it is a small field of "
        "view whose levels are known."
    )


def logit_adjustment(counts: Mapping[str, int]) -> tuple[tuple[float, float], str]:
    """Strength of the logit adjustment (Menon et al., ICLR 2021) and the share of class-balanced crops."""
    seen = {name: count for name, count in counts.items() if count}
    if len(seen) < 2:
        return (0.0, 0.0), "no two classes have been read."
    ratio = max(seen.values()) / min(seen.values())
    tau = 1.0 if ratio > 1.5 else 0.0
    share = 1 / 3 if ratio > 3 else 0.0
    return (tau, share), (
        f"the most frequent class is {ratio:.1f} times the rarest: logits are {'adjusted' if tau else 'not adjusted'} "
        f"(limit 1.5), {'a third of' if share else 'no'} crops are drawn by class (limit 3)."
    )


def class_reason(fingerprint: Fingerprint) -> str:
    """Sentence on classes: counts, patients, rarity, likeness within a patient."""
    if not fingerprint.class_names:
        return "no classes are declared; vertebrae are located and named only."
    patients = fingerprint.class_patients
    counts = fingerprint.class_counts.items()
    text = "; ".join(f"{name}: {count} vertebrae of {patients[name]} patients" for name, count in counts) + "."
    for name, count in patients.items():
        if count == 0:
            text += f" Warning: class {name!r} is declared and never seen; it cannot be learned."
        elif count < 5:
            text += (
                f" Warning: class {name!r} comes from {count} patient(s), fewer than 5; what is measured of it says "
                "little. Add patients or merge it with a neighbouring class."
            )
    icc = fingerprint.class_icc
    if icc is not None:
        text += f" Likeness of the classes within a patient (ICC) {icc:.2f}."
    if icc is not None and icc > 0.3:
        text += " Warning: above 0.3, so the surroundings tell the class; only a sealed trainer cannot use that."
    return text


def registration_reason(num_channels: int, asked: bool) -> str:
    """Sentence on whether the channels of a case are aligned."""
    if num_channels < 2:
        return "one channel; there is nothing to align."
    if asked:
        return "asked for by --register: every further channel is moved rigidly onto the first, also in prediction."
    return "channels are taken as scanned; --register aligns them when patients moved between sequences."


def batch_candidates(device: str, flat: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Batch sizes to try, largest first: open patches and sealed crops."""
    if device == "cpu":
        return (((12, 8, 4, 2, 1) if flat else (1,)), (16, 8, 4, 2, 1))
    return (((32, 24, 16, 12, 8, 4, 2, 1) if flat else (8, 6, 4, 3, 2, 1)), (16, 12, 8, 4, 2, 1))


def training_steps(
    num_patients: int, device: str, step_seconds: float, budget_minutes: float | None
) -> tuple[int, str]:
    """Steps of a fold: by the number of patients, within the time budget."""
    wanted = GPU_STEPS * math.sqrt(num_patients / REFERENCE_PATIENTS)
    wanted = int(min(max(wanted, STEP_LIMITS[0]), STEP_LIMITS[1]))
    reason = f"{wanted} by the rule {GPU_STEPS} x sqrt({num_patients} patients / {REFERENCE_PATIENTS})"
    if budget_minutes is None:
        return wanted, f"{reason}; no time budget."
    affordable = math.floor(USABLE_TIME * budget_minutes * 60 / step_seconds)
    steps = max(FEWEST_STEPS, min(wanted, affordable))
    reason += (
        f"; {affordable} steps of {step_seconds:.2f} s fit into {USABLE_TIME:.0%} of {budget_minutes:g} minutes "
        f"on the {device}"
    )
    if affordable < FEWEST_STEPS:
        reason += f". Warning: too few to learn from; {FEWEST_STEPS} steps are taken and the budget is exceeded"
    return steps, reason + "."


def reader_steps(
    num_patients: int, step_seconds: float, budget_minutes: float | None, members: int | None = None
) -> tuple[int, int, str]:
    """How many readers there are, the steps of each, and why.

    Several readers of few steps err less than one of many, as long as each learns the classes at all.

    Parameters
    ----------
    members : asked for; None = as the rule says
    """
    scaled = READER_STEPS * math.sqrt(num_patients / REFERENCE_PATIENTS)
    wanted = int(min(max(scaled, READER_STEP_LIMITS[0]), READER_STEP_LIMITS[1]))
    reason = f"{wanted} steps by the rule {READER_STEPS} x sqrt({num_patients} patients / {REFERENCE_PATIENTS})"
    if budget_minutes is None:
        count = members or MOST_MEMBERS
        return count, wanted, f"{count} readers; {reason}; no time budget."
    affordable = math.floor(USABLE_TIME * budget_minutes * 60 / step_seconds)
    count = members or min(
        MOST_MEMBERS, max(affordable // wanted, min(WANTED_MEMBERS, affordable // FEWEST_READER_STEPS), 1)
    )
    steps = max(FEWEST_STEPS, min(wanted, affordable // count))
    reason += f"; {affordable} steps of {step_seconds:.2f} s fit into the time of the readers, {count} of them"
    if affordable // count < FEWEST_STEPS:
        reason += f". Warning: too few to learn from; {FEWEST_STEPS} steps are taken and the budget is exceeded"
    return count, steps, reason + "."


def level_statistics(fingerprint: Fingerprint, levels: Mapping[str, int]) -> tuple[dict[str, LevelStatistics], str]:
    """Median size and pitch of every level that the maps may hold; typical adults where a level was never outlined."""
    sizes: dict[str, list] = {}
    for vertebra in fingerprint.vertebrae:
        if vertebra.own_extent_mm and not vertebra.truncated:
            sizes.setdefault(vertebra.level, []).append(vertebra.own_extent_mm)
    own = {level: np.median(extents_mm, axis=0) for level, extents_mm in sizes.items()}
    # As much as outlined levels are larger than the typical, others are too: it is the same patients and readers.
    larger = np.median([own[level] / typical_extent_mm(level) for level in own], axis=0) if own else np.ones(3)
    result = {}
    borrowed = []
    for level in sorted(levels or LEVEL_CODES, key=RANK.__getitem__):
        if level not in own:
            borrowed.append(level)
        pitches = fingerprint.pitches_mm.get(level, [])
        result[level] = LevelStatistics(
            count=sum(v.level == level for v in fingerprint.vertebrae),
            extent_mm=tuple(np.round(own.get(level, larger * typical_extent_mm(level)), 2).tolist()),
            pitch_mm=round(float(statistics.median(pitches)), 2) if pitches else 0.0,
        )
    reason = f"medians of {len(fingerprint.vertebrae)} annotated vertebrae"
    times = ", as much larger as the outlined levels are," if own else ""
    return result, reason + (f"; sizes of typical adults{times} for {', '.join(borrowed)}." if borrowed else ".")


def normalisation(description: DatasetDescription) -> tuple[tuple[str, ...], str]:
    """Robust z-score in the body; MRI has no absolute scale. A channel called noNorm is left alone."""
    schemes = tuple("none" if name.lower() == "nonorm" else "robust_zscore" for name in description.channel_names)
    return schemes, f"{', '.join(schemes)}: median and deviation inside the body, since MRI has no absolute scale."
