"""How the learning rate goes over the training of a network."""

from __future__ import annotations

import math

RISING_SHARE = 0.25
FIRST_RATE, LAST_RATE = 1 / 25, 1e-3


def one_cycle(step: int, steps: int) -> float:
    """Share of the highest rate: up over a quarter of the steps, then down to nearly nothing, each half a cosine wave.

    Smith and Topin, 2018; small networks get from it in a thousand steps what a steady decay needs several for.
    """
    done = (step + 0.5) / steps
    if done < RISING_SHARE:
        return _wave(FIRST_RATE, 1.0, done / RISING_SHARE)
    return _wave(1.0, LAST_RATE, (done - RISING_SHARE) / (1 - RISING_SHARE))


def _wave(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
