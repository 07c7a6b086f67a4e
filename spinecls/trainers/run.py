"""Training of folds: from names on the command line to a trained and validated model folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from spinecls import __version__, files, paths
from spinecls.dataloading.cases import sealed_sources, training_case
from spinecls.dataloading.loader import TrainingData
from spinecls.errors import DatasetError, ResourceError, UsageError
from spinecls.io.preprocessed import PreprocessedCase, load_case
from spinecls.planning.plan import Configuration, Plan, load_plan, save_plan
from spinecls.planning.rules_override import parse_overrides
from spinecls.trainers import aux_seg, baseline  # noqa: F401 - they register themselves
from spinecls.trainers.base import TRAINERS, RunSettings, Trainer
from spinecls.trainers.validation import validate

logger = logging.getLogger(__name__)

ALL = "all"


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asked for."""

    dataset: str
    configuration: str
    fold: str
    trainer: str = "BaselineTrainer"
    plans: str = paths.DEFAULT_PLANS
    resume: bool = False
    validate_only: bool = False
    device: torch.device = torch.device("cpu")
    seed: int = 0
    workers: int = 0
    pretrained: Path | None = None
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)


def train_fold(request: TrainingRequest) -> Path:
    """Train and validate one fold; returns its folder."""
    name = paths.dataset_name(request.dataset)
    preprocessed = paths.preprocessed_folder(name)
    plan = load_plan(preprocessed / f"{request.plans}.json")
    configuration = with_overrides(plan.configuration(request.configuration), request.overrides)
    trainer_class = find_trainer(request.trainer)
    model_folder = paths.model_folder(name, trainer_class.__name__, request.plans, request.configuration)
    folder = model_folder / f"fold_{request.fold}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            plan = dataclasses.replace(
                plan,
                configurations={request.configuration: configuration},
                overrides={**plan.overrides, **request.overrides},
            )
            save_plan(model_folder / "plan.json", plan)
            train_ids, validation_ids = fold_cases(preprocessed, request.fold)
            _train(request, plan, configuration, trainer_class, folder, preprocessed, train_ids)
            if validation_ids:
                load = _Loader(preprocessed, f"{request.plans}_{request.configuration}")
                validate(folder, plan, configuration, (load(c) for c in validation_ids), len(validation_ids), request.device)
    except Timeout:
        raise ResourceError(f"{folder} is being trained by another process. Wait for it, or choose another fold.") from None
    return folder


FIXED_BY_PREPROCESSING = ("spacing_mm", "normalisation")
"""Fields that the preprocessed arrays were made by; another value needs `spinecls_plan_and_preprocess --set`."""


def with_overrides(configuration: Configuration, overrides: Mapping[str, str]) -> Configuration:
    """Configuration with what the user set for this run."""
    settings = parse_overrides(overrides)[configuration.name]
    fixed = [key for key in settings if key in FIXED_BY_PREPROCESSING or key.startswith("network.")]
    if fixed:
        raise UsageError(f"--set {fixed[0]}: decided in preprocessing. Give it to spinecls_plan_and_preprocess.")
    return dataclasses.replace(configuration, **settings)


def find_trainer(name: str) -> type[Trainer]:
    """Trainer class of a name, `file.py:Class` or `module:Class`."""
    found = TRAINERS.find(name)
    if not (isinstance(found, type) and issubclass(found, Trainer)):
        raise UsageError(f"{name}: not a subclass of spinecls.trainers.base.Trainer.")
    return found


def fold_cases(preprocessed: Path, fold: str) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold; for `all`, every case and none."""
    splits = files.read_json(preprocessed / "splits_final.json")
    if fold == ALL:
        return sorted({case for split in splits for case in [*split["train"], *split["val"]]}), []
    if not fold.isdigit() or int(fold) >= len(splits):
        raise UsageError(f"Fold {fold!r} does not exist. Folds: 0 to {len(splits) - 1}, or {ALL}.")
    return list(splits[int(fold)]["train"]), list(splits[int(fold)]["val"])


@dataclass(frozen=True)
class _Loader:
    folder: Path
    plans_config: str

    def __call__(self, case: str) -> PreprocessedCase:
        return load_case(self.folder, self.plans_config, case)


def load_training_data(
    preprocessed: Path, plan: Plan, configuration: Configuration, plans_config: str, cases: Sequence[str], masks: bool
) -> TrainingData:
    """Cases in memory; spine MRI is small enough that a whole fold fits."""
    load = _Loader(preprocessed, plans_config)
    open_cases, sealed = [], []
    for identifier in cases:
        case = load(identifier)
        open_cases.append(training_case(case, plan))
        sealed += sealed_sources(case, plan, configuration, masks)
    if not any(len(case.centres) for case in open_cases):
        raise DatasetError(
            "No training case has the position of a vertebra. Give a vertebra map (labelsTr) or centres "
            "(x_mm, y_mm, z_mm in vertebraeTr.csv) for about ten cases."
        )
    if len(plan.class_names) > 1 and not sealed:
        raise DatasetError("No training vertebra has both a position and a class. Fill the column class of vertebraeTr.csv.")
    return TrainingData(open_cases, sealed)


def _train(request, plan, configuration, trainer_class, folder, preprocessed, train_ids) -> None:
    settings = RunSettings(folder, request.device, request.seed, request.workers)
    trainer = trainer_class(plan, configuration, settings)
    if request.validate_only:
        if not trainer.final_path.exists():
            raise UsageError(f"{folder}: --val needs a finished training; there is none.")
        return
    if request.resume and trainer.final_path.exists():
        logger.info("%s: training is finished already.", folder)
        return
    if request.resume:
        trainer.resume()
    else:
        _set_aside(trainer)
    data = load_training_data(
        preprocessed, plan, configuration, f"{request.plans}_{request.configuration}", train_ids, trainer.regions_from_masks
    )
    files.write_json(
        folder / "run.json",
        {
            "trainer": trainer_class.__name__,
            "spinecls_version": __version__,
            "torch_version": torch.__version__,
            "device": str(request.device),
            "seed": request.seed,
            "cases": list(train_ids),
            "vertebrae": len(data.sealed),
            "task_weights": {t.task.name: t.weight for t in trainer.tasks},
            "overrides": dict(request.overrides),
        },
    )
    logger.info(
        "%s: %d cases, %d vertebrae with a class, %d steps on %s%s.",
        folder, len(data.cases), len(data.sealed), configuration.steps, request.device,
        f", from step {trainer.step}" if trainer.step else "",
    )
    trainer.fit(data)


def _set_aside(trainer: Trainer) -> None:
    """Keep the checkpoints of an earlier run under another name before starting afresh."""
    for path in (trainer.latest_path, trainer.previous_path, trainer.final_path):
        if path.exists():
            kept = path.with_name(f"replaced_{path.name}")
            path.replace(kept)
            logger.warning("%s of an earlier run is kept as %s. To continue a run, use --c.", path.name, kept.name)
