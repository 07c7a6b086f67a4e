"""From an image to located, named and classified vertebrae.

Works on arrays; reading and writing files is done by `predict_folder.py`. Training uses the same predictor for the
validation cases of a fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from spinecls.anatomy import LEVEL_CODES, LEVELS
from spinecls.calibration.record import Calibration
from spinecls.curve import drop_outliers, image_frame, image_tangents_lps
from spinecls.dataloading.bodies import level_extent_mm
from spinecls.dataloading.cases import core_region
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.inference import native_maps
from spinecls.inference.instances import vote_instances
from spinecls.inference.levels import decode_levels, see_anchors
from spinecls.inference.peaks import find_centres
from spinecls.inference.reported import ClassReport, report_classes
from spinecls.inference.results import (
    ImagePrediction,
    Located,
    VolumePrediction,
    entropy_of,
    reported_levels,
    with_warnings,
)
from spinecls.inference.sealed_pass import UNCHANGED, SealedResult, augmented_views, classify, make_crops
from spinecls.inference.sliding_window import open_maps, values_at
from spinecls.networks.model import SpineModel
from spinecls.planning.appearance import appearance
from spinecls.planning.familiarity import unfamiliar
from spinecls.planning.plan import Configuration, Plan
from spinecls.planning.resample import resample_probabilities
from spinecls.planning.volume import preprocess_volume
from spinecls.records import (
    NO_MASK,
    NUMBERING_AMBIGUOUS,
    REFER,
    TRUNCATED,
    UNSURE,
    VertebraPrediction,
    evidence_names,
)
from spinecls.sealing.levels import is_guaranteed
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import Region, region_from_ellipsoid, region_from_mask, vertebra_axes, with_corners
from spinecls.tasks.classification import class_prior, drawn_prior
from spinecls.tasks.open_targets import OFFSET_UNIT_MM
from spinecls.types import triple

PEAK_THRESHOLD = 0.3
"""Least heat of a centre. A Gaussian learnt well reaches 0.8 and more; half-seen vertebrae at the border about 0.4."""

FULLY_VISIBLE = 0.9

EVIDENCE_SHARE = 0.5
"""How much the network's opinions on the names of a column count, against 1 for independent witnesses.

