"""A made-up scan of three square bodies of whole numbers, and its simulation."""

from __future__ import annotations

import numpy as np

from spinecls.geometry import Geometry
from spinecls.simulation.case import SimulatedCase, simulate_case
from spinecls.simulation.options import SimulationOptions, class_names, kinds_for
from spinecls.simulation.streams import case_stream

CODES = {"L1": 20, "L2": 21, "L3": 22}
SHAPE = (11, 130, 110)
SPACING_MM = (4.0, 1.0, 1.0)
FIRST_ROW = {"L1": 16, "L2": 52, "L3": 88}
HEIGHT, COLUMNS, SLICES = 26, (35, 67), (2, 9)
SIGMA = 6.0
STRAIGHT = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def geometry(turn: np.ndarray | None = None, origin_lps=(20.0, -55.0, 70.0)) -> Geometry:
    """Grid whose axes run to the right, to the feet and to the back; `turn` rotates it in the world."""
    axes = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    axes = axes if turn is None else turn @ axes
    origin = np.asarray(origin_lps) if turn is None else turn @ np.asarray(origin_lps)
    return Geometry(
        shape=SHAPE,
        spacing_mm=SPACING_MM,
        origin_lps=tuple(float(v) for v in origin),
        direction=tuple(tuple(float(v) for v in row) for row in axes),
    )


def body_map() -> np.ndarray:
    array = np.zeros(SHAPE, np.int16)
    for level, row in FIRST_ROW.items():
        array[slice(*SLICES), row : row + HEIGHT, slice(*COLUMNS)] = CODES[level]
    return array


def scan(seed: int = 0, whole: bool = True) -> np.ndarray:
    """(1, S, R, A) float32: marrow 80, discs and surroundings 60, bright fluid behind, noise of deviation 6."""
    array = np.full(SHAPE, 60.0)
    array[body_map() > 0] = 80
    array[:, :, 72:84] = 180
    array += np.random.default_rng(seed).normal(0, SIGMA, SHAPE)
    array = np.clip(array, 0, 255)
    return (np.rint(array) if whole else array).astype(np.float32)[None]


def simulated(case: str = "a", image: np.ndarray | None = None, grid: Geometry | None = None, sequence="T2", **options):
    """Result of one scan."""
    chosen = SimulationOptions(**{"seed": 3, "distractors": 0.0, **options})
    image = scan() if image is None else image
    return simulate_case(
        image,
        body_map(),
        grid or geometry(),
        codes=CODES,
        sequences=[sequence] * len(image),
        channel_names=[sequence] * len(image),
        class_list=class_names(chosen.task, kinds_for(chosen, sequence)),
        options=chosen,
        stream=case_stream(chosen.seed, case),
    )


def rows(result: SimulatedCase, role: str) -> list:
    return [insert for insert in result.inserts if insert.role == role]


def diseased(result: SimulatedCase) -> dict[str, bool]:
    return {level: name != "normal" for level, name in result.classes.items()}
