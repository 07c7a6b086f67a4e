"""Training of folds: from names on the command line to a trained and validated model folder."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from spinecls import __version__, files, paths
from spinecls.beliefs import agreed_class
from spinecls.beliefs.readers import READERS
from spinecls.dataloading.cases import labelled_regions, sealed_sources, training_case
from spinecls.dataloading.compiled import AnnotationCompiler
from spinecls.dataloading.loader import TrainingData
from spinecls.dataloading.readings import can_be_judged, judged_counts, known_readers, readers_of
from spinecls.errors import Busy, DatasetError, PlanError, UsageError, counted
from spinecls.inference.folds import fold_plan, require_plan_of, unlike_folds
from spinecls.io.preprocessed import NATIVE, PreprocessedCase, check_stored, grid_folder_name, grid_settings, load_case
from spinecls.io.preprocessed_records import read_record
from spinecls.networks.model import FINDER
from spinecls.planning.current import require_current
from spinecls.planning.familiarity import familiar_images, unfamiliar
from spinecls.planning.fingerprint_types import CaseFingerprint, load_fingerprint
from spinecls.planning.meaning import said
from spinecls.planning.plan import Configuration, Plan, load_plan, save_plan
from spinecls.planning.rules_override import check_used, parse_overrides
from spinecls.planning.splits import stored_folds
from spinecls.planning.stages import FINGERPRINT
from spinecls.tasks.checkpoint import load_checkpoint
from spinecls.tasks.pretrained import Taken, take_pretrained
from spinecls.trainers import auxiliary, baseline, open_baseline, uncertain  # noqa: F401 - they register themselves
from spinecls.trainers.base import PREDICTING, TRAINERS, RunSettings, Trainer
from spinecls.trainers.placement import PLACES, lacks_places
from spinecls.trainers.refinement import REFINED, Refinement, expected_of, refinement
from spinecls.trainers.same_data import require_same_data
from spinecls.trainers.training_images import learned_from, training_images
from spinecls.trainers.user_code import made_trainer, told_as_the_users
from spinecls.trainers.validation import TrainingReference, validate

logger = logging.getLogger(__name__)

ALL = "all"
FINDERS = "finders"
"""Folder, beside the models of a dataset, of finders that are trained already."""

TRUSTED_FORMS = ("mask", "point", "box", "slices", "scribble", "none")
"""Forms of vertebra annotation that training treats as what they are; others are trained as if drawn exactly."""

BELIEVED_FORMS = (*TRUSTED_FORMS, "coarse", "probability")
"""Those of trainers that learn from beliefs."""


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asked for.

    `pretrained` is a checkpoint to start with; `cases` train instead of all of the fold's training cases, and `folder`
    takes the place of the fold's own, both for comparisons. `refine` trains on labels refined by an earlier round
    (`trainers.refinement`). `part` is the kind of network that is trained, `finder` or `reader`; None = both.
    """

    dataset: str
    configuration: str
    fold: str
    trainer: str = "BaselineTrainer"
    plans: str = paths.DEFAULT_PLANS
    resume: bool = False
    validate_only: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    workers: int = 0
    overrides: Mapping[str, str] = field(default_factory=dict)
    pretrained: Path | None = None
    cases: tuple[str, ...] | None = None
    folder: Path | None = None
    refine: bool = False
    part: str | None = None


@dataclass(frozen=True)
class _Fold:
    """Everything that one fold is trained from and where it goes."""

    request: TrainingRequest
    trainer_class: type[Trainer]
    preprocessed: Path
    folder: Path
    train: list[str]
    validation: list[str]
    plan: Plan
    configuration: Configuration
    refinement: Refinement | None = None

    @property
    def plans_config(self) -> str:
        return grid_folder_name(self.request.plans, self.request.configuration)

    def inputs(self, cases: Sequence[str]) -> dict[str, str]:
        """What each of some cases was preprocessed from (`planning.inputs`)."""
        return {case: read_record(self.preprocessed / NATIVE, case)["inputs"] for case in cases}


def train_fold(request: TrainingRequest) -> Path:
    """Train and validate one fold; returns its folder."""
    trainer_class = find_trainer(request.trainer)
    with told_as_the_users(trainer_class):
        return _train_fold(request, trainer_class)


