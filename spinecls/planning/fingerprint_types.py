"""What a dataset looks like, case by case and as a whole: the only thing that planning sees of it.

All axes are canonical: slice (left-right), head-feet, front-back.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.anatomy import region
from spinecls.errors import PlanError
from spinecls.plain import from_plain
from spinecls.types import triple

Extent = tuple[float, float, float]

FORMAT = 3
"""Raised when the meaning of a stored number changes, so old caches are not read."""


@dataclass(frozen=True, kw_only=True)
class ChannelIntensities:
    """Robust intensities of a channel inside the body; `mad` is the unscaled median absolute deviation."""

    p005: float
    p50: float
    p995: float
    mad: float


@dataclass(frozen=True, kw_only=True)
class VertebraFingerprint:
    """One vertebra of a case.

    Attributes
    ----------
    level, class_name : names; "" when not read or when readings leave several classes open
    centre_lps : world mm
    extent_mm : box of the vertebra along the canonical axes; None when only a point is known
    own_extent_mm : left-right, along the spine, front-back, following the spine's tangent
    pitch_mm : distance to the centre of the next level below, None when that level is not annotated
    truncated : the map reaches the first or last row or column of the image
    """

    level: str
    class_name: str = ""
    centre_lps: Extent | None = None
    extent_mm: Extent | None = None
    own_extent_mm: Extent | None = None
    pitch_mm: float | None = None
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class CaseFingerprint:
    """One case.

    Attributes
    ----------
    shape, spacing_mm : canonical grid
    body_start, body_stop : box of the body, last-plus-one, never smaller than the annotated vertebrae
    appearance : contrast and quality of each channel, see `appearance.appearance`; empty where they cannot be measured
    image_digests : by which the image is known again, one a channel; empty in fingerprints of earlier versions
    lesions_mm : size of each lesion, the smaller of its equivalent diameter and its in-plane width
    annotation_forms : form by kind of annotation ("vertebrae", "structures")
    """

    case: str
    patient: str
    site: str = ""
    shape: tuple[int, int, int]
    spacing_mm: Extent
    channels: tuple[ChannelIntensities, ...]
    body_start: tuple[int, int, int]
    body_stop: tuple[int, int, int]
    appearance: tuple[Mapping[str, float], ...] = ()
    vertebrae: tuple[VertebraFingerprint, ...] = ()
    lesions_mm: tuple[float, ...] = ()
    image_digests: tuple[str, ...] = ()
    annotation_forms: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_counts(self) -> dict[str, int]:
        """Vertebrae a class, those without a single class left out."""
        return dict(Counter(v.class_name for v in self.vertebrae if v.class_name))

    @property
    def anchors(self) -> tuple[str, ...]:
        """Levels that fix the counting, C2 and S1, if annotated."""
        return tuple(v.level for v in self.vertebrae if v.level in ("C2", "S1"))

    @property
    def body_mm(self) -> Extent:
        """Size of the body box."""
        voxels = np.subtract(self.body_stop, self.body_start)
        return triple(float(n * s) for n, s in zip(voxels, self.spacing_mm, strict=True))


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """A dataset: its cases by name, and what follows from them."""

    dataset_name: str
    class_names: tuple[str, ...]
    class_order: bool
    cases: Mapping[str, CaseFingerprint]

    @cached_property
    def vertebrae(self) -> tuple[VertebraFingerprint, ...]:
        """All vertebrae of all cases."""
        return tuple(v for case in self.cases.values() for v in case.vertebrae)

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """Names of the patients, sorted."""
        return tuple(sorted({case.patient for case in self.cases.values()}))

    @property
    def sites(self) -> dict[str, int]:
        """Cases a site; "" where no site is given."""
        return dict(sorted(Counter(case.site for case in self.cases.values()).items()))

    @property
    def median_spacing_mm(self) -> Extent:
        """Median along each axis."""
        return _median_axes(case.spacing_mm for case in self.cases.values())

    @property
    def median_body_mm(self) -> Extent:
        """Median size of the body box."""
        return _median_axes(case.body_mm for case in self.cases.values())

    @property
    def median_slices(self) -> float:
        """Median number of acquired slices."""
        return float(statistics.median(case.shape[0] for case in self.cases.values()))

    @property
    def spacing_modes(self) -> dict[str, int]:
        """Cases a spacing, written as "4x1x1", most frequent first."""
        modes = Counter("x".join(f"{s:.3g}" for s in case.spacing_mm) for case in self.cases.values())
        return dict(modes.most_common())

    def extents_mm(self, name: str = "") -> np.ndarray:
        """(N, 3) extents along the canonical axes of the whole vertebrae, of one region or all; may be empty."""
        whole = [v for v in self.vertebrae if v.extent_mm and not v.truncated]
        return np.asarray([v.extent_mm for v in whole if name in ("", region(v.level))], float).reshape(-1, 3)

    @cached_property
    def pitches_mm(self) -> dict[str, list[float]]:
        """Distances to the next level below, by level."""
        by_level: dict[str, list[float]] = {}
        for vertebra in self.vertebrae:
            if vertebra.pitch_mm is not None:
                by_level.setdefault(vertebra.level, []).append(vertebra.pitch_mm)
        return by_level

    @property
    def smallest_lesion_mm(self) -> float | None:
        """5th percentile of the lesion sizes; None when no lesion is drawn."""
        sizes = [size for case in self.cases.values() for size in case.lesions_mm]
        return float(np.percentile(sizes, 5)) if sizes else None

    @property
    def class_counts(self) -> dict[str, int]:
        """Vertebrae a class, every declared class named."""
        counts = Counter(v.class_name for v in self.vertebrae)
        return {name: counts[name] for name in self.class_names}

    @property
    def class_patients(self) -> dict[str, int]:
        """Patients that show a class."""
        shown = {(name, case.patient) for case in self.cases.values() for name in case.class_counts}
        counts = Counter(name for name, _ in shown)
        return {name: counts[name] for name in self.class_names}

    @property
    def share_truncated(self) -> float:
        """Share of vertebrae cut by the border of the image."""
        return sum(v.truncated for v in self.vertebrae) / max(1, len(self.vertebrae))

    @property
    def share_with_anchor(self) -> float:
        """Share of cases in which C2 or S1 is annotated."""
        return sum(bool(case.anchors) for case in self.cases.values()) / max(1, len(self.cases))

    @property
    def class_icc(self) -> float | None:
        """Likeness of the classes of one patient, see `intraclass_correlation`; None when it is not defined.

        The class index where classes are ordered, else whether anything was found.
        """
        index = {name: i if self.class_order else min(i, 1) for i, name in enumerate(self.class_names)}
        groups: dict[str, list[float]] = {}
        for case in self.cases.values():
            values = [float(index[v.class_name]) for v in case.vertebrae if v.class_name in index]
            groups.setdefault(case.patient, []).extend(values)
        return intraclass_correlation(list(groups.values()))

    def summary(self) -> dict:
        """The aggregates, for a reader of the file."""
        regions = sorted({region(v.level) for v in self.vertebrae if v.extent_mm and not v.truncated})
        counts = [len(case.vertebrae) for case in self.cases.values()]
        return {
            "cases": len(self.cases),
            "patients": len(self.patients),
            "sites": self.sites,
            "median_spacing_mm": self.median_spacing_mm,
            "spacing_modes": self.spacing_modes,
            "median_body_mm": self.median_body_mm,
            "median_slices": self.median_slices,
            "vertebrae_a_case": {"min": min(counts), "median": statistics.median(counts), "max": max(counts)},
            "extents_mm_p1_p50_p99": {
                name: np.percentile(self.extents_mm(name), (1, 50, 99), axis=0).round(1) for name in regions
            },
            "median_pitch_mm": {level: round(statistics.median(p), 2) for level, p in self.pitches_mm.items()},
            "smallest_lesion_mm": self.smallest_lesion_mm,
            "class_counts": self.class_counts,
            "class_patients": self.class_patients,
            "class_icc": self.class_icc,
            "share_truncated": self.share_truncated,
            "share_with_anchor": self.share_with_anchor,
        }


def _median_axes(rows: Iterable[Extent]) -> Extent:
    return triple(float(v) for v in np.median(np.asarray(list(rows), float), axis=0))


def intraclass_correlation(groups: list[list[float]]) -> float | None:
    """One-way random ICC(1) of values in groups of unequal size (Shrout and Fleiss, Psychol Bull 1979).

    Returns
    -------
    None with fewer than two groups, without a group of two, or when all values are equal.
    """
    groups = [group for group in groups if group]
    total = sum(len(group) for group in groups)
    if len(groups) < 2 or total <= len(groups):
        return None
    grand = sum(map(sum, groups)) / total
    means = [sum(group) / len(group) for group in groups]
    between = sum(len(g) * (m - grand) ** 2 for g, m in zip(groups, means, strict=True)) / (len(groups) - 1)
    within = sum((v - m) ** 2 for g, m in zip(groups, means, strict=True) for v in g) / (total - len(groups))
    size = (total - sum(len(g) ** 2 for g in groups) / total) / (len(groups) - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread > 0 else None


def save_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Write a fingerprint as JSON, the aggregates first."""
    files.write_json(
        path, {"format": FORMAT, "summary": fingerprint.summary(), "fingerprint": dataclasses.asdict(fingerprint)}
    )


def load_fingerprint(path: Path) -> Fingerprint:
    """Fingerprint from its JSON file; the aggregates are worked out anew."""
    if not path.is_file():
        raise PlanError(f"{path}: no fingerprint. Run spinecls_extract_fingerprint first.")
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or "fingerprint" not in content:
        raise PlanError(f"{path}: not a fingerprint of format {FORMAT}. Run spinecls_extract_fingerprint again.")
    return from_plain(Fingerprint, content["fingerprint"], str(path))
