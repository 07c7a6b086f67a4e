"""Averaging what different models predicted of the same images, from their prediction folders.

Folds of one model are averaged inside it, maps before crops; different models may have different grids, so their
results are brought together vertebra by vertebra: centres within `SAME_MM` are one, names are decoded from the mean of
their level probabilities, class probabilities are averaged, and a voxel of a map needs half of the models.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from spinecls import __version__, files
from spinecls.anatomy import LEVELS
from spinecls.errors import DatasetError, PartialFailure, SpineclsError, UsageError
from spinecls.inference.levels import LevelDecoding, decode_levels
from spinecls.inference.predict_folder import PROBABILITIES, contribution_file
from spinecls.inference.results import entropy_of, reported_levels
from spinecls.io.images import Volume, read_image, write_map
from spinecls.io.predictions import (
    read_case_json,
    read_folder,
    write_case_json,
    write_failures,
    write_referrals,
    write_table,
)
from spinecls.records import NUMBERING_AMBIGUOUS, REFER, REFER_REASONS, CasePrediction, VertebraPrediction

logger = logging.getLogger(__name__)

SAME_MM = 10.0
"""Detections of two models nearer than this are the same vertebra; cervical ones lie some 16 mm apart."""


@dataclass(frozen=True)
class SavedCase:
    """What one model wrote of a case with `--save_probabilities`.

    Attributes
    ----------
    folder : where
    prediction : its JSON
    level_posterior : (N, 27) of its vertebrae
    level_codes : (27,) what stands for each level in its maps
    """

    folder: Path
    prediction: CasePrediction
    level_posterior: np.ndarray
    level_codes: np.ndarray


@dataclass(frozen=True)
class Group:
    """One vertebra as the models see it: number of the model -> row of its vertebra."""

    rows: Mapping[int, int]


def ensemble_folders(sources: Sequence[Path], target: Path) -> list[CasePrediction]:
    """Average prediction folders of the same images into a folder of the same kind.

    Raises
    ------
    UsageError
        With fewer than two folders, the same one twice, or the target among them.
    DatasetError
        When the folders have no case in common.
    PartialFailure
        After all else was written, when cases could not be averaged; failed.csv says why.
    """
    resolved = [source.resolve() for source in sources]
    if len(resolved) < 2 or len(set(resolved)) < len(resolved):
        raise UsageError("-i: an ensemble needs two or more different prediction folders.")
    if target.resolve() in resolved:
        raise UsageError(f"-o {target}: is one of the folders to be averaged. Give another one.")
    names = [{case.identifier for case in read_folder(source)} for source in sources]
    everywhere = sorted(set.intersection(*names))
    if not everywhere:
        raise DatasetError(f"{', '.join(map(str, sources))}: no case was predicted in all of them.")
    target.mkdir(parents=True, exist_ok=True)
    failed = [(case, "not predicted by every model") for case in sorted(set.union(*names) - set(everywhere))]
    done = []
    for case in everywhere:
        try:
            done.append(average_case([saved_case(source, case) for source in sources], target))
        except (SpineclsError, OSError, ValueError, KeyError) as error:
            logger.debug("case %s failed", case, exc_info=True)
            failed.append((case, f"{type(error).__name__}: {error}"))
    if done:
        write_table(target, done, done[0].class_names)
        write_referrals(target, done)
        files.write_json(target / "model.json", done[0].model)
    write_failures(target, failed)
    if failed:
        listed = "\n".join(f"  {case}: {reason}" for case, reason in failed)
        raise PartialFailure(f"{len(failed)} of {len(done) + len(failed)} cases failed:\n{listed}")
    return done


def saved_case(folder: Path, case: str) -> SavedCase:
    """What a folder holds of a case.

    Raises
    ------
    DatasetError
        When the probabilities were not saved, or do not belong to the JSON.
    """
    path = folder / PROBABILITIES.format(case)
    if not path.exists():
        raise DatasetError(f"{path}: not there. Predict with --save_probabilities.")
    prediction = read_case_json(folder / f"{case}.json")
    with np.load(path) as content:
        posterior, codes = content["level_posterior"], content["level_codes"]
    if posterior.shape != (len(prediction.vertebrae), len(LEVELS)):
        raise DatasetError(f"{path}: of {len(posterior)} vertebrae, {case}.json has {len(prediction.vertebrae)}.")
    return SavedCase(folder, prediction, posterior, codes)


def average_case(saved: Sequence[SavedCase], target: Path) -> CasePrediction:
    """Average one case and write its files.

    Raises
    ------
    DatasetError
        When the models have other classes, or their maps lie on other grids.
    """
    first = saved[0].prediction
    for other in saved[1:]:
        if other.prediction.class_names != first.class_names:
            raise DatasetError(
                f"{other.folder}: classes {', '.join(other.prediction.class_names)}, {saved[0].folder} has "
                f"{', '.join(first.class_names)}. Only models of the same classes can be averaged."
            )
    groups = [g for g in grouped([_centres(s) for s in saved]) if 2 * len(g.rows) >= len(saved)]
    decoding = _decoded(saved, groups)
    prediction = CasePrediction(
        identifier=first.identifier,
        class_names=first.class_names,
        vertebrae=tuple(_vertebra(saved, group, decoding, i) for i, group in enumerate(groups)),
        model={"ensemble": [dict(s.prediction.model) for s in saved], "spinecls_version": __version__},
        geometry=first.geometry,
    )
    _write_maps(saved, groups, prediction, target)
    write_case_json(target, prediction)
    return prediction


def grouped(centres: Sequence[np.ndarray]) -> list[Group]:
    """Detections of the same vertebra, from head to feet.

    Parameters
    ----------
    centres : (N, 3) LPS mm, one array a model
    """
    groups: list[dict[int, int]] = []
    for model, own in enumerate(centres):
        middles = np.array([_middle(centres, group) for group in groups]).reshape(-1, 3)
        distance = cdist(middles, own)
        matched = [(g, r) for g, r in zip(*linear_sum_assignment(distance), strict=True) if distance[g, r] < SAME_MM]
        for group, row in matched:
            groups[group][model] = int(row)
        groups += [{model: row} for row in range(len(own)) if row not in {r for _, r in matched}]
    return [Group(g) for g in sorted(groups, key=lambda group: -_middle(centres, group)[2])]


def _middle(centres: Sequence[np.ndarray], rows: Mapping[int, int]) -> np.ndarray:
    return np.mean([centres[model][row] for model, row in rows.items()], axis=0)


def _centres(saved: SavedCase) -> np.ndarray:
    return np.array([v.centre_lps for v in saved.prediction.vertebrae], float).reshape(-1, 3)


def _decoded(saved: Sequence[SavedCase], groups: Sequence[Group]) -> LevelDecoding:
    """Names from the mean level probabilities, which know the column of each model; distances are judged mildly."""
    centres = np.array([_middle([_centres(s) for s in saved], g.rows) for g in groups]).reshape(-1, 3)
    means = [np.mean([saved[m].level_posterior[row] for m, row in g.rows.items()], axis=0) for g in groups]
    return decode_levels(centres, np.log(np.maximum(np.array(means).reshape(-1, len(LEVELS)), 1e-12)), {})


def _vertebra(
    saved: Sequence[SavedCase], group: Group, decoding: LevelDecoding, i: int
) -> VertebraPrediction:
    seen = [saved[model].prediction.vertebrae[row] for model, row in group.rows.items()]
    level, runner_up = decoding.labels[i], decoding.runner_up[i]
    # The model whose name stands describes the region best.
    base = next((v for v in seen if v.level == level), seen[0])
    probabilities = tuple(np.mean([v.class_probabilities for v in seen], axis=0).tolist())
    held = {name for v in seen for name in v.prediction_set}
    flags = dict.fromkeys(flag for v in seen for flag in v.flags if flag not in (REFER, NUMBERING_AMBIGUOUS))
    flags |= {NUMBERING_AMBIGUOUS: None} if decoding.ambiguous else {}
    flags = {REFER: None, **flags} if probabilities and flags.keys() & set(REFER_REASONS) else flags
    lows, highs = (np.array([v.box_lps[end] for v in seen]) for end in (0, 1))
    return dataclasses.replace(
        base,
        level=level,
        level_probability=float(decoding.posterior[i, LEVELS.index(level)]),
        runner_up=runner_up,
        runner_up_probability=float(decoding.posterior[i, LEVELS.index(runner_up)]),
        level_probabilities=reported_levels(decoding.posterior[i]),
        relative_name=decoding.relative_names[i],
        centre_lps=tuple(np.mean([v.centre_lps for v in seen], axis=0).tolist()),
        box_lps=(tuple(lows.min(axis=0).tolist()), tuple(highs.max(axis=0).tolist())),
        score=float(np.mean([v.score for v in seen])),
        class_probabilities=probabilities,
        # Holds the class whenever the set of any model does.
        prediction_set=tuple(name for name in saved[0].prediction.class_names if name in held),
        entropy=entropy_of(probabilities),
        visible_fraction=float(np.mean([v.visible_fraction for v in seen])),
        evidence=_mean_evidence(seen, len(saved)),
        flags=tuple(flags),
    )


def _mean_evidence(seen: Sequence[VertebraPrediction], models: int) -> dict[str, dict[str, float]]:
    """A model that did not find the vertebra adds nothing to the maps, and so nothing to their sums."""
    return {
        name: {key: sum(v.evidence[name][key] for v in seen) / models for key in values}
        for name, values in seen[0].evidence.items()
    }


def _write_maps(saved: Sequence[SavedCase], groups: Sequence[Group], prediction: CasePrediction, target: Path) -> None:
    case = prediction.identifier
    volumes = [read_image([s.folder / f"{case}.nii.gz"]) for s in saved]
    for volume, other in zip(volumes, saved, strict=True):
        if volume.geometry != volumes[0].geometry:
            raise DatasetError(f"{other.folder / case}.nii.gz: on another grid than that in {saved[0].folder}.")
    source, grid = volumes[0].source, volumes[0].geometry
    levels = [v.level for v in prediction.vertebrae]
    write_map(target / f"{case}.nii.gz", _voted(saved, groups, levels, volumes), source, grid)
    names = tuple(prediction.vertebrae[0].evidence) if prediction.vertebrae else ()
    for file in (f"{case}_evidence.nii.gz", *(contribution_file(case, name, names) for name in names)):
        total = sum(read_image([s.folder / file]).array[0] if (s.folder / file).exists() else 0.0 for s in saved)
        write_map(target / file, np.broadcast_to(total / len(saved), grid.shape).astype(np.float32), source, grid)


def _voted(
    saved: Sequence[SavedCase], groups: Sequence[Group], levels: Sequence[str], volumes: Sequence[Volume]
) -> np.ndarray:
    """Level map of the voxels that at least half of the models give to a vertebra; the upper one keeps a tie."""
    voted = np.zeros(volumes[0].geometry.shape, np.uint8)
    most = np.zeros(voted.shape, np.uint8)
    for group, level in zip(groups, levels, strict=True):
        votes = np.zeros(voted.shape, np.uint8)
        for model, row in group.rows.items():
            own = saved[model].prediction.vertebrae[row].level
            votes += volumes[model].array[0] == saved[model].level_codes[LEVELS.index(own)]
        won = (2 * votes >= len(saved)) & (votes > most)
        voted[won], most[won] = saved[0].level_codes[LEVELS.index(level)], votes[won]
    return voted