def _train_fold(request: TrainingRequest, trainer_class: type[Trainer]) -> Path:
    name = paths.dataset_name(request.dataset)
    preprocessed = paths.preprocessed_folder(name)
    if request.refine and not trainer_class.learns_beliefs:
        raise UsageError(
            f"--refine: {trainer_class.__name__} does not learn from beliefs. Use -tr UncertainLabelsTrainer or "
            "UncertainLabelsAETrainer."
        )
    # A round of its own beside the first one, which stays as it is; the rest of the names are those of any model.
    model_name = trainer_class.__name__ + (REFINED if request.refine else "")
    model_folder = paths.model_folder(name, model_name, request.plans, request.configuration)
    folder = request.folder or model_folder / f"fold_{request.fold}"
    dataset_plan = load_plan(preprocessed / f"{request.plans}.json")
    dataset_plan.configuration(request.configuration)
    require_current(request.dataset, dataset_plan)
    train, validation = fold_cases(preprocessed, request.fold)
    train = train if request.cases is None else list(request.cases)
    found = None
    if request.refine and not request.validate_only:
        source = paths.model_folder(name, trainer_class.__name__, request.plans, request.configuration)
        found = refinement(source, preprocessed, train, dataset_plan.class_names)
    if request.resume or request.validate_only:
        require_same_data(folder, dataset_plan, preprocessed, train, validation, request.resume)
    plan = _plan_of_fold(request, trainer_class, dataset_plan, folder, preprocessed, train, found)
    configuration = plan.configuration(request.configuration)
    fold = _Fold(request, trainer_class, preprocessed, folder, train, validation, plan, configuration, found)
    settings = grid_settings(configuration.spacing_mm, configuration.normalisation)
    check_stored(preprocessed, fold.plans_config, settings, [*train, *validation])
    if request.folder is None and not request.validate_only:
        _tell_of_other_meanings(fold)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            _train(fold)
            if validation and trainer_class.final_name == PREDICTING and request.part != FINDER:
                _validate(fold)
    except Timeout:
        raise Busy(
            f"{folder} is being trained by another process. Wait for it, or choose another fold."
        ) from None
    return folder


def _tell_of_other_meanings(fold: _Fold) -> None:
    """Say before training which folds of the same model will not be averaged with this one.

    No refusal, for who trains all folds anew after a change begins with one of them.
    """
    unlike = unlike_folds(fold.folder.parent, fold.request.fold, fold.plan, fold.request.configuration)
    for other, told in unlike.items():
        logger.warning(
            "Fold %s, which lies beside fold %s, does not mean the same: %s. They cannot be averaged, so train fold %s "
            "anew as well; or keep the earlier model and give this one other plans (spinecls_plan_experiment -p NAME).",
            other,
            fold.request.fold,
            said(told),
            other,
        )


def find_trainer(name: str) -> type[Trainer]:
    """Trainer class of a name, `file.py:Class` or `module:Class`."""
    found = TRAINERS.find(name)
    if not (isinstance(found, type) and issubclass(found, Trainer)):
        raise UsageError(f"{name}: not a subclass of spinecls.trainers.base.Trainer.")
    if lacking := sorted(getattr(found, "__abstractmethods__", ())):
        raise UsageError(f"{name}: lacks {', '.join(lacking)}(), which every trainer must have.")
    return found


