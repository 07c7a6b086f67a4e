"""Truth of a case, from the files of a raw dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from spinecls.anatomy import LEVEL_CODES
from spinecls.beliefs import agreed_class
from spinecls.errors import DatasetError
from spinecls.evaluation.matching import CaseTruth
from spinecls.evaluation.summary import dice_by_level
from spinecls.geometry import Geometry
from spinecls.io.annotation_forms import is_draft
from spinecls.io.images import read_label_map
from spinecls.records import Case, ClassReading, DatasetDescription


def class_of(readings: Iterable[ClassReading], class_names: Sequence[str]) -> int | None:
    """Index of the class that the readings agree on (`beliefs.agreed_class`); None when they do not."""
    name = agreed_class((reading.classes, reading.confidence) for reading in readings)
    return None if name is None else class_names.index(name)


def class_prior(classes: Iterable[int | None], num_classes: int) -> np.ndarray:
    """(K,) share of each class among the vertebrae that were read; equal shares when none was."""
    counts = np.bincount([index for index in classes if index is not None], minlength=num_classes).astype(float)
    return counts / counts.sum() if counts.sum() else np.full(num_classes, 1 / max(1, num_classes))


def truth_of(
    case: Case, description: DatasetDescription, predicted_map: Path | None = None, sequence: str = ""
) -> CaseTruth:
    """Truth of one case of a raw dataset.

    The centre of a vertebra is the centroid of its voxels, else the point of the table, else the middle of its box.
    What a model drafted is no truth: vertebrae of such a case have classes and no position.
    Where several readers drew a vertebra, centroid and Dice are means over them.

    Parameters
    ----------
    predicted_map : map to judge by the Dice; a file that does not exist is a map without vertebrae; None = no Dice

    Raises
    ------
    DatasetError
        When the predicted map lies on another grid than the true one.
    """
    centroids: dict[str, list] = {}
    dice: dict[str, list[float]] = {}
    draft = is_draft(case.annotation_form)
    for path in () if draft else case.vertebra_maps.values():
        array, grid = read_label_map(path)
        for level, centre in _centroids_lps(array, grid, description).items():
            centroids.setdefault(level, []).append(centre)
        if predicted_map is not None:
            predicted = _map_on_grid(predicted_map, grid)
            for level, value in dice_by_level(array, predicted, description).items():
                dice.setdefault(level, []).append(value)
    centres_lps = {level: tuple(np.mean(values, axis=0).tolist()) for level, values in centroids.items()}
    for vertebra in () if draft else case.vertebrae:
        if vertebra.level not in centres_lps and vertebra.centre_lps is not None:
            centres_lps[vertebra.level] = vertebra.centre_lps
        elif vertebra.level not in centres_lps and vertebra.box_lps is not None:
            centres_lps[vertebra.level] = tuple(np.mean(vertebra.box_lps, axis=0).tolist())
    told = [v for v in case.vertebrae if v.readings or not draft]
    return CaseTruth(
        identifier=case.identifier,
        patient=case.patient,
        site=case.site,
        sequence=sequence,
        centres_lps=centres_lps,
        classes={v.level: class_of(v.readings, description.class_names) for v in told},
        dice={level: float(np.mean(values)) for level, values in dice.items()},
    )


def _centroids_lps(
    array: np.ndarray, grid: Geometry, description: DatasetDescription
) -> dict[str, tuple[float, float, float]]:
    """Centroid, in world mm, of the voxels of each level in a vertebra map (S, R, A)."""
    centroids_lps = {}
    for level, code in (description.levels or LEVEL_CODES).items():
        voxels = np.argwhere(array == code)
        if len(voxels):
            centroids_lps[level] = tuple(grid.to_world(voxels.mean(axis=0)).tolist())
    return centroids_lps


def _map_on_grid(path: Path, grid: Geometry) -> np.ndarray:
    if not path.exists():
        return np.zeros(grid.shape, np.int16)
    array, other = read_label_map(path)
    corners = np.asarray([[0, 0, 0], np.asarray(grid.shape) - 1])
    shift_voxels = np.abs(other.to_index(grid.to_world(corners)) - corners).max()
    if other.shape != grid.shape or shift_voxels > 0.1:
        raise DatasetError(
            f"{path}: grid {other.shape}, its corners up to {shift_voxels:.2f} voxels away from those of the annotated "
            f"map, {grid.shape}. Expected the grid of the input image; predict from the image of the dataset."
        )
    return array
