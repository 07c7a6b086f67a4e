"""Voxels as the numbers that the toolkit works with.

Results are copies: what is given may be a view into an image that is about to be freed.
"""

from __future__ import annotations

import numpy as np

from spinecls.io.findings import CodedFault

_ROUNDING = 1e-3


def finite_float32(place: object, array: np.ndarray) -> np.ndarray:
    """The same values as float32, in C order; raises `CodedFault` where one is not finite."""
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32, order="C")
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        first = tuple(int(v) for v in np.argwhere(~np.isfinite(values))[0])
        text = f"{bad} of {values.size} voxels are not finite, the first at canonical index {first}. Repair the image."
        raise CodedFault("E501", place, text)
    return values


def whole_numbers(place: object, array: np.ndarray) -> np.ndarray:
    """The same values as int16, in C order; raises `CodedFault` where one is not whole, negative or too large."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise CodedFault("E601", place, "holds not finite values, expected whole numbers.")
        rounded = np.rint(array)
        off = np.abs(array - rounded) > _ROUNDING
        if off.any():
            example = float(array[off][0])
            text = f"{int(off.sum())} values are not whole, such as {example:g}: interpolated labels?"
            raise CodedFault("E601", place, text + " Resample maps by nearest neighbour.")
        array = rounded
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < 0:
        raise CodedFault("E602", place, f"holds values down to {low:g}, expected 0 and above. Is it the image?")
    if high > np.iinfo(np.int16).max:
        raise CodedFault("E612", place, f"holds values up to {high:g}, expected at most 32767.")
    return np.array(array, dtype=np.int16, order="C")


def chances(place: object, array: np.ndarray) -> np.ndarray:
    """The same values clipped to 0..1; raises `CodedFault` where one lies outside by more than rounding explains."""
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        text = f"holds values from {low:g} to {high:g}, expected chances from 0 to 1."
        raise CodedFault("E613", place, text + (" Divide percentages by 100." if low >= 0 and high <= 100 else ""))
    return np.clip(array, 0, 1)