def fold_cases(preprocessed: Path, fold: str) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold; for `all`, every case and none."""
    splits = stored_folds(preprocessed)
    if fold == ALL:
        return sorted({case for split in splits for case in [*split["train"], *split["val"]]}), []
    if fold not in [str(number) for number in range(len(splits))]:
        raise UsageError(f"Fold {fold!r} does not exist. Folds: 0 to {len(splits) - 1}, or {ALL}.")
    return list(splits[int(fold)]["train"]), list(splits[int(fold)]["val"])


def _plan_of_fold(
    request: TrainingRequest,
    trainer_class: type[Trainer],
    plan: Plan,
    folder: Path,
    preprocessed: Path,
    train: Sequence[str],
    found: Refinement | None,
) -> Plan:
    """The plan that a fold goes by: a run that is continued or validated keeps its own.

    A refinement sets `class_q` where nobody did and no readers are judged. The class counts, and what images are
    compared with, are those of the fold's training cases, so nothing of its validation cases enters.
    """
    stored = folder / "plan.json"
    begun = any((folder / name).exists() for name in (trainer_class.final_name, "checkpoint_latest.pt"))
    if (request.resume or request.validate_only) and (begun or stored.exists()):
        own = fold_plan(folder)
        if request.overrides and dict(request.overrides) != {k: own.overrides.get(k) for k in request.overrides}:
            raise UsageError(
                f"--set: this run was started with {dict(own.overrides) or 'no settings'}. Continue without --set, or "
                "train anew without --c."
            )
        return own
    configuration = trainer_class.configured(plan.configuration(request.configuration))
    configuration = with_overrides(configuration, request.overrides)
    check_used({request.configuration: configuration}, request.overrides)
    told = parse_overrides({**plan.overrides, **request.overrides}).get(configuration.name, {})
    readers = known_readers(preprocessed, train)
    judged = trainer_class.learns_beliefs and can_be_judged(preprocessed, train, readers)
    # How far readers err who are judged is in their masses already.
    noise_unknown = found is not None and found.q is not None and not judged
    if noise_unknown and "class_q" not in told and configuration.class_q == 0:
        configuration = dataclasses.replace(configuration, class_q=found.q)
    plan = dataclasses.replace(plan, readers=readers, readers_judged=judged)
    if judged:
        counts = judged_counts(preprocessed, train, plan, None if found is None else found.expected)
    else:
        agreed = annotated_classes(preprocessed, train).values()
        counts = Counter(name for classes in agreed for name in classes.values() if name)
    return dataclasses.replace(
        plan,
        configurations={request.configuration: configuration},
        overrides={**plan.overrides, **request.overrides},
        class_counts={name: counts.get(name, 0) for name in plan.class_names},
        familiar=None if plan.familiar is None else familiar_images(_fingerprints(preprocessed, train)),
        training_images=training_images(_fingerprints(preprocessed, train), request.pretrained),
    )


def _fingerprints(preprocessed: Path, cases: Sequence[str]) -> list[CaseFingerprint]:
    """Fingerprints of cases.

    Raises
    ------
    PlanError
        When the fingerprint is missing or of an older version, or lacks a case.
    """
    path = preprocessed / FINGERPRINT
    known = load_fingerprint(path).cases
    if missing := sorted(set(cases) - set(known)):
        raise PlanError(f"{path}: lacks case {missing[0]}. Run spinecls_plan_and_preprocess again.")
    return [known[case] for case in cases]


FIXED_BY_PREPROCESSING = ("spacing_mm", "normalisation")
"""Fields that the preprocessed arrays were made by; another value needs `spinecls_plan_and_preprocess --set`."""


def with_overrides(configuration: Configuration, overrides: Mapping[str, str]) -> Configuration:
    """Configuration with what the user set for this run."""
    settings = parse_overrides(overrides).get(configuration.name, {})
    networks = ("network.", "reader_network.")
    fixed = [key for key in settings if key in FIXED_BY_PREPROCESSING or key.startswith(networks)]
    if fixed:
        raise UsageError(f"--set {fixed[0]}: decided in preprocessing. Give it to spinecls_plan_and_preprocess.")
    if "task_weights" in settings:
        settings["task_weights"] = {**configuration.task_weights, **settings["task_weights"]}
    if settings.get("steps", configuration.steps) < configuration.steps:
        # Who shortens the training means all of it.
        settings = {"reader_steps": min(configuration.reader_steps, settings["steps"]), **settings}
    return dataclasses.replace(configuration, **settings)


def annotated_classes(preprocessed: Path, cases: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Class by level of each case, None where it was not read exactly."""
    found = {}
    for case in cases:
        path = preprocessed / "native" / f"{case}.json"
        if not path.exists():
            raise DatasetError(f"{path}: case {case} is not preprocessed. Run spinecls_plan_and_preprocess again.")
        found[case] = {
            v["level"]: agreed_class((r["classes"], r["confidence"]) for r in v.get("readings", []))
            for v in files.read_json(path)["vertebrae"]
        }
    return found


def unlabelled_cases(preprocessed: Path, validation: Sequence[str]) -> list[str]:
    """Preprocessed scans without any annotation, those of patients whose cases are validated left out."""
    native = preprocessed / "native"
    splits = stored_folds(preprocessed)
    annotated = {case for split in splits for case in [*split["train"], *split["val"]]}
    others = sorted(path.stem for path in native.glob("*.json") if path.stem not in annotated)
    held_out = {files.read_json(native / f"{case}.json")["patient"] for case in validation}
    return [case for case in others if files.read_json(native / f"{case}.json")["patient"] not in held_out]


