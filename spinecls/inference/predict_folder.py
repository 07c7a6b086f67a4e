"""Prediction of files: every image of a folder, each written as soon as it is done."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spinecls import __version__, files
from spinecls.anatomy import LEVELS
from spinecls.errors import DatasetError, UsageError, some_names
from spinecls.hard_cases import HardCases
from spinecls.inference.case_results import VolumePrediction, case_prediction, class_names
from spinecls.inference.model_calibration import described
from spinecls.inference.models import TrainedModel
from spinecls.inference.predictor import Predictor
from spinecls.io.image_digests import image_digests
from spinecls.io.images import read_image, write_map
from spinecls.io.input_files import InputCase, Inputs, find_inputs
from spinecls.io.kept_results import KeptResults, input_digest, output_digests
from spinecls.io.prediction_folder import (
    MODEL_NAME,
    PROBABILITIES,
    PredictionFolder,
    alone_in,
    contribution_file,
    evidence_file,
)
from spinecls.io.predictions import FAILURES_NAME, REFERRALS_NAME, TABLE_NAME, write_case_json
from spinecls.model_folder import SUMMARY
from spinecls.records import CasePrediction

logger = logging.getLogger(__name__)


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
        "plan_hash": files.text_hash([dataclasses.asdict(p) for p in predictor.fold_plans or [predictor.plan]])[:16],
    }


def predict_folder(
    predictor: Predictor, model: TrainedModel, source: Path, target: Path, options: FolderOptions
) -> list[CasePrediction]:
    """Predict every case in `source` (a folder, a DICOM series, or one image file) into `target`.

    Raises
    ------
    UsageError
        When the target is the input folder or holds other cases of another model, or the input is a folder of results.
    ResourceError
        When another process writes to the target.
    PartialFailure
        After everything else was written, when cases failed; failed.csv says why.
    """
    if target.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise UsageError(f"-o {target} is the input folder. Results would mix with images; give another folder.")
    if (source / MODEL_NAME).is_file() and (source / TABLE_NAME).is_file():
        raise UsageError(f"-i {source}: a folder of results, whose maps are no scans. Give the folder of the images.")
    inputs = find_inputs(source, len(predictor.plan.channel_names), output=target)
    for line in inputs.skipped_lines:
        logger.warning(line)
    with alone_in(target):
        return _predict_cases(predictor, model, inputs, target, options)


def _predict_cases(
    predictor: Predictor, model: TrainedModel, inputs: Inputs, target: Path, options: FolderOptions
) -> list[CasePrediction]:
    folder = PredictionFolder(target, inputs.names, model_description(model, predictor), predictor.evidence_names)
    if predictor.plan.familiar is None:
        logger.warning("The plan of this model does not say what images it was trained on; images are not compared.")
    folder.open()
    hard = HardCases(target)
    hard.failed |= {**inputs.failed, **folder.clashing}
    for name in hard.failed:
        folder.clear(name)
    cases = [case for case in inputs.cases if case.identifier not in hard.failed]
    kept = _kept(predictor, folder, cases, options) if options.continue_prediction else {}
    done: list[CasePrediction] = []
    try:
        for case in tqdm(cases, desc="predict", unit="case", disable=None):
            if case.identifier in kept:
                done.append(kept[case.identifier])
                continue
            with hard.case(case.identifier), folder.replacing(case.identifier):
                done.append(_predict_case(predictor, case, target, folder.model, options))
    finally:
        folder.write_tables(class_names(predictor.plan), hard.failed)
    tell_of_empty(done, target)
    tell_of_old_scores(target, len(done) - len(kept))
    hard.raise_if_any(len(done) + len(hard.failed), str(target / FAILURES_NAME))
    return done


def tell_of_empty(done: Sequence[CasePrediction], target: Path) -> None:
    """Say in which scans no vertebra was found."""
    empty = [case.identifier for case in done if not case.vertebrae]
    if empty:
        logger.warning(
            "No vertebra was found in %d of %d cases (%s); see %s.",
            len(empty), len(done), some_names(empty), target / REFERRALS_NAME,
        )  # fmt: skip


def tell_of_old_scores(target: Path, new: int) -> None:
    """Say that scores in the folder are of what lay there before."""
    if new and (target / SUMMARY).is_file():
        logger.warning("%s is of earlier predictions; run spinecls_evaluate again.", target / SUMMARY)


def _kept(
    predictor: Predictor, folder: PredictionFolder, cases: Sequence[InputCase], options: FolderOptions
) -> dict[str, CasePrediction]:
    """Finished results of earlier calls."""
    results = KeptResults(folder.folder, folder.model)
    predictions = {}
    for case in tqdm(cases, desc="compare", unit="case", disable=None):
        needed = _outputs(predictor, case.identifier, options)
        predictions[case.identifier] = results.find(case.identifier, case.images, needed)
    results.tell()
    return {name: prediction for name, prediction in predictions.items() if prediction is not None}


def _outputs(predictor: Predictor, case: str, options: FolderOptions) -> list[str]:
    """Names of the files of a case but its JSON, which names their hashes and so vouches for them."""
    names = predictor.evidence_names
    maps = [contribution_file(case, name, names) for name in names]
    saved = [PROBABILITIES.format(case)] if options.save_probabilities else []
    return [f"{case}.nii.gz", evidence_file(case), *maps, *saved]


def _predict_case(
    predictor: Predictor, case: InputCase, target: Path, model: Mapping, options: FolderOptions
) -> CasePrediction:
    digest = input_digest(case.images)
    # As in preprocessing, or the network would see channels that lie otherwise than those it learned from.
    volume = read_image(case.images, register=predictor.plan.register_channels)
    for warning in volume.warnings:
        logger.warning("%s: %s", case.identifier, warning)
    # Training images are measured as scanned, and interpolation would change how sharp and noisy a channel is.
    scanned = read_image(case.images) if predictor.plan.register_channels else volume
    digests = image_digests(scanned.array)
    refuse_equal_channels(digests, predictor.plan.channel_names)
    warnings = predictor.image_warnings(scanned.array, scanned.geometry)
    for warning in warnings:
        logger.warning("%s: unlike the training images: %s", case.identifier, warning)
    result = predictor.predict_volume(volume.array, volume.geometry, unlike=bool(warnings))
    prediction = case_prediction(
        case.identifier, result, predictor.plan, model, volume.geometry, warnings, volume.warnings
    )
    write_map(target / f"{case.identifier}.nii.gz", result.level_map, volume.source, volume.geometry)
    write_map(target / evidence_file(case.identifier), result.evidence, volume.source, volume.geometry)
    for name, values in result.contributions.items():
        path = target / contribution_file(case.identifier, name, predictor.evidence_names)
        write_map(path, values, volume.source, volume.geometry)
    if options.save_probabilities:
        _save_probabilities(target / PROBABILITIES.format(case.identifier), result, predictor)
    outputs = output_digests(target, _outputs(predictor, case.identifier, options))
    read = {"files": digest, "voxels": digests}
    prediction = dataclasses.replace(prediction, input=read, outputs=outputs)
    write_case_json(target, prediction)
    return prediction


def refuse_equal_channels(digests: Sequence[str], names: Sequence[str]) -> None:
    """Raise `DatasetError` where one scan was given as two channels, as by a copy under both names."""
    for number, digest in enumerate(digests):
        if (first := digests.index(digest)) < number:
            raise DatasetError(
                f"the channels _{first:04d} ({names[first]}) and _{number:04d} ({names[number]}) are the same image. "
                "Give the scan of each."
            )


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
