"""Shapes of lesions in a vertebral body, soft at the edge and averaged through thick slices.

Corner lesions are triangular to elliptic, lesions at an endplate half ellipsoids, sclerosis a band and erosion a notch
that opens to the disc (Hermann et al., Ann Rheum Dis 2012); shares of corners after Krabbe et al., RMD Open 2018. Sizes
are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spinecls.simulation.bodies import Body

SMALLEST_MM2 = 12.0
OUTLINE = 0.5
"""Share of a voxel from which it belongs to the lesion."""
_LARGEST_SHARE = 0.8
_TRIES = 40
_SUBSLICES = 4
_TO_SIGMOID = 2 * np.log(9)
_PSF_PIXELS = 0.5
_WARP_MM, _WARP_CORRELATION_MM = 0.5, 4.0
_TEXTURE, _TEXTURE_CORRELATION_MM = 0.15, 2.5
_INVISIBLE = 0.02

# By size grade. Depth of a corner lesion as a share of the body's, front to back; width of an endplate lesion as such a
# share, and its depth in mm; depth of a band; width and depth of a notch.
_CORNER = ((0.12, 0.22), (0.25, 0.45), (0.5, 0.8))
_ENDPLATE = (((0.2, 0.35), (4, 6)), ((0.35, 0.55), (6, 10)), ((0.55, 0.9), (10, 14)))
_BAND_MM = ((3, 5), (5, 7), (7, 10))
_NOTCH_MM = (((4.0, 6.0), (3.0, 4.0)), ((6.0, 9.0), (4.0, 5.0)), ((9.0, 13.0), (5.0, 7.0)))
_FRONT_SHARE, _FAT_CORNER_SHARE = 0.62, 0.85


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A lesion that fits its body.

    Attributes
    ----------
    alpha : float32 array of the body's box, share of each voxel that the lesion takes; 0 outside the body
    pattern : `alpha` with the texture of the lesion
    site : where it sits, such as "upper front" or "lower endplate"
    """

    alpha: np.ndarray
    pattern: np.ndarray
    site: str

    @property
    def outline(self) -> np.ndarray:
        """bool array of the body's box."""
        return self.alpha >= OUTLINE


def draw_shape(rng: np.random.Generator, body: Body, kind: str, grade: int) -> Shape | None:
    """Shape of a kind and size grade (1 to 3), redrawn while it is too small to be seen; None when none fits."""
    for _ in range(_TRIES):
        shape = _one_shape(rng, body, kind, grade)
        area_mm2 = shape.outline.sum(axis=(1, 2)).max() * np.prod(body.geometry.spacing_mm[1:])
        if area_mm2 >= SMALLEST_MM2 and shape.outline.sum() <= _LARGEST_SHARE * body.mask.sum():
            return shape
    return None


def _one_shape(rng: np.random.Generator, body: Body, kind: str, grade: int) -> Shape:
    soft = kind not in ("sclerosis", "erosion")
    edge_mm = rng.uniform(1, 3) if soft else rng.uniform(0.5, 1)
    endplate = str(rng.choice(body.endplates))
    corner = kind == "corner_oedema" or (kind == "fat" and rng.random() < _FAT_CORNER_SHARE)
    if corner:
        side = "front" if rng.random() < _FRONT_SHARE else "back"
        plane, exponent, scale_mm = _corner(rng, body, endplate, side, grade)
        site = f"{endplate} {side}"
    else:
        plane, exponent, scale_mm = _along_endplate(rng, body, endplate, kind, grade)
        site = f"{endplate} endplate"
    width_mm, spacing_mm = body.size_mm[0], body.geometry.spacing_mm
    start_mm = rng.uniform(-0.3, 0.3) * width_mm
    half_mm = rng.uniform(0.3, 0.5) * width_mm if kind == "sclerosis" else rng.uniform(6, 14)
    half_mm = max(half_mm, 1.5 * spacing_mm[0])
    warp_mm = _WARP_MM * _random_field(rng, body.mask.shape, spacing_mm, _WARP_CORRELATION_MM)
    texture = 1 + _TEXTURE * _random_field(rng, body.mask.shape, spacing_mm, _TEXTURE_CORRELATION_MM)
    alpha = np.zeros(body.mask.shape)
    for offset in (np.arange(_SUBSLICES) + 0.5) / _SUBSLICES - 0.5:
        across = (body.position_mm[0] + offset * spacing_mm[0] - start_mm) / half_mm
        beyond_mm = ((plane + across**2) ** (1 / exponent) - 1) * scale_mm + warp_mm
        alpha += sigmoid_edge(beyond_mm, edge_mm) * body.mask / _SUBSLICES
    alpha = _seen(alpha, body.mask)
    return Shape(alpha=alpha, pattern=(alpha * np.clip(texture, 0.4, 1.6)).astype(np.float32), site=site)


