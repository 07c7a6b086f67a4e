"""A NIfTI-1 file field by field, for headers that no library would write."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

SIZE = (12, 10, 6)
EDGES_MM = (1.5, 1.0, 4.0)
ORIGIN_RAS = (10.0, -20.0, 30.0)
# A turn about the z axis of 30 degrees: half the angle in the quaternion, as the standard says.
TURN = math.radians(30)
QUATERNION = (0.0, 0.0, math.sin(TURN / 2))
ROTATION = np.array([[math.cos(TURN), -math.sin(TURN), 0], [math.sin(TURN), math.cos(TURN), 0], [0, 0, 1.0]])


def rows(*, rotation=ROTATION, edges_mm=EDGES_MM, origin=ORIGIN_RAS) -> np.ndarray:
    """Rows of an sform (RAS mm)."""
    return np.column_stack([np.asarray(rotation) * edges_mm, origin])


def voxels() -> np.ndarray:
    """(x, y, z), all different."""
    return np.arange(1, math.prod(SIZE) + 1).reshape(SIZE, order="F")


def write(
    path: Path,
    array=None,
    *,
    dims=None,
    qform_code=1,
    sform_code=1,
    quaternion=QUATERNION,
    offset=ORIGIN_RAS,
    sform=None,
    qfac=1.0,
    edges_mm=EDGES_MM,
    unit=2,
    intent=0,
    scaling=(1.0, 0.0),
    datatype=4,
) -> Path:
    """Write int16 (datatype 4) or uint8 (2) voxels (x, y, z, ...)."""
    array = voxels() if array is None else np.asarray(array)
    header = bytearray(352)
    dims = [array.ndim, *array.shape] if dims is None else list(dims)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, *dims, *[1] * (8 - len(dims)))
    struct.pack_into("<3h", header, 68, intent, datatype, {4: 16, 2: 8}[datatype])
    struct.pack_into("<8f", header, 76, qfac, *edges_mm, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, *scaling)
    header[123] = unit
    struct.pack_into("<2h", header, 252, qform_code, sform_code)
    struct.pack_into("<6f", header, 256, *quaternion, *offset)
    struct.pack_into("<12f", header, 280, *np.ravel(rows() if sform is None else sform))
    header[344:348] = b"n+1\0"
    stored = array.astype({4: "<i2", 2: "u1"}[datatype]).tobytes(order="F")
    path.write_bytes(gzip.compress(bytes(header) + stored))
    return path
