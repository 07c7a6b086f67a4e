"""How a finder errs: vertebrae that it misses or misnames, and how its outlines lie to those that were drawn.

    python benchmarks/outline_errors.py --folds 1 2 --models MODEL ...

Validation cases of the folds, by models that did not see them, without mirrored views. A vertebra counts as found where
one with a mask lies within 10 mm of its centre. Growth: mean signed distance, in plane and in slices that both have,
from the drawn border to the found one, a number a vertebra; below 0 the finder draws too small. Slices: outermost ones
of the vertebra that the finder leaves out, and slices beside it that it reaches into. `dataloading.rough` draws the
regions of training with such errors.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import provenance
from held_out import GRID

from spinecls import files
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.inference.predictor import Predictor
from spinecls.io.preprocessed import PreprocessedCase, load_case
from spinecls.paths import preprocessed_folder
from spinecls.sealing.region import mask_distance
from spinecls.trainers.validation import plan_description, preprocessed_truth
from spinecls.verification.cohort import levels_at

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BORDER_ROOM = 10
"""Voxels around both outlines in which distances are measured."""


@dataclass(frozen=True)
class Outlined:
    """One annotated vertebra; nothing but `named` where no mask was found."""

    named: bool
    dice: float | None = None
    growth_mm: float | None = None
    lost: int = 0
    added: int = 0


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    logging.getLogger("spinecls").setLevel(logging.ERROR)
    print(f"folds {' '.join(options.folds)}; {provenance()}\n")
    quantiles = ", ".join(f"{q:.0%}" for q in QUANTILES)
    growth = f"growth, mm ({quantiles})"
    print(f"| model | vertebrae | found | named | Dice where found | {growth} | lose slices | gain slices |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in options.models:
        seen = [one for fold in options.folds for one in validated(folder, fold)]
        print(f"| {folder.name.split('__')[0]} | {cells(seen)} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--folds", nargs="+", default=["1", "2"])
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def validated(folder: Path, fold: str) -> Iterator[Outlined]:
    """The drawn vertebrae of a fold's validation cases."""
    model = choose_model(ModelChoice(folder=folder, folds=(fold,)))
    predictor = load_predictor(model, torch.device("cpu"), augment=False, calibrated=False)
    preprocessed = preprocessed_folder(model.dataset)
    for name in files.read_json(preprocessed / "splits_final.json")[int(fold)]["val"]:
        yield from outlined(predictor, load_case(preprocessed, GRID, name))


def outlined(predictor: Predictor, case: PreprocessedCase) -> Iterator[Outlined]:
    grid = case.native_geometry
    located = predictor.locate(case.native.astype(np.float32), grid)
    truth = preprocessed_truth(case, np.zeros(grid.shape, np.uint8), plan_description(predictor.plan))
    rows = {level: row for row, level in enumerate(levels_at(located, truth)) if level and located.from_mask[row]}
    for level, code in predictor.plan.levels.items():
        if not (drawn := case.native_map == code).any():
            continue
        if (row := rows.get(level)) is None:
            yield Outlined(named=False)
            continue
        yield compared(drawn, located.masks == row + 1, grid.spacing_mm, located.decoding.labels[row] == level)


def compared(drawn: np.ndarray, found: np.ndarray, spacing_mm: tuple[float, float, float], named: bool) -> Outlined:
    """A drawn and a found outline, (S, R, A) bool."""
    in_plane = np.argwhere((drawn | found).any(axis=0))
    low, high = np.maximum(in_plane.min(axis=0) - BORDER_ROOM, 0), in_plane.max(axis=0) + BORDER_ROOM + 1
    box = (slice(None), slice(low[0], high[0]), slice(low[1], high[1]))
    has = [mask.any(axis=(1, 2)) for mask in (drawn, found)]
    distances = [mask_distance(mask[box], spacing_mm) for mask in (drawn, found)]
    border = (np.abs(distances[1]) <= max(spacing_mm[1:]) / 2) & np.isfinite(distances[0])
    return Outlined(
        named=named,
        dice=float(2 * (drawn & found).sum() / (drawn.sum() + found.sum())),
        growth_mm=float(distances[0][border].mean()) if border.any() else None,
        lost=int((has[0] & ~has[1]).sum()),
        added=int((has[1] & ~has[0]).sum()),
    )


def cells(seen: Sequence[Outlined]) -> str:
    found = [one for one in seen if one.dice is not None]
    growth = np.quantile([one.growth_mm for one in found if one.growth_mm is not None], QUANTILES)
    return " | ".join(
        [
            str(len(seen)),
            f"{len(found) / len(seen):.3f}",
            f"{np.mean([one.named for one in seen]):.3f}",
            f"{np.mean([one.dice for one in found]):.3f}",
            ", ".join(f"{value:.2f}" for value in growth),
            f"{np.mean([one.lost > 0 for one in found]):.2f}",
            f"{np.mean([one.added > 0 for one in found]):.2f}",
        ]
    )


if __name__ == "__main__":
    main()
