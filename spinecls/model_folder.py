"""The folders of trained models: how they are called and which file of them is which; nothing of what the files mean.

<results>/<dataset>/<trainer>__<plans>__<configuration>/
    plan.json, calibration.json, ...
    fold_<n>/
        plan.json, run.json, checkpoint_final.pt, ...
        validation/
            summary.json, vertebrae.csv, <case>.json, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinecls import files, paths

PLAN = "plan.json"
"""In a model folder that of the fold which was begun last: nothing but its presence is ever taken from it."""
FINAL = "checkpoint_final.pt"
SUMMARY = "summary.json"
"""Scores of an evaluation, as of a fold's validation."""
VERTEBRAE = "vertebrae.csv"
"""Table of the vertebrae of an evaluation."""
VALIDATION = "validation"

_FOLD = "fold_"
_SEPARATOR = "__"


@dataclass(frozen=True)
class FoldFolder:
    """A fold of a model, begun or not; of a comparison, a run, whose folder has another name."""

    path: Path

    @property
    def number(self) -> str:
        """As the user gives it, `0` or `all`."""
        return self.path.name.removeprefix(_FOLD)

    @property
    def plan(self) -> Path:
        """The plan that it was trained by."""
        return self.path / PLAN

    @property
    def run(self) -> Path:
        """What it was trained with, see `record`."""
        return self.path / "run.json"

    @property
    def final(self) -> Path:
        """Weights of the finished training, and the only ones that are ever predicted with."""
        return self.path / FINAL

    @property
    def states(self) -> tuple[Path, Path]:
        """What a run goes on from: its newest state, and the one before, should that be torn."""
        return self.path / "checkpoint_latest.pt", self.path / "checkpoint_previous.pt"

    @property
    def validation(self) -> Path:
        """Folder of what it predicted of its validation cases."""
        return self.path / VALIDATION

    @property
    def summary(self) -> Path:
        """Scores of its validation, the last file that validation writes."""
        return self.validation / SUMMARY

    @property
    def vertebrae(self) -> Path:
        """Vertebrae of its validation cases; a model that came as a file has no such table."""
        return self.validation / VERTEBRAE

    @property
    def lock(self) -> Path:
        """Held by the process that trains it."""
        return self.path / ".lock"

    @property
    def begun(self) -> bool:
        return self.plan.exists() or any(self.path.glob("checkpoint_*.pt"))

    @property
    def finished(self) -> bool:
        return self.final.exists()

    @property
    def scored(self) -> bool:
        """Whether it was validated to the end, here or where it came from."""
        return self.summary.exists()

    @property
    def validated(self) -> bool:
        """Whether it was validated here, so that it is known what it said of each vertebra."""
        return self.vertebrae.exists()

    def record(self) -> dict[str, Any]:
        """Content of run.json; empty where there is none, as of a model that came as a file."""
        return files.read_json(self.run) if self.run.exists() else {}

    def scores(self) -> dict[str, Any]:
        """Content of the summary; empty where it was not validated."""
        return files.read_json(self.summary) if self.scored else {}


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a model below a folder of results, there or not."""

    results: Path
    dataset: str
    trainer: str
    plans: str
    configuration: str

    @property
    def path(self) -> Path:
        return self.results / self.dataset / _SEPARATOR.join((self.trainer, self.plans, self.configuration))

    @property
    def name(self) -> str:
        """Dataset and folder, as a model is called to the user."""
        return f"{self.dataset}/{self.path.name}"

    @property
    def plan(self) -> Path:
        return self.path / PLAN

    def fold(self, number: str) -> FoldFolder:
        return FoldFolder(self.path / f"{_FOLD}{number}")

    def all_folds(self) -> list[FoldFolder]:
        """Folds that are there, in the order of their names."""
        return [FoldFolder(path) for path in sorted(self.path.glob(f"{_FOLD}*"))]


def model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> ModelFolder:
    """Folder of a model on this computer."""
    return ModelFolder(paths.results_root(), dataset, trainer, plans, configuration)


def model_folder_at(path: Path) -> ModelFolder | None:
    """What a folder is by its name; None when it is not called as a model folder is."""
    names = path.name.split(_SEPARATOR)
    return ModelFolder(path.parent.parent, path.parent.name, *names) if len(names) == 3 else None


def model_folders(dataset: Path) -> list[ModelFolder]:
    """Folders of models in the results of a dataset, in the order of their names."""
    candidates = map(model_folder_at, sorted(dataset.glob(f"*{_SEPARATOR}*{_SEPARATOR}*")))
    return [folder for folder in candidates if folder is not None]


def is_fold(path: Path) -> bool:
    """Whether a folder is called as that of a fold."""
    return path.name.startswith(_FOLD)
