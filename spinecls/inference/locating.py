"""The open pass over one image: where its vertebrae are, what they are called and which voxels are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinecls.anatomy import LEVELS
from spinecls.curve import drop_outliers, image_frame, image_tangents_lps
from spinecls.dataloading.body_shapes import level_extent_mm
from spinecls.dataloading.cases import core_region
from spinecls.geometry import Geometry
from spinecls.inference.case_results import Located
from spinecls.inference.instances import vote_instances
from spinecls.inference.level_decoding import decode_levels, see_anchors
from spinecls.inference.peaks import find_centres
from spinecls.inference.sliding_window import open_maps, values_at
from spinecls.networks.model import SpineModel
from spinecls.planning.plan import Configuration, Plan
from spinecls.planning.resample import resample_probabilities
from spinecls.planning.volume import preprocess_volume
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import Region, region_from_ellipsoid, region_from_mask, vertebra_axes, with_corners
from spinecls.tasks.open_targets import OFFSET_UNIT_MM

PEAK_THRESHOLD = 0.3
"""Least heat of a centre. A Gaussian learnt well reaches 0.8 and more; half-seen vertebrae at the border about 0.4."""

EVIDENCE_SHARE = 0.5
"""How much the network's opinions on the names of a column count, against 1 for independent witnesses.