def load_training_data(
    preprocessed: Path,
    plan: Plan,
    configuration: Configuration,
    plans_config: str,
    cases: Sequence[str],
    masks: bool,
    unlabelled: Sequence[str] | None = None,
    beliefs: bool = False,
    expected: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> TrainingData:
    """Cases in memory; spine MRI is small enough that a whole fold fits.

    Parameters
    ----------
    masks : whether sealed crops are cut around masks
    unlabelled : scans without annotation to learn from as images, beside those of `cases`; None = no task does
    beliefs : whether it is to be said what loose annotation tells of each voxel, and who read what
    expected : by case and level the class probabilities by an earlier round; None = there was none
    """
    readers, compiler = None, None
    if beliefs:
        readers = readers_of(preprocessed, cases, plan, expected)
        # Passes of its own: what is drawn exactly is the measure of what is not, and cases are not kept in memory.
        compiler = AnnotationCompiler(_LoadedCases(preprocessed, plans_config, cases), plan)
    open_cases, sealed, unplaced, every, other_forms = [], [], [], [], set()
    for identifier in cases:
        case = load_case(preprocessed, plans_config, identifier)
        case = case if compiler is None else compiler.placed(case)
        form = case.annotation_form.get("vertebrae", {}).get("form", "mask")
        other_forms |= {form} - set(TRUSTED_FORMS if compiler is None else BELIEVED_FORMS)
        unplaced += [case] if lacks_places(case) else []
        trained = training_case(case, plan)
        trained = trained if compiler is None else compiler(case, trained)
        told = expected_of(expected, identifier)
        if len(plan.class_names) > 1:
            regions = labelled_regions(case, trained, plan, readers, told)
            trained = dataclasses.replace(trained, classes=regions)
        every.append(trained)
        if len(trained.centres):
            open_cases.append(trained)
        sealed += sealed_sources(case, plan, configuration, masks, readers, told)
    if not open_cases:
        raise DatasetError(
            "No training case has the position of a vertebra. Give a vertebra map (labelsTr) or centres "
            "(x_mm, y_mm, z_mm in vertebraeTr.csv) for about ten cases."
        )
    if len(plan.class_names) > 1 and not sealed and not unplaced:
        raise DatasetError(
            "No training vertebra has a class. Fill the column class of vertebraeTr.csv."
        )
    if unplaced:
        logger.info(
            "Vertebrae with a class and no position, in %s, are looked for when the finder has learnt.",
            counted(len(unplaced), "case"),
        )
    if other_forms:
        logger.warning("Annotation of the form %s is trained as if drawn exactly.", ", ".join(sorted(other_forms)))
    images = []
    if unlabelled is not None:
        images = every + [training_case(load_case(preprocessed, plans_config, name), plan) for name in unlabelled]
    moved = () if compiler is None else tuple(compiler.moved)
    return TrainingData(open_cases, sealed, images, unplaced, readers, expected, moved)


@dataclasses.dataclass(frozen=True)
class _LoadedCases:
    """Cases that are read anew each time somebody goes through them."""

    preprocessed: Path
    plans_config: str
    identifiers: Sequence[str]

    def __iter__(self) -> Iterator[PreprocessedCase]:
        return (load_case(self.preprocessed, self.plans_config, name) for name in self.identifiers)


def _train(fold: _Fold) -> None:
    request = fold.request
    # Weights to start with make another finder of the same data, also in a run that goes on.
    started = request.pretrained or _start(fold, None)
    finders = None if started else paths.results_root() / paths.dataset_name(request.dataset) / FINDERS
    settings = RunSettings(
        fold.folder, request.device, request.seed, request.workers, finders=finders, only=request.part
    )
    trainer = made_trainer(fold.trainer_class, fold.plan, fold.configuration, settings)
    if request.validate_only:
        if not trainer.final_path.exists():
            raise UsageError(f"{fold.folder}: --val needs a finished training; there is none.")
        _require_own_weights(fold, trainer.final_path)
        return
    if request.resume and trainer.final_path.exists():
        _require_own_weights(fold, trainer.final_path)
        logger.info("%s: training is finished already.", fold.folder)
        return
    refined = _refined(fold)
    if request.resume:
        trainer.resume()
    unlabelled = unlabelled_cases(fold.preprocessed, fold.validation) if trainer.needs_images else None
    data = load_training_data(
        fold.preprocessed,
        fold.plan,
        fold.configuration,
        fold.plans_config,
        fold.train,
        trainer.regions_from_masks,
        unlabelled,
        trainer.learns_beliefs,
        None if fold.refinement is None else fold.refinement.expected,
    )
    taken = None
    if request.pretrained is not None:
        # After the resumed weights were asked for: those of a run that goes on are further than any start.
        if request.resume and trainer.step:
            raise UsageError("-pretrained_weights is for a new run; this one goes on with its own weights (--c).")
        taken = take_pretrained(trainer.model, request.pretrained)
    known_finder = trainer.take_trained_finder(data)
    if not request.resume:
        _set_aside(trainer)
        save_plan(fold.folder / "plan.json", fold.plan)
        if request.folder is None:
            save_plan(fold.folder.parent / "plan.json", fold.plan)
    files.write_json(
        fold.folder / "run.json",
        {
            "trainer": fold.trainer_class.__name__,
            "spinecls_version": __version__,
            "torch_version": torch.__version__,
            "device": str(request.device),
            "seed": request.seed,
            "cases": list(fold.train),
            "inputs": fold.inputs(fold.train),
            "vertebrae": len(data.sealed),
            "seal": fold.configuration.seal,
            "tasks": [t.task.name for t in trainer.tasks],
            "task_weighting": fold.configuration.task_weighting,
            "parts": {part.name: part.steps for part in trainer.parts},
            "main_weights": {name: w for part in trainer.parts for name, w in part.weighting.main.items()},
            "auxiliary_shares": {name: w for part in trainer.parts for name, w in part.weighting.shares.items()},
            "unlabelled": list(unlabelled or ()),
            "placed_by_surroundings": list(data.moved),
            "pretrained": _start(fold, taken),
            "finder": None if trainer.finder_path is None else trainer.finder_path.name,
            "finder_trained_before": known_finder,
            "refined": refined,
            "overrides": dict(fold.plan.overrides),
        },
    )
    if data.readers is not None and data.readers.matrices is not None:
        files.write_json(fold.folder / READERS, data.readers.described())
    logger.info(
        "%s: %s, %s with a class; %s; on %s%s.",
        fold.folder,
        counted(len(data.cases), "case"),
        counted(len(data.sealed), "vertebra", "vertebrae"),
        ", ".join(f"{part.name} {counted(part.steps, 'step')}" for part in trainer.parts),
        request.device,
        f", from step {trainer.step}" if trainer.step else "",
    )
    trainer.fit(data)


def _require_own_weights(fold: _Fold, path: Path) -> None:
    """Refuse to validate weights of another fold, which may have learned from the cases of this one's validation."""
    if fold.trainer_class.final_name == PREDICTING:
        require_plan_of(load_checkpoint(path), fold.plan, fold.configuration, path)


def _refined(fold: _Fold) -> dict | None:
    """What the labels of a run were refined by.

    Raises
    ------
    UsageError
        When a run that goes on was started with other labels.
    """
    if fold.refinement is None:
        return None
    said = fold.refinement.described()
    path = fold.folder / "run.json"
    if fold.request.resume and path.exists() and (before := files.read_json(path).get("refined")) != said:
        raise UsageError(
            f"{fold.folder}: the run was refined by {before}, but the first round now gives {said}. Put the first "
            "round back as it was, or train anew without --c."
        )
    return said


def _start(fold: _Fold, taken: Taken | None) -> dict | None:
    """What the run started with; a run that goes on keeps what it said."""
    if taken is not None:
        return {"file": str(fold.request.pretrained), "taken": taken.sentence}
    path = fold.folder / "run.json"
    return files.read_json(path).get("pretrained") if fold.request.resume and path.exists() else None


def _set_aside(trainer: Trainer) -> None:
    """Keep checkpoints and validation of an earlier run under other names before starting afresh."""
    for path in (trainer.latest_path, trainer.previous_path, trainer.final_path):
        if path.exists():
            kept = path.with_name(f"replaced_{path.name}")
            path.replace(kept)
            logger.warning("%s of an earlier run is kept as %s. To continue a run, use --c.", path.name, kept.name)
    validation = trainer.settings.folder / "validation"
    if validation.exists():
        kept = validation.with_name("replaced_validation")
        shutil.rmtree(kept, ignore_errors=True)
        validation.rename(kept)
    for name in (PLACES, "progress.csv", "task_weights.csv"):
        (trainer.settings.folder / name).unlink(missing_ok=True)


def _validate(fold: _Fold) -> None:
    """Predict and score the validation cases; what scoring needs to know of training comes from the training cases."""
    annotations = annotated_classes(fold.preprocessed, fold.train)
    reference = TrainingReference(
        levels=[list(classes) for classes in annotations.values()],
        class_counts=[fold.plan.class_counts.get(name, 0) for name in fold.plan.class_names],
    )
    cases = (load_case(fold.preprocessed, fold.plans_config, case) for case in fold.validation)
    validated = _fingerprints(fold.preprocessed, fold.validation)
    if learned := learned_from(validated, fold.plan.training_images):
        said = "%s: the weights that this fold started with have learned from the validation cases %s; their scores "
        logger.warning(said + "are better than on new scans.", fold.folder, ", ".join(learned))
    warnings = {}
    if fold.plan.familiar is not None:
        for case in validated:
            warnings[case.case] = unfamiliar(case.shape, case.spacing_mm, case.appearance, fold.plan)
    device = fold.request.device
    inputs = fold.inputs(fold.validation)
    validate(fold.folder, fold.plan, fold.configuration, cases, inputs, reference, device, warnings)
