"""Which model draws in which scan: never one that has learned from it, where there is another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from spinecls import files, paths
from spinecls.inference.models import ModelChoice, TrainedModel, choose_model, load_predictor
from spinecls.inference.predictor import Predictor
from spinecls.networks.device import pick_device
from spinecls.planning.splits import SPLITS
from spinecls.sharing.shipped import shipped_finder


@contextmanager
def predictors(dataset: str, folder: Path | None, device: str | None) -> Iterator[Callable[[str], Predictor]]:
    """Case -> what draws in it: of a model of this dataset the fold that held the case out, else all folds.

    Parameters
    ----------
    dataset : full name of the dataset
    folder : model folder; None = the finder that comes with spinecls
    """
    if folder is None:
        with shipped_finder() as finder:
            predictor = _loaded(finder, device)
            yield lambda case: predictor
        return
    model = choose_model(ModelChoice(folder=folder))
    held_out = _held_out(model) if model.dataset == dataset else {}

    @cache
    def of(fold: str | None) -> Predictor:
        return _loaded(model if fold is None else choose_model(ModelChoice(folder=folder, folds=(fold,))), device)

    yield lambda case: of(held_out.get(case))


def _loaded(model: TrainedModel, device: str | None) -> Predictor:
    return load_predictor(model, pick_device(device), augment=False, calibrated=False)


def _held_out(model: TrainedModel) -> dict[str, str]:
    """Case -> fold of the model that held it out."""
    path = paths.preprocessed_folder(model.dataset) / SPLITS
    splits = files.read_json(path) if path.is_file() else []
    return {
        case: str(number) for number, split in enumerate(splits) if str(number) in model.folds for case in split["val"]
    }
