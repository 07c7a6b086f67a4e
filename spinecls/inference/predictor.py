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

from spinecls.anatomy import LEVEL_CODES
from spinecls.calibration.record import Calibration
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.inference import native_maps
from spinecls.inference.case_results import ImagePrediction, Located, VolumePrediction, with_warnings
from spinecls.inference.locating import Locator
from spinecls.inference.reported import report_classes
from spinecls.inference.sealed_pass import UNCHANGED, SealedResult, augmented_views, classify, make_crops
from spinecls.inference.vertebrae import ModelFacts, reported_vertebra
from spinecls.networks.model import SpineModel
from spinecls.planning.appearance import appearance
from spinecls.planning.familiarity import unfamiliar
from spinecls.planning.plan import Configuration, Plan
from spinecls.records import evidence_names
from spinecls.sealing.region import Region
from spinecls.tasks.classification import class_prior, drawn_prior


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
        facts = ModelFacts(configuration, self.segments, self.calibration is not None, self.evidence_names)
        vertebrae = tuple(reported_vertebra(i, located, sealed, report, facts) for i in range(len(located.regions)))
        return VolumePrediction(
            vertebrae=vertebrae,
            level_map=native_maps.level_map(located, self.level_codes, geometry),
            evidence=native_maps.evidence_map(
                located, sealed, () if report is None else report.probabilities, configuration, geometry
            ),
            contributions=native_maps.contribution_maps(located, sealed, self.evidence_names, configuration, geometry),
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
        channels, expected = len(volume.array), len(self.plan.channel_names)
        if channels != expected:
            raise DatasetError(
                f"image in memory: {channels} channels, the model learned from {expected} "
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
        mirror = self.augment and 0 in self.configuration.mirror_axes
        return Locator(self.models, self.plan, self.configuration, self.device, mirror).locate(image, geometry, unlike)

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

    @property
    def training_images(self) -> list[str] | None:
        """Digests of the images that any fold learned from, sorted; None where a fold's plan does not say."""
        digests: set[str] = set()
        for plan in self.fold_plans or [self.plan]:
            if plan.training_images is None:
                return None
            digests.update(plan.training_images)
        return sorted(digests)

    @property
    def evidence_names(self) -> tuple[str, ...]:
        """Names of the evidence maps."""
        return evidence_names(self.plan.class_names, self.models[0].ordinal)
