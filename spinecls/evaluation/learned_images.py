"""Which images a model has learned from, by what its predictions or its own records say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from spinecls import files, paths
from spinecls.errors import SpineclsError
from spinecls.io.dataset import load_dataset
from spinecls.io.image_digests import image_digests
from spinecls.io.images import read_image
from spinecls.records import Case

RUN = "run.json"
"""Of a fold: names its training cases."""


@cache
def digests_of(paths_of_channels: tuple[Path, ...]) -> tuple[str, ...]:
    """Digests of the image of a case."""
    return image_digests(read_image(paths_of_channels).array)


def learned_images(model: Mapping[str, Any], folder: Path) -> frozenset[str] | None:
    """Digests of the images that a model has learned from; None where nothing is known.

    Parameters
    ----------
    model : what a prediction says about where it comes from; results of earlier versions name only dataset and folds,
        whose records and images are then looked for on this computer
    folder : of the prediction
    """
    if "ensemble" in model:
        return _union(learned_images(member, folder) for member in model["ensemble"])
    if "training_images" in model:
        return None if model["training_images"] is None else frozenset(model["training_images"])
    if "fold" in model:
        run = folder.resolve().parent / RUN
        return _by_records(run.parent.parent.parent.name, [run])
    names = [str(model.get(key, "")) for key in ("dataset", "trainer", "plans", "configuration")]
    runs = [paths.model_folder(*names) / f"fold_{fold}" / RUN for fold in model.get("folds") or ()]
    return _by_records(names[0], runs) if all(names) else None


def _union(parts: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    known = list(parts)
    return None if None in known else frozenset().union(*known)


def _by_records(dataset: str, runs: Sequence[Path]) -> frozenset[str] | None:
    """Digests of the training cases that the records of some folds name."""
    if not runs or not all(run.is_file() for run in runs):
        return None
    trained = {name for run in runs for name in files.read_json(run).get("cases", ())}
    try:
        cases = load_dataset(paths.raw_dataset_folder(dataset), verify_voxels=False).all_cases
    except SpineclsError:
        return None
    known = [case for case in cases if case.identifier in trained]
    return digests_of_all(known) if len(known) == len(trained) else None


def digests_of_all(cases: Iterable[Case]) -> frozenset[str]:
    """Digests of the images of all cases together."""
    return frozenset(digest for case in cases for digest in digests_of(case.images))
