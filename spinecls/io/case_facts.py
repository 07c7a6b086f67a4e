"""What is known of the files of one case: which they are, and what was found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinecls.geometry import Geometry
from spinecls.io.findings import Finding
from spinecls.records import DatasetDescription


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """Files of one case."""

    identifier: str
    images: tuple[Path, ...]
    vertebra_maps: Mapping[str, Path] = field(default_factory=dict)
    chance_map: Path | None = None
    structure_map: Path | None = None

    @property
    def sources(self) -> tuple[Path, ...]:
        """All files and DICOM folders."""
        further = (self.chance_map, self.structure_map)
        return (*self.images, *self.vertebra_maps.values(), *(path for path in further if path is not None))


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What was found in the files of one case.

    `centres_lps` holds the centroid of every level in a map, `voxels` and `sizes_mm` its size as
    `map_codes.LevelInMap` defines it; `image_hash` the hash of the voxels of each channel (empty when voxels were not
    verified).
    """

    identifier: str
    findings: tuple[Finding, ...]
    geometry: Geometry | None = None
    orientation: str = ""
    centres_lps: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    voxels: Mapping[str, int] = field(default_factory=dict)
    sizes_mm: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    image_hash: tuple[str, ...] = ()

    @property
    def faultless(self) -> bool:
        """Whether nothing found forbids the use of the case; warnings may have been found."""
        return not any(finding.is_error for finding in self.findings)


Inspect = Callable[[Sequence[CaseFiles], DatasetDescription], Mapping[str, CaseFacts]]
"""Judges the files of cases; facts by identifier."""