def _corner(rng: np.random.Generator, body: Body, endplate: str, side: str, grade: int):
    """Value of the shape in a slice (1 on its border), exponent, and its radius in millimetres."""
    along_mm, below_mm = body.corner_mm(endplate, side)
    depth_mm = rng.uniform(*_CORNER[grade - 1]) * body.size_mm[2]
    height_mm = rng.uniform(0.8, 1.3) * depth_mm
    exponent = rng.uniform(1, 1.6)
    plane = (along_mm / depth_mm) ** exponent + (below_mm / height_mm) ** exponent
    # Half way along the border of a triangle lies this far from the corner; the edge keeps its width there.
    return plane, exponent, depth_mm * height_mm / np.hypot(depth_mm, height_mm)


def _along_endplate(rng: np.random.Generator, body: Body, endplate: str, kind: str, grade: int):
    """As `_corner`, for a shape that opens to the disc."""
    below_mm = np.maximum(body.border_mm[endplate], 0)
    full_mm = body.size_mm[2]
    if kind == "sclerosis":
        half_mm, depth_mm, exponent = rng.uniform(0.3, 0.5) * full_mm, rng.uniform(*_BAND_MM[grade - 1]), 4.0
    elif kind == "erosion":
        width, depth = _NOTCH_MM[grade - 1]
        half_mm, depth_mm, exponent = rng.uniform(*width) / 2, rng.uniform(*depth), 2.0
    else:
        width, depth = _ENDPLATE[grade - 1]
        half_mm, depth_mm, exponent = rng.uniform(*width) * full_mm / 2, rng.uniform(*depth), 2.0
    # The thickness of the body bounds what reaches in from one endplate.
    depth_mm = min(depth_mm, 0.6 * body.size_mm[1])
    start_mm = rng.uniform(-0.2, 0.2) * full_mm
    plane = np.abs((body.position_mm[2] - start_mm) / half_mm) ** exponent + (below_mm / depth_mm) ** exponent
    return plane, exponent, min(half_mm, depth_mm)


def sigmoid_edge(beyond_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """Share 0..1 across a border: a half on it, 0.9 to 0.1 over `edge_mm`."""
    return 1 / (1 + np.exp(np.clip(beyond_mm * (_TO_SIGMOID / edge_mm), -30, 30)))


def _random_field(rng: np.random.Generator, shape, spacing_mm, correlation_mm: float) -> np.ndarray:
    """Smooth Gaussian noise of mean 0 and standard deviation 1."""
    white = rng.standard_normal(shape)
    field = ndimage.gaussian_filter(white, correlation_mm / 2 / np.asarray(spacing_mm), mode="wrap")
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def _seen(alpha: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """As an image shows it: blurred in plane by the point spread; nothing outside the body."""
    blurred = ndimage.gaussian_filter(alpha, (0, _PSF_PIXELS, _PSF_PIXELS)) * mask
    return np.where(blurred < _INVISIBLE, 0, blurred).astype(np.float32)
