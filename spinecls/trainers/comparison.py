"""Trainings of a comparison: the same patients, folds, seeds and numbers of steps for every trainer; resumable."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from spinecls import files, paths
from spinecls.errors import Busy, DefectiveCases, ModelError, PartialFailure, UsageError
from spinecls.evaluation.learning_curve import write_learning_curve
from spinecls.evaluation.paired_comparison import Comparison, compare
from spinecls.evaluation.vertebra_table import read_validation
from spinecls.io.preprocessed_records import read_native
from spinecls.model_folder import FoldFolder
from spinecls.planning.current import require_current
from spinecls.planning.plan import load_plan
from spinecls.planning.splits import stored_folds
from spinecls.tasks.checkpoint import load_checkpoint
from spinecls.trainers.fold_cases import annotated_classes, fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.request import TrainingRequest
from spinecls.trainers.run import train_fold
from spinecls.trainers.trainer import PREDICTING

logger = logging.getLogger(__name__)

ALL_PATIENTS = "all"
PLACED = "\0placed"
"""Key of the number of vertebrae with a position; no class has such a name."""

CANDIDATES = 5
"""Patients of whom the next of a draw is the one that brings the classes nearest to those of the whole fold."""


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """What the user asked for; `trainers[0]` is what the others are compared with."""

    dataset: str
    configuration: str
    trainers: Sequence[str]
    sizes: Sequence[str] = (ALL_PATIENTS,)
    draws: int = 5
    fold: str = "0"
    plans: str = paths.DEFAULT_PLANS
    name: str = "comparison"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a comparison."""

    trainer: str
    size: str
    draw: int
    cases: tuple[str, ...]
    fold: FoldFolder

    @property
    def finished(self) -> bool:
        """Whether it was trained and validated to the end."""
        return self.fold.scored


def run_comparison(request: ComparisonRequest) -> tuple[list[Comparison], Path]:
    """Train what is missing, compare, and write comparison.csv, runs.csv and learning_curve.png.

    Started again with the same request it goes on where it stopped; with more draws, sizes or trainers it adds them.
    Several processes may do so at once: what another one is training is left to it. After every run the tables hold
    what there is.

    Returns
    -------
    comparisons, folder

    Raises
    ------
    UsageError
        When a size exceeds the patients of the fold, or the folder holds runs of other settings.
    Busy
        When no run is finished and others are training all of them.
    """
    preprocessed = paths.preprocessed_folder(paths.dataset_name(request.dataset))
    require_current(request.dataset, load_plan(preprocessed / f"{request.plans}.json"))
    runs = _planned_runs(request)
    folder = runs[0].fold.path.parents[2]
    _remember(request, folder)
    for run in runs:
        if run.finished:
            continue
        try:
            _train(request, run)
        except Busy:
            logger.info("%s is being trained by another process and left to it.", run.fold.path)
            continue
        except DefectiveCases:
            raise
        except PartialFailure as error:
            # They count as cases in which nothing was found.
            logger.warning("%s", error)
        _report(request, runs, folder)
    if not any(run.finished for run in runs):
        raise Busy(f"{folder}: other processes are training every run. Look at the tables when they are done.")
    return _report(request, runs, folder), folder


