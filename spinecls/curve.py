"""Smooth curve of the spine through detected centres: order, tangents, detections that lie off it.

Millimetres, the third component falling from head to feet: the world (LPS) of a patient who lies straight, or better
the frame of the image (`image_frame`), in which an oblique scan is no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline

from spinecls.geometry import Geometry

SMOOTHNESS_MM3 = 8e3
"""Weight of the squared curvature against the squared distances.

Set on outlined lumbar spines: every true centre, S1 behind its bend included, stays within `OFF_CURVE_MM`, and
nineteen of twenty detections 20 mm in front of the inner column do not.
"""

OFF_CURVE_MM = 12.0

_KNOT_MM = 15.0
_OVERHANG_MM = 20.0
_SLOPE_RIDGE = 1e-6
_FEWEST_JUDGED = 4


@dataclass(frozen=True, kw_only=True)
class SpineCurve:
    """Curve through N centres, in the order in which they were given.

    Attributes
    ----------
    order : (N,) int, rows of the centres from head to feet along the curve
    tangents_lps : (N, 3) unit vectors at the centres, from head to feet
    outliers_mm : (N,) distance of each centre from the curve fitted without it; 0 for N < 3, where every centre fits
    surprise_mm : (N,) `outliers_mm` scaled down where the curve had to be extrapolated. Its square is what the fit
        improves by when the centre is left out
    """

    order: np.ndarray
    tangents_lps: np.ndarray
    outliers_mm: np.ndarray
    surprise_mm: np.ndarray

    def tangent(self, i: int) -> np.ndarray:
        """(3,) unit vector at centre `i`, from head to feet."""
        return self.tangents_lps[i]


def fit_spine_curve(centres_lps: np.ndarray, smoothness_mm3: float = SMOOTHNESS_MM3) -> SpineCurve:
    """Smooth curve through centres given in any order.

    Left-right and front-back position are penalised B-splines of the head-feet position (Eilers and Marx, Statistical
    Science 1996), so the curve runs from head to feet whatever the detections are. The fit is linear in the
    positions; the curve without a centre therefore follows from the curve with it by the leverage of that centre.

    Parameters
    ----------
    centres_lps : (N, 3), world mm; N may be 0
    smoothness_mm3 : weight of the squared second derivative
    """
    centres = np.asarray(centres_lps, float).reshape(-1, 3)
    if len(centres) == 0:
        return SpineCurve(
            order=np.zeros(0, int), tangents_lps=np.zeros((0, 3)), outliers_mm=np.zeros(0), surprise_mm=np.zeros(0)
        )
    down_mm = -centres[:, 2]
    spline, leverage = _smooth(down_mm, centres[:, :2], smoothness_mm3)
    tangents = np.column_stack([spline(down_mm, 1), -np.ones(len(centres))])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    off = np.column_stack([centres[:, :2] - spline(down_mm), np.zeros(len(centres))])
    off -= (off * tangents).sum(axis=1, keepdims=True) * tangents
    residual_mm = np.linalg.norm(off, axis=1) if len(centres) > 2 else np.zeros(len(centres))
    free = np.maximum(1 - leverage, 1e-6)
    return SpineCurve(
        order=_order_along(spline, centres),
        tangents_lps=tangents,
        outliers_mm=residual_mm / free,
        surprise_mm=residual_mm / np.sqrt(free),
    )


def tangents_lps(centres_lps: np.ndarray) -> np.ndarray:
    """(N, 3) unit vectors along the spine, from head to feet, at centres (N, 3) given in any order."""
    return fit_spine_curve(centres_lps).tangents_lps


def image_frame(centres_lps: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(N, 3) millimetres along the slices, front to back, and feet to head, of centres in the world."""
    along_mm = geometry.to_index(np.asarray(centres_lps, float).reshape(-1, 3)) * np.asarray(geometry.spacing_mm)
    return along_mm[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])


def image_tangents_lps(centres_lps: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(N, 3) unit vectors along the spine, world, head to feet, fitted in the frame of the image."""
    axes = np.asarray(geometry.direction, float)[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
    return tangents_lps(image_frame(centres_lps, geometry)) @ axes.T


def drop_outliers(centres_lps: np.ndarray, scores: np.ndarray, limit_mm: float = OFF_CURVE_MM) -> np.ndarray:
    """Rows of the detections that lie on one smooth curve, from head to feet.

    One detection is left out at a time and the curve fitted anew. `SpineCurve.surprise_mm` is compared with the
    limit, not the plain distance: beyond the last vertebra the curve is a guess, and S1, which bends away from it,
    must stay. Of several detections beyond the limit the one goes first that is far off for its score, for a false
    detection also makes its true neighbours look wrong. Up to three detections all stay, as no three can tell which
    of them is wrong.

    Parameters
    ----------
    centres_lps : (N, 3), world mm, any order
    scores : (N,) positive, higher is more certain
    limit_mm : a detection farther off the curve of the others is dropped

    Returns
    -------
    (M,) int array of rows
    """
    centres = np.asarray(centres_lps, float).reshape(-1, 3)
    kept = np.arange(len(centres))
    while len(kept) >= _FEWEST_JUDGED:
        surprise_mm = fit_spine_curve(centres[kept]).surprise_mm
        if surprise_mm.max() <= limit_mm:
            break
        doubt = np.where(surprise_mm > limit_mm, surprise_mm**2, 0) / np.maximum(np.asarray(scores, float)[kept], 1e-6)
        kept = np.delete(kept, doubt.argmax())
    return kept[fit_spine_curve(centres[kept]).order]


def _smooth(position_mm: np.ndarray, values_mm: np.ndarray, smoothness_mm3: float) -> tuple[BSpline, np.ndarray]:
    """Penalised spline of values (N, K) and the leverage (N,) of each of them on its own fitted value."""
    first, last = position_mm.min() - _OVERHANG_MM, position_mm.max() + _OVERHANG_MM
    pieces = int(np.ceil((last - first) / _KNOT_MM))
    step = (last - first) / pieces
    knots = first + step * np.arange(-3, pieces + 4)
    basis = BSpline.design_matrix(position_mm, knots, 3).toarray()
    bend = np.diff(np.eye(pieces + 3), 2, axis=0)
    # With one centre, or all at one height, the data leave the slope open; the ridge makes it upright.
    slope = np.diff(np.eye(pieces + 3), axis=0)
    normal = basis.T @ basis + smoothness_mm3 / step**3 * bend.T @ bend + _SLOPE_RIDGE * slope.T @ slope
    to_coefficients = np.linalg.solve(normal, basis.T)
    leverage = np.einsum("nk,kn->n", basis, to_coefficients)
    return BSpline(knots, to_coefficients @ values_mm, 3), leverage


def _order_along(spline: BSpline, centres: np.ndarray) -> np.ndarray:
    """Rows from head to feet by the nearest point of the curve; at equal points by height.

    Height alone would swap two detections of a strongly tilted part, one at its front and one at its back.
    """
    down_mm = -centres[:, 2]
    ticks = np.arange(down_mm.min() - _OVERHANG_MM, down_mm.max() + _OVERHANG_MM, 0.5)
    points = np.column_stack([spline(ticks), -ticks])
    nearest = np.linalg.norm(centres[:, None] - points[None], axis=2).argmin(axis=1)
    return np.lexsort((down_mm, nearest))