They come from one image and err together. On held-out lumbar scans, whole and cut short, the annotated names got their
best log-probability at a share of 0.35, nearly the same at 0.5, and clearly less at 1; the names themselves hardly
change.
"""

UNFAMILIAR_CERTAINTY = 0.4
"""How sure names in an image unlike those of training are, against 1 in others: there opinions are wrong together more
often, and spines are counted by what other scanners show. The names themselves stay: with opinions alone held for less,
columns of a hospital that training had not seen moved by a level (`benchmarks/levels.py`, VB1 held out).
"""


@dataclass(frozen=True)
class Locator:
    """Finders of one or several folds, and what they were trained by.

    Parameters
    ----------
    models : their maps are averaged
    mirror : whether each also looks at the image with left and right exchanged
    """

    models: Sequence[SpineModel]
    plan: Plan
    configuration: Configuration
    device: torch.device
    mirror: bool

    def locate(self, image: np.ndarray, geometry: Geometry, unlike: bool = False) -> Located:
        """Centres, names, regions and the marrow reference.

        Parameters
        ----------
        image : (C, S, R, A) array on the canonical grid `geometry`
        unlike : whether the image is unlike those of training; names are less sure then
        """
        network = self.configuration.network
        prepared = preprocess_volume(image, geometry, self.configuration)
        maps = open_maps(
            self.models, prepared.image, self.configuration.patch_size, network.divisor, self.device, self.mirror
        )
        offset_mm = maps["offset"] * OFFSET_UNIT_MM
        spacing = np.asarray(prepared.geometry.spacing_mm)
        peaks = find_centres(
            maps["heatmap"][0], offset_mm, spacing, threshold=PEAK_THRESHOLD, min_distance_mm=self._least_distance_mm()
        )
        centres = prepared.geometry.to_world(peaks.index).reshape(-1, 3)
        kept = drop_outliers(image_frame(centres, geometry), peaks.score)
        centres, scores, index = centres[kept], peaks.score[kept], peaks.index[kept]
        log_levels = values_at(maps["level"], index, self._level_stride())
        counted = EVIDENCE_SHARE * self._visibility(centres, geometry)
        certainty = UNFAMILIAR_CERTAINTY if unlike else 1.0
        decoding = decode_levels(centres, log_levels, self._pitch_mm(), visibility=counted, certainty=certainty)
        decoding = see_anchors(decoding, centres, geometry, self._pitch_mm())
        # Of a vertebra that was detected twice one detection goes, before the voxels choose their centre.
        rows = decoding.kept
        centres, scores, decoding = centres[rows], scores[rows], decoding.rows(rows)
        masks = self._native_masks(maps, offset_mm, prepared.geometry, geometry, centres)
        return self._with_regions(image, geometry, centres, scores, decoding, masks)

    def _level_stride(self) -> np.ndarray:
        stage = self.models[0].finder.level_stage
        return np.prod(np.asarray(self.configuration.network.strides[: stage + 1]), axis=0)

    def _pitch_mm(self) -> Mapping[str, float]:
        return {name: s.pitch_mm for name, s in self.plan.level_statistics.items() if s.pitch_mm > 0}

    def _visibility(self, centres: np.ndarray, geometry: Geometry) -> np.ndarray:
        """(N,) share of each vertebra that lies in the image; its name is not known yet, so of a typical one."""
        extent = np.median([level_extent_mm(self.plan, level) for level in self.plan.levels or LEVELS], axis=0)
        tangents = image_tangents_lps(centres, geometry)
        shares = [visible_fraction(geometry, c, t, extent) for c, t in zip(centres, tangents, strict=True)]
        return np.array(shares)

    def _least_distance_mm(self) -> float:
        pitches = list(self._pitch_mm().values())
        return 0.4 * min(pitches) if pitches else 10.0

    def _native_masks(self, maps, offset_mm, open_geometry, geometry, centres) -> np.ndarray | None:
        if "vertebra_map" not in maps:
            return None
        native = resample_probabilities(np.concatenate([maps["vertebra_map"], offset_mm]), open_geometry, geometry)
        return vote_instances(native[0], native[1:], geometry, centres)

    def _with_regions(self, image, geometry, centres, scores, decoding, masks) -> Located:
        """Keep the vertebrae that have a region."""
        tangents = image_tangents_lps(centres, geometry)
        regions, cores, rows, from_mask, visible = [], [], [], [], []
        for row, (centre, tangent, level) in enumerate(zip(centres, tangents, decoding.labels, strict=True)):
            mask = None if masks is None else masks == row + 1
            extent = level_extent_mm(self.plan, level)
            if mask is None or not mask.any():
                region = region_from_ellipsoid(geometry, centre, tangent, extent)
                core = core_region(geometry, centre, tangent, extent)
            else:
                whole = with_corners(mask, geometry, tangent)
                region = region_from_mask(whole, geometry, self.configuration.sealing_margin_mm)
                core = Region(mask, (0, 0, 0), geometry, "mask")
            if region is None or core is None:
                continue
            regions.append(region)
            cores.append(core)
            rows.append(row)
            from_mask.append(mask is not None and bool(mask.any()))
            visible.append(visible_fraction(geometry, centre, tangent, extent))
        return Located(
            centres_lps=centres[rows],
            scores=scores[rows],
            decoding=decoding.rows(rows),
            regions=tuple(regions),
            masks=_renumbered(masks, rows),
            marrow=marrow_reference(image, cores) if cores else np.full((len(image), 2), np.nan),
            from_mask=tuple(from_mask),
            visible_fractions=tuple(visible),
        )


def visible_fraction(geometry: Geometry, centre_lps, tangent_lps, extent_mm) -> float:
    """Share of a vertebra of typical size at this place that lies in the image.

    Sagittal series often end within the vertebrae at both sides; what lies left and right of the outermost slices was
    never meant to be seen and does not count.
    """
    extent_mm = np.minimum(extent_mm, [geometry.shape[0] * geometry.spacing_mm[0], np.inf, np.inf])
    ticks = np.linspace(-0.5, 0.5, 9)
    lattice = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3) * np.asarray(extent_mm)
    world = np.asarray(centre_lps) + lattice @ vertebra_axes(geometry, np.asarray(tangent_lps)).T
    return float(geometry.contains(world).mean())


def _renumbered(masks: np.ndarray | None, rows: Sequence[int]) -> np.ndarray | None:
    """Instance map whose value i + 1 stands for the i-th kept row."""
    if masks is None:
        return None
    table = np.zeros(int(masks.max()) + 1, np.uint8)
    for new, old in enumerate(rows):
        if old + 1 < len(table):
            table[old + 1] = new + 1
    return table[masks]