def _planned_runs(request: ComparisonRequest) -> list[Run]:
    """All runs, draw by draw, so that a comparison that is cut short has whole draws."""
    dataset = paths.dataset_name(request.dataset)
    preprocessed = paths.preprocessed_folder(dataset)
    trainers = [find_trainer(name) for name in request.trainers]
    unable = [t.__name__ for t in trainers if t.final_name != PREDICTING]
    if unable:
        raise UsageError(f"-tr {unable[0]}: it only makes weights to start from; there is nothing to compare.")
    if len(trainers) < 2:
        raise UsageError(
            "-tr: a comparison needs two trainers or more; the first is what the others are compared with."
        )
    names = [t.__name__ for t in trainers]
    if len(set(names)) < len(names):
        raise UsageError(f"-tr {' '.join(names)}: two trainers have the same name; their runs would share a folder.")
    if len(load_plan(preprocessed / f"{request.plans}.json").class_names) < 2:
        raise UsageError(f"{dataset} has no classes; trainers are compared by how well they classify.")
    train, validation = fold_cases(preprocessed, request.fold)
    if not validation:
        raise UsageError(f"--fold {request.fold}: it has no validation cases to compare on.")
    patients = _patients(preprocessed, train)
    counts = {patient: _contents(preprocessed, cases) for patient, cases in patients.items()}
    sizes = {size: _size(size, len(patients)) for size in request.sizes}
    root = (
        paths.results_root()
        / dataset
        / f"{request.name}__{request.plans}__{request.configuration}__fold_{request.fold}"
    )
    runs = []
    for draw in range(request.draws):
        order = patient_order(counts, draw)
        for size, number in sizes.items():
            cases = tuple(sorted(case for patient in order[:number] for case in patients[patient]))
            for trainer in trainers:
                folder = root / f"draw_{draw}" / f"patients_{size}" / trainer.__name__
                runs.append(Run(trainer=trainer.__name__, size=size, draw=draw, cases=cases, fold=FoldFolder(folder)))
    return runs


def _patients(preprocessed: Path, cases: Sequence[str]) -> dict[str, list[str]]:
    by_patient: dict[str, list[str]] = {}
    for case in cases:
        by_patient.setdefault(read_native(preprocessed, case).patient, []).append(case)
    return by_patient


def _contents(preprocessed: Path, cases: Sequence[str]) -> Counter:
    """Vertebrae of each class of some cases, and how many have a position."""
    counts = Counter(c for classes in annotated_classes(preprocessed, cases).values() for c in classes.values() if c)
    records = [read_native(preprocessed, case) for case in cases]
    counts[PLACED] = sum(v.centre_lps is not None for record in records for v in record.vertebrae)
    return counts


def _size(text: str, available: int) -> int:
    if text == ALL_PATIENTS:
        return available
    if not text.isdecimal() or not 1 <= int(text) <= available:
        raise UsageError(f"--patients {text}: expected a number from 1 to {available}, the fold's, or {ALL_PATIENTS}.")
    return int(text)


def patient_order(counts: Mapping[str, Counter], draw: int) -> list[str]:
    """Patients of a draw in the order in which they join, so that a smaller training set is part of every larger one.

    Of `CANDIDATES` patients drawn at random the one joins that brings the shares of the classes nearest (sum of
    absolute differences) to those of all patients; so small sets, too, hold every class where they can. Positions count
    as a class does, and the first patient has some, for nothing is found that was never pointed at.

    Parameters
    ----------
    counts : vertebrae of each class of each patient, and under `PLACED` those with a position
    """
    rng = np.random.default_rng([0, draw])
    names = sorted({name for contents in counts.values() for name in contents})
    table = {patient: np.array([counts[patient][name] for name in names], float) for patient in sorted(counts)}
    whole = np.sum([*table.values()], axis=0) if names else np.zeros(0)
    wanted = whole / max(whole.sum(), 1.0)
    order: list[str] = []
    left, together = list(table), np.zeros(len(names))

    def distance(patient: str) -> float:
        joined = together + table[patient]
        return float(np.abs(joined / max(joined.sum(), 1.0) - wanted).sum())

    while left:
        placed = [patient for patient in left if counts[patient][PLACED]]
        eligible = left if order or not placed else placed
        offered = [eligible[i] for i in rng.permutation(len(eligible))[:CANDIDATES]]
        chosen = min(offered, key=distance)
        order.append(chosen)
        left.remove(chosen)
        together = together + table[chosen]
    return order


