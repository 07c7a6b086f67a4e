"""Which images a model has learned from, by what its predictions or its own records say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from spinecls import paths
from spinecls.errors import SpineclsError
from spinecls.io.dataset import load_dataset
from spinecls.io.file_hashes import files_of
from spinecls.io.image_digests import image_digests
from spinecls.io.images import read_image
from spinecls.model_folder import FoldFolder, model_folder
from spinecls.records import Case


def digests_of(case: Case) -> tuple[str, ...]:
    """Digests of the image of a case; it is read once as long as its files do not change."""
    status = (path.stat() for image in case.images for path in files_of(image))
    return _digests(case.images, tuple((s.st_size, s.st_mtime_ns) for s in status))


@cache
def _digests(images: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    return image_digests(read_image(images).array)


def digests_of_all(cases: Iterable[Case]) -> frozenset[str]:
    """Digests of the images of all cases together."""
    return frozenset(digest for case in cases for digest in digests_of(case))


def learned_images(model: Mapping[str, Any], folder: Path) -> frozenset[str] | None:
    """Digests of the images that a model has learned from; None where nothing is known.

    Parameters
    ----------
    model : what a prediction says about where it comes from; results of earlier versions name only dataset and folds,
        whose records and images are then looked for on this computer
    folder : of the prediction
    """
    if "ensemble" in model:
        members = [learned_images(member, folder) for member in model["ensemble"]]
        told = [images for images in members if images is not None]
        return frozenset[str]().union(*told) if len(told) == len(members) else None
    if "training_images" in model:
        return None if model["training_images"] is None else frozenset(model["training_images"])
    dataset, names = _recorded(model, folder)
    if not names:
        return None
    try:
        cases = load_dataset(paths.raw_dataset_folder(dataset), verify_voxels=False).all_cases
    except SpineclsError:
        return None
    known = [case for case in cases if case.identifier in names]
    return digests_of_all(known) if len(known) == len(names) else None


def learned_names(model: Mapping[str, Any], folder: Path, dataset: str) -> frozenset[str]:
    """Training cases of a dataset that the records on this computer name; an image may have changed since."""
    if "ensemble" in model:
        return frozenset().union(*(learned_names(member, folder, dataset) for member in model["ensemble"]))
    recorded, names = _recorded(model, folder)
    return names if recorded == dataset else frozenset()


def _recorded(model: Mapping[str, Any], folder: Path) -> tuple[str, frozenset[str]]:
    """Dataset, and training cases of all folds; no case where a record is missing."""
    if "fold" in model:
        fold = FoldFolder(folder.resolve().parent)
        dataset, runs = fold.path.parent.parent.name, [fold]
    else:
        names = [str(model.get(key, "")) for key in ("dataset", "trainer", "plans", "configuration")]
        dataset, runs = names[0], [model_folder(*names).fold(fold) for fold in model.get("folds") or ()]
    if not all(fold.run.is_file() for fold in runs):
        return dataset, frozenset()
    return dataset, frozenset(name for fold in runs for name in fold.record().get("cases", ()))
