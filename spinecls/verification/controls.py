"""Controls: classifiers that are not shown the vertebra's inside. What they know may not have come from there.

They need no network and no training of one: a logistic regression on a few numbers, cross-validated by patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from spinecls.evaluation.intervals import format_interval
from spinecls.evaluation.probes import PROBE_FOLDS, probe_auc
from spinecls.verification.check_results import CheckResult, Outcome, not_applicable
from spinecls.verification.study import Place, Scan, Study
from spinecls.verification.swaps import bounding_box

SHELLS_MM = ((0.0, 5.0), (5.0, 10.0))
PERCENTILES = (5, 50, 95)


def shape_features(scan: Scan, vertebra: int) -> np.ndarray:
    """Size and form of a region: volume, extents, slices, and its area in the slices."""
    region = scan.regions[vertebra]
    spacing_mm = np.asarray(region.geometry.spacing_mm)
    low, high = bounding_box(region)
    areas = region.mask.sum(axis=(1, 2)) * spacing_mm[1] * spacing_mm[2]
    areas = areas[areas > 0]
    extents_mm = (high - low + 1) * spacing_mm
    volume_mm3 = region.mask.sum() * spacing_mm.prod()
    filling = volume_mm3 / extents_mm.prod()
    return np.array([np.log(volume_mm3), *extents_mm, filling, len(areas), areas.mean(), areas.std(), areas.max()])


def marrow_features(scan: Scan, vertebra: int) -> np.ndarray:
    """The numbers of the case that enter its crops."""
    return scan.marrow.ravel()


def surroundings_features(scan: Scan, vertebra: int) -> np.ndarray:
    """Intensities in shells around the region, counted from the marrow: mean, deviation and percentiles a channel."""
    region = scan.regions[vertebra]
    spacing_mm = np.asarray(scan.grid.spacing_mm)
    grow = np.ceil(SHELLS_MM[-1][1] / spacing_mm).astype(int)
    low = np.maximum(0, np.asarray(region.start) - grow)
    high = np.minimum(scan.grid.shape, np.asarray(region.start) + region.mask.shape + grow)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = np.zeros(high - low, bool)
    offset = np.asarray(region.start) - low
    inside[tuple(slice(a, a + n) for a, n in zip(offset, region.mask.shape, strict=True))] = region.mask
    distance_mm = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
    features = []
    for channel, (median, spread) in zip(scan.image[(slice(None), *box)], scan.marrow, strict=True):
        for near, far in SHELLS_MM:
            values = (channel[(distance_mm > near) & (distance_mm <= far)] - median) / max(spread, 1e-6)
            # A region that fills the whole image has no surroundings.
            features += [values.mean(), values.std(), *np.percentile(values, PERCENTILES)] if len(values) else [0.0] * 5
    return np.array(features)


CONTROLS: dict[str, tuple[str, Callable[[Scan, int], np.ndarray]]] = {
    "shape_only": ("control: shape of the region alone", shape_features),
    "marrow_only": ("control: marrow numbers alone", marrow_features),
    "surroundings_only": ("control: surroundings alone (0-10 mm)", surroundings_features),
}


def controls(study: Study) -> list[CheckResult]:
    """Area under the ROC curve of each control over all vertebrae with a known class.

    Above chance is no fault of the model: lesions cluster in patients. It says what a model that is not sealed could
    have used.
    """
    known = [place for place in study.places if study.scans[place.scan].truth[place.vertebra] is not None]
    return [_control(study, known, key, title, features) for key, (title, features) in CONTROLS.items()]


def _control(
    study: Study, places: Sequence[Place], key: str, title: str, features: Callable[[Scan, int], np.ndarray]
) -> CheckResult:
    truth = np.array([study.scans[place.scan].truth[place.vertebra] for place in places], int)
    patients = [study.patient(place) for place in places]
    if len(set(patients)) < PROBE_FOLDS:
        return not_applicable(key, title, study.lacks(f"known classes of {PROBE_FOLDS} patients or more"))
    table = np.stack([features(study.scans[place.scan], place.vertebra) for place in places])
    area = probe_auc(table, truth, patients, study.seed)
    if not np.isfinite(area.estimate):
        return not_applicable(key, title, f"Needs {PROBE_FOLDS} vertebrae or more of each of two classes.")
    above = area.low > 0.5
    verdict = "above chance, so this alone tells something of the class" if above else "not told from chance, 0.5"
    return CheckResult(
        key=key,
        title=title,
        outcome=Outcome.WARNING if above else Outcome.REPORTED,
        numbers={"auc": area},
        threshold="interval reaches down to 0.5",
        sentence=(
            f"A logistic regression on {table.shape[1]} such numbers reaches an AUC of {area.estimate:.3f} "
            f"{format_interval(area.as_dict())} over {len(places)} vertebrae, {verdict}."
        ),
    )