def _train(request: ComparisonRequest, run: Run) -> None:
    logger.info("Draw %d, %s patients, %s: %s", run.draw, run.size, run.trainer, run.fold.path)
    training = TrainingRequest(
        dataset=request.dataset,
        configuration=request.configuration,
        fold=request.fold,
        trainer=next(name for name in request.trainers if find_trainer(name).__name__ == run.trainer),
        plans=request.plans,
        device=request.device,
        seed=run.draw,
        workers=request.workers,
        overrides=request.overrides,
        cases=run.cases,
        folder=run.fold,
    )
    train_fold(dataclasses.replace(training, resume=_can_go_on(run.fold)))


def _can_go_on(fold: FoldFolder) -> bool:
    """Whether one of the two states of a run that was cut is readable; else it is made anew."""
    for path in fold.states:
        try:
            load_checkpoint(path)
        except ModelError:
            continue
        return True
    return False


def _remember(request: ComparisonRequest, folder: Path) -> None:
    """Refuse to mix runs of different settings in one table."""
    path = folder / "comparison.json"
    preprocessed = paths.preprocessed_folder(paths.dataset_name(request.dataset))
    asked = {
        "overrides": dict(request.overrides),
        "reference": request.trainers[0],
        "plan": load_plan(preprocessed / f"{request.plans}.json").dataset_hash,
        "folds": files.text_hash(stored_folds(preprocessed)),
    }
    known = files.read_json(path) if path.exists() else asked
    changed = [key for key in asked if known.get(key) != asked[key]]
    if changed:
        raise UsageError(f"{folder} holds runs of other {', '.join(changed)} (comparison.json). Give another --name.")
    files.write_json(path, asked)


def _report(request: ComparisonRequest, runs: Sequence[Run], folder: Path) -> list[Comparison]:
    """Write the tables; of several processes one after the other, so that a newer table is never replaced."""
    with FileLock(folder / ".report.lock"):
        return _write_report(request, runs, folder)


def _write_report(request: ComparisonRequest, runs: Sequence[Run], folder: Path) -> list[Comparison]:
    finished = [run for run in runs if run.finished]
    tables = {(run.trainer, run.size, run.draw): read_validation(run.fold) for run in finished}
    arms = list(dict.fromkeys(run.trainer for run in runs))
    comparisons = compare(tables, arms, list(request.sizes))
    preprocessed = paths.preprocessed_folder(paths.dataset_name(request.dataset))
    # Every draw of a size has as many patients.
    cases_of = {run.size: run.cases for run in runs}
    numbers = {size: len(_patients(preprocessed, cases)) for size, cases in cases_of.items()}
    files.write_csv(
        folder / "comparison.csv", list(_row(comparisons[0], numbers)), [_row(c, numbers) for c in comparisons]
    )
    rows = [_run_row(run, tables) for run in finished]
    files.write_csv(folder / "runs.csv", list(rows[0]), rows)
    write_learning_curve(folder / "learning_curve.png", comparisons, numbers)
    return comparisons


def _row(comparison: Comparison, numbers: Mapping[str, int]) -> dict[str, object]:
    row: dict[str, object] = {
        "patients": numbers[comparison.size],
        "trainer": comparison.arm,
        "draws": comparison.draws,
    }
    for name, score in (("auc", comparison.area), ("gain", comparison.gain)):
        for part in ("estimate", "low", "high"):
            row[name if part == "estimate" else f"{name}_{part}"] = (
                None if score is None or np.isnan(getattr(score, part)) else round(getattr(score, part), 4)
            )
    for name in ("p_value", "adjusted"):
        value = getattr(comparison, name)
        row[name] = None if np.isnan(value) else round(value, 4)
    return row | {"verdict": comparison.verdict}


def _run_row(run: Run, tables: Mapping) -> dict[str, object]:
    content = run.fold.scores()
    location, classes = content["location"], content["classification"]["end_to_end"]
    return {
        "draw": run.draw,
        "patients": run.size,
        "trainer": run.trainer,
        "auc": classes["auc_macro"]["estimate"],
        "identification_rate": location["identification_rate"]["estimate"],
        "test_vertebrae": len(tables[run.trainer, run.size, run.draw].truth),
        "training_cases": " ".join(run.cases),
    }
