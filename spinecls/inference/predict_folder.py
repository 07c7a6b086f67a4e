"""Prediction of files: every image of a folder, each written as soon as it is done."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spinecls import __version__, files
from spinecls.anatomy import LEVELS
from spinecls.errors import DatasetError, PartialFailure, SpineclsError, UsageError, counted, some_names
from spinecls.inference.calibrating import described
from spinecls.inference.models import TrainedModel
from spinecls.inference.predictor import Predictor
from spinecls.inference.results import VolumePrediction, case_prediction, class_names
from spinecls.io.image_digests import image_digests
from spinecls.io.images import read_image, write_map
from spinecls.io.input_files import InputCase, find_inputs
from spinecls.io.predictions import read_case_json, write_case_json, write_failures, write_referrals, write_table
from spinecls.records import SEVERITY, CasePrediction

logger = logging.getLogger(__name__)

PROBABILITIES = "{}_probabilities.npz"
"""Name of the file of a case with what ensembling needs."""


@dataclass(frozen=True)
class FolderOptions:
    """What to write, and whether to keep what is there."""

    continue_prediction: bool = False
    save_probabilities: bool = False


def model_description(model: TrainedModel, predictor: Predictor) -> dict:
    """What a prediction says about where it comes from."""
    return {
        "dataset": model.dataset,
        "trainer": model.trainer,
        "plans": model.plans,
        "configuration": model.configuration,
        "folds": list(model.folds),
        "spinecls_version": __version__,
        "test_time_augmentation": predictor.augment,
        "calibration": described(predictor.calibration, model.folds),
        "prevalence": None if predictor.prevalence is None else dict(predictor.prevalence),
        "checkpoints": dict(predictor.checkpoints),
        "training_images": predictor.training_images,
    }


def predict_folder(
    predictor: Predictor, model: TrainedModel, source: Path, target: Path, options: FolderOptions
) -> list[CasePrediction]:
    """Predict every case in `source` (a folder, or one image file) into `target`.

    Raises
    ------
    PartialFailure
        After everything else was written, when cases failed; failed.csv says why.
    """
    cases, failed = find_inputs(source, len(predictor.plan.channel_names))
    if target.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise UsageError(f"-o {target} is the input folder. Results would mix with images; give another folder.")
    _refuse_clashing_names({case.identifier for case in cases})
    target.mkdir(parents=True, exist_ok=True)
    files.remove_temporaries(target)
    if predictor.plan.familiar is None:
        logger.warning("The plan of this model does not say what images it was trained on; images are not compared.")
    _tell_of_others(target, {case.identifier for case in cases})
    description = model_description(model, predictor)
    done: list[CasePrediction] = []
    for case in tqdm(cases, desc="predict", unit="case", disable=None):
        finished = _finished(predictor, target, case, description, options) if options.continue_prediction else None
        if finished is not None:
            done.append(finished)
            continue
        try:
            done.append(_predict_case(predictor, case, target, description, options))
        except (SpineclsError, MemoryError, RuntimeError, ValueError, OSError) as error:
            # One hard case must not cost the others; it is named in failed.csv and by the exit code.
            logger.debug("case %s failed", case.identifier, exc_info=True)
            failed.append((case.identifier, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__))
    write_table(target, done, class_names(predictor.plan))
    write_referrals(target, done)
    write_failures(target, failed)
    files.write_json(target / "model.json", description)
    if failed:
        listed = "\n".join(f"  {case}: {reason}" for case, reason in failed)
        total = counted(len(done) + len(failed), "case")
        raise PartialFailure(f"{len(failed)} of {total} failed (see {target / 'failed.csv'}):\n{listed}")
    return done


def input_names(source: Path, channels: int) -> set[str]:
    """Names of the cases in a folder of images, those that cannot be predicted among them."""
    cases, failed = find_inputs(source, channels)
    return {case.identifier for case in cases} | {name for name, _ in failed}


def _tell_of_others(target: Path, names: set[str]) -> None:
    """Cases of an earlier call would be scored as if they were of this one."""
    stems = {path.stem for path in target.glob("*.json")} - names
    if others := sorted(stem for stem in stems if (target / f"{stem}.nii.gz").exists()):
        logger.warning(
            "%s holds %d other cases of an earlier call (%s), which spinecls_evaluate will score too. Give an empty "
            "folder if that is not meant.",
            target,
            len(others),
            some_names(others),
        )


def _refuse_clashing_names(names: set[str]) -> None:
    """The evidence map of case `a` would be the level map of case `a_evidence`."""
    for name in sorted(names):
        stem, marker, _ = name.rpartition("_evidence")
        if marker and stem in names:
            raise UsageError(f"Cases {stem} and {name}: their results would overwrite each other.")


def evidence_file(case: str) -> str:
    """Name of the file with the evidence of abnormality."""
    return f"{case}_evidence.nii.gz"


def contribution_file(case: str, name: str, names: Sequence[str]) -> str:
    """Name of the file with the contributions of an evidence map; classes by index, for any name is a class name."""
    return f"{case}_evidence_{name if name == SEVERITY else f'class{names.index(name) + 1}'}.nii.gz"


def _outputs(predictor: Predictor, target: Path, case: str, options: FolderOptions) -> list[Path]:
    """Files of a case; the first, the JSON, is deleted first and written last, so it vouches for the others."""
    maps = predictor.evidence_names
    names = [f"{case}.json", f"{case}.nii.gz", evidence_file(case)]
    names += [contribution_file(case, name, maps) for name in maps]
    names += [PROBABILITIES.format(case)] if options.save_probabilities else []
    return [target / name for name in names]


def _finished(
    predictor: Predictor, target: Path, case: InputCase, model: dict, options: FolderOptions
) -> CasePrediction | None:
    """An earlier result of the same checkpoints that is whole."""
    outputs = _outputs(predictor, target, case.identifier, options)
    if not all(path.exists() for path in outputs):
        return None
    try:
        prediction = read_case_json(outputs[0])
    except DatasetError:
        return None
    return prediction if dict(prediction.model) == model else None


def _predict_case(
    predictor: Predictor, case: InputCase, target: Path, model: dict, options: FolderOptions
) -> CasePrediction:
    for path in _outputs(predictor, target, case.identifier, FolderOptions(save_probabilities=True)):
        path.unlink(missing_ok=True)
    # As in preprocessing, or the network would see channels that lie otherwise than those it learned from.
    volume = read_image(case.images, register=predictor.plan.register_channels)
    for warning in volume.warnings:
        logger.warning("%s: %s", case.identifier, warning)
    # Training images are measured as scanned, and interpolation would change how sharp and noisy a channel is.
    scanned = read_image(case.images) if predictor.plan.register_channels else volume
    warnings = predictor.image_warnings(scanned.array, scanned.geometry)
    for warning in warnings:
        logger.warning("%s: unlike the training images: %s", case.identifier, warning)
    result = predictor.predict_volume(volume.array, volume.geometry)
    prediction = case_prediction(
        case.identifier, result, predictor.plan, model, volume.geometry, warnings, volume.warnings
    )
    prediction = dataclasses.replace(prediction, input={"voxels": image_digests(scanned.array)})
    write_map(target / f"{case.identifier}.nii.gz", result.level_map, volume.source, volume.geometry)
    write_map(target / evidence_file(case.identifier), result.evidence, volume.source, volume.geometry)
    for name, values in result.contributions.items():
        path = target / contribution_file(case.identifier, name, predictor.evidence_names)
        write_map(path, values, volume.source, volume.geometry)
    if options.save_probabilities:
        _save_probabilities(target / PROBABILITIES.format(case.identifier), result, predictor)
    write_case_json(target, prediction)
    return prediction


def _save_probabilities(path: Path, result: VolumePrediction, predictor: Predictor) -> None:
    """Arrays that ensembling needs, vertebrae as in the JSON; class probabilities (folds, views, N, K)."""
    with files.atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            centres_lps=result.located.centres_lps,
            level_posterior=result.located.decoding.posterior,
            level_codes=np.array([predictor.level_codes[name] for name in LEVELS], np.uint8),
            class_names=np.array(predictor.plan.class_names),
            class_order=np.array(predictor.plan.class_order),
            class_probabilities=np.zeros((0, 0, 0, 0)) if result.sealed is None else result.sealed.members,
        )