They come from one image and err together. On held-out lumbar scans, whole and cut short, the annotated names got their
best log-probability at a share of 0.35, nearly the same at 0.5, and clearly less at 1; the names themselves hardly
change.
"""

UNFAMILIAR_SHARE = 0.4
"""How much of that is left in an image unlike those of training: there opinions are wrong together more often."""


@dataclass(repr=False)
class Predictor:
    """A trained model, one or several folds of it.

    Parameters
    ----------
    models : finder and readers of each fold
    plan, configuration : what they were trained by; without readers the plan is one without classes
    augment : test-time augmentation by views mirrored as training mirrored, and of other contrast
    checkpoints : name of the fold -> hash of its checkpoint, one a model
    fold_plans : plan of each model, whose class counts differ; `plan` for all by default
    calibration : of these folds with `augment` as it is; None = not calibrated
    prevalence : class -> share where the model is used; None = as in training
    """

    models: Sequence[SpineModel]
    plan: Plan
    configuration: Configuration
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    augment: bool = True
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    fold_plans: Sequence[Plan] = ()
    calibration: Calibration | None = None
    prevalence: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for model in self.models:
            model.to(self.device).eval()
        if not self.models[0].readers:
            # Whatever classes the dataset has, these networks tell none.
            self.plan = dataclasses.replace(self.plan, class_names=(), class_order=False)

    def __repr__(self) -> str:
        classes = ", ".join(self.plan.class_names) or "no classes"
        return (
            f"Predictor({self.plan.dataset_name}, {self.configuration.name}, {len(self.models)} fold(s), {classes}, "
            f"on {self.device})"
        )

    @property
    def segments(self) -> bool:
        """Whether the network has a vertebra map."""
        return "vertebra_map" in self.models[0].finder.heads

    @property
    def level_codes(self) -> dict[str, int]:
        """What stands for each level in the maps: the dataset's own codes, else the usual ones."""
        return {**LEVEL_CODES, **self.plan.levels}

    def predict_volume(self, image: np.ndarray, geometry: Geometry, unlike: bool = False) -> VolumePrediction:
        """Vertebrae of one image.

        Parameters
        ----------
        image : (C, S, R, A) array on a canonical grid
        geometry : that grid
        unlike : whether `image_warnings` has anything to say of the image; names are less sure then
        """
        configuration = self.configuration
        located = self.locate(image, geometry, unlike)
        sealed = self.classify_regions(image, geometry, located.regions, located.marrow) if located.regions else None
        report = None
        if sealed is not None:
            report = report_classes(
                sealed, self.plan, tuple(self.checkpoints), self.calibration, self.prevalence, self.prior()
            )
        vertebrae = tuple(self._vertebra(i, located, sealed, report) for i in range(len(located.regions)))
        return VolumePrediction(
            vertebrae=vertebrae,
            level_map=native_maps.level_map(located, self.level_codes, geometry),
            evidence=native_maps.evidence_map(
                located, sealed, () if report is None else report.probabilities, configuration, geometry
            ),
            contributions=native_maps.contribution_maps(
                located, sealed, self.evidence_names, configuration, geometry
            ),
            located=located,
            sealed=sealed,
        )

    def predict_image(self, images) -> ImagePrediction:
        """Vertebrae of an image in memory.

        Parameters
        ----------
        images : SimpleITK.Image of three dimensions, or a sequence of them, one a channel in the order of the dataset's
            `channel_names`; of a single image the components of a voxel are the channels

        Returns
        -------
        ImagePrediction
            Its maps are SimpleITK images on the grid of the first channel.

        Raises
        ------
        DatasetError
            When the image cannot be used, or has another number of channels than the model learned from.
        """
        # Training predicts, too, and must do without the library.
        from spinecls.io.images import map_image, volume_from_sitk

        volume = volume_from_sitk(images, register=self.plan.register_channels)
        # Training images are measured as scanned, and interpolation would change how sharp and noisy a channel is.
        scanned = volume_from_sitk(images) if self.plan.register_channels else volume
        return self._returned(volume, scanned, map_image)

    def predict_array(self, array: np.ndarray, geometry: Geometry) -> ImagePrediction:
        """Vertebrae of an array whose axes lie in the patient as `geometry` says, in any order and direction.

        Parameters
        ----------
        array : (C, ...) or (...), three spatial axes
        geometry : grid of these axes; see `Geometry`, world coordinates are LPS millimetres

        Returns
        -------
        ImagePrediction
            Its maps are arrays with the axes of the input.

        Raises
        ------
        DatasetError
            As `predict_image`; also when the shapes differ.
        """
        from spinecls.io.images import map_array, volume_from_array

        volume = volume_from_array(array, geometry)
        return self._returned(volume, volume, map_array)

    def image_warnings(self, image: np.ndarray, geometry: Geometry) -> tuple[str, ...]:
        """In which ways an image as scanned is unlike those of training; none when the plan has no limits.

        Parameters
        ----------
        image : (C, S, R, A) array on the canonical grid `geometry`
        """
        if self.plan.familiar is None:
            return ()
        return unfamiliar(geometry.shape, geometry.spacing_mm, appearance(image, geometry.spacing_mm), self.plan)

    def _returned(self, volume, scanned, convert) -> ImagePrediction:
        """Prediction of a volume with its maps as the caller's image lies."""
        found, expected = len(volume.array), len(self.plan.channel_names)
        if found != expected:
            raise DatasetError(
                f"image in memory: {found} channels, the model learned from {expected} "
                f"({', '.join(self.plan.channel_names)}). Give them in this order."
            )
        warnings = self.image_warnings(scanned.array, scanned.geometry)
        result = self.predict_volume(volume.array, volume.geometry, unlike=bool(warnings))
        return ImagePrediction(
            vertebrae=with_warnings(result.vertebrae, warnings),
            warnings=(*volume.warnings, *warnings),
            level_map=convert(result.level_map, volume.source),
            evidence=convert(result.evidence, volume.source),
            contributions={name: convert(values, volume.source) for name, values in result.contributions.items()},
        )

    def locate(self, image: np.ndarray, geometry: Geometry, unlike: bool = False) -> Located:
        """Open pass: centres, names, regions and the marrow reference; parameters as for `predict_volume`."""
        network = self.configuration.network
        prepared = preprocess_volume(image, geometry, self.configuration)
        mirror = self.augment and 0 in self.configuration.mirror_axes
        maps = open_maps(
            self.models, prepared.image, self.configuration.patch_size, network.divisor, self.device, mirror
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
        share = EVIDENCE_SHARE * (UNFAMILIAR_SHARE if unlike else 1.0)
        counted = share * self._visibility(centres, geometry)
        decoding = decode_levels(centres, log_levels, self._pitch_mm(), visibility=counted)
        decoding = see_anchors(decoding, centres, geometry, self._pitch_mm())
        # Of a vertebra that was detected twice one detection goes, before the voxels choose their centre.
        rows = decoding.kept
        centres, scores, decoding = centres[rows], scores[rows], decoding.rows(rows)
        masks = self._native_masks(maps, offset_mm, prepared.geometry, geometry, centres)
        return self._with_regions(image, geometry, centres, scores, decoding, masks)

    def classify_regions(
        self, image: np.ndarray, geometry: Geometry, regions: Sequence[Region], marrow: np.ndarray
    ) -> SealedResult | None:
        """Sealed pass, at the level that the configuration says.

        At S2 the result for a vertebra depends on the image inside its region and on `marrow`, at S3 on the image
        inside its region, and on nothing else. At S1 and S0 it depends on whatever the open crop shows.

        Parameters
        ----------
        image : (C, S, R, A) array on the canonical grid `geometry`
        marrow : (C, 2) reference numbers of the case
        """
        if not self.models[0].readers:
            return None
        crops, pooled = make_crops(image, geometry, regions, marrow, self.configuration)
        views = augmented_views(self.configuration.sealed_mirror_axes) if self.augment else UNCHANGED
        return classify(self.models, crops, pooled, self.class_shift(), self.device, views)

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

    def prior(self) -> np.ndarray:
        """(K,) share of each class in training, the mean over the models."""
        return np.mean([class_prior(plan).double().numpy() for plan in self.fold_plans or [self.plan]], axis=0)

    def class_shift(self) -> np.ndarray:
        """(M, K) what is added to each model's logits to report probabilities at the prior of its training vertebrae.

        Fold by fold, as validation did, so that what was learnt from validation holds.
        """
        return np.stack([self._class_shift(plan) for plan in self.fold_plans or [self.plan] * len(self.models)])

    def _class_shift(self, plan: Plan) -> np.ndarray:
        natural = class_prior(plan).double().log().numpy()
        drawn = drawn_prior(plan, self.configuration).double().log().numpy()
        return natural - (1 - self.configuration.logit_adjustment) * drawn

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

    def _vertebra(
        self, i: int, located: Located, sealed: SealedResult | None, report: ClassReport | None
    ) -> VertebraPrediction:
        decoding = located.decoding
        level = decoding.labels[i]
        visible = located.visible_fractions[i]
        probabilities = () if report is None else tuple(report.probabilities[i].tolist())
        reasons = [UNSURE] if report is not None and report.unsure[i] else []
        reasons += [NUMBERING_AMBIGUOUS] if decoding.ambiguous else []
        reasons += [TRUNCATED] if visible < FULLY_VISIBLE else []
        reasons += [NO_MASK] if self.segments and not located.from_mask[i] else []
        flags = [REFER] if probabilities and reasons else []
        flags += ["uncalibrated"] if probabilities and self.calibration is None else []
        flags += ["not_sealed"] if probabilities and not is_guaranteed(self.configuration.seal) else []
        flags += reasons
        region = located.regions[i]
        low_lps, high_lps = region.box_lps
        return VertebraPrediction(
            level=level,
            level_probability=float(decoding.posterior[i, LEVELS.index(level)]),
            runner_up=decoding.runner_up[i],
            runner_up_probability=float(decoding.posterior[i, LEVELS.index(decoding.runner_up[i])]),
            centre_lps=triple(float(v) for v in located.centres_lps[i]),
            box_lps=(triple(low_lps), triple(high_lps)),
            score=float(located.scores[i]),
            class_probabilities=probabilities,
            prediction_set=() if report is None else report.sets[i],
            entropy=entropy_of(probabilities),
            doubt={} if report is None else report.doubt.of(i),
            visible_fraction=visible,
            region={
                "source": region.source,
                "seal": self.configuration.seal,
                "guaranteed": is_guaranteed(self.configuration.seal),
                "margin_mm": self.configuration.sealing_margin_mm if region.source == "mask" else 0.0,
                "voxels": int(region.mask.sum()),
                "marrow_reference": None if self.configuration.seal == "S3" else located.marrow.tolist(),
            },
            evidence=self._evidence_sums(i, sealed),
            level_probabilities=reported_levels(decoding.posterior[i]),
            relative_name=decoding.relative_names[i],
            flags=tuple(flags),
        )

    @property
    def training_images(self) -> list[str] | None:
        """Digests of the images that any fold learned from, sorted; None where a fold's plan does not say."""
        found: set[str] = set()
        for plan in self.fold_plans or [self.plan]:
            if plan.training_images is None:
                return None
            found.update(plan.training_images)
        return sorted(found)

    @property
    def evidence_names(self) -> tuple[str, ...]:
        """Names of the evidence maps."""
        return evidence_names(self.plan.class_names, self.models[0].ordinal)

    def _evidence_sums(self, i: int, sealed: SealedResult | None) -> dict[str, dict[str, float]]:
        if sealed is None:
            return {}
        sums = sealed.contributions[i].astype(float).sum(axis=(1, 2, 3))
        return {
            name: {"pooled": float(pooled), "contributions": float(total)}
            for name, pooled, total in zip(self.evidence_names, sealed.pooled[i], sums, strict=True)
        }


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
