"""Averaging what different models predicted of the same images, from their prediction folders.

Folds of one model are averaged inside it, maps before crops; different models may have different grids, so their
results are brought together vertebra by vertebra: centres within `SAME_MM` are one, names are decoded from the mean of
their level probabilities, class probabilities are averaged, and a voxel of a map needs half of the models.
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from spinecls import __version__, files
from spinecls.anatomy import LEVELS
from spinecls.calibration.uncertainty import decompose
from spinecls.dataloading.forms import inside_box
from spinecls.errors import DatasetError, UsageError
from spinecls.geometry import Geometry
from spinecls.hard_cases import HardCases
from spinecls.inference.case_results import entropy_of, reported_levels
from spinecls.inference.level_decoding import LevelDecoding, decode_levels, see_anchors
from spinecls.inference.native_maps import abnormal_class
from spinecls.inference.predict_folder import tell_of_empty, tell_of_old_scores
from spinecls.io.images import Volume, read_map, write_map
from spinecls.io.kept_results import output_digests, require_whole
from spinecls.io.prediction_folder import (
    PROBABILITIES,
    PredictionFolder,
    alone_in,
    contribution_file,
    evidence_file,
)
from spinecls.io.predictions import (
    FAILURES_NAME,
    is_case_json,
    read_case_json,
    read_failures,
    read_folder,
    write_case_json,
)
from spinecls.planning.meaning import require_same
from spinecls.records import NUMBERING_AMBIGUOUS, REFER, REFER_REASONS, SEVERITY, CasePrediction, VertebraPrediction

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
    class_order : whether classes are grades
    members : (M, N, K) class probabilities of its folds and views before calibration
    """

    folder: Path
    prediction: CasePrediction
    level_posterior: np.ndarray
    level_codes: np.ndarray
    class_order: bool
    members: np.ndarray


@dataclass(frozen=True)
class Group:
    """One vertebra as the models see it: number of the model -> row of its vertebra."""

    rows: Mapping[int, int]


def ensemble_folders(
    sources: Sequence[Path], target: Path, cases: Collection[str] | None = None
) -> list[CasePrediction]:
    """Average prediction folders of the same images into a folder of the same kind.

    Parameters
    ----------
    cases : names of those to average; by default all that the folders hold or name as failed

    Raises
    ------
    UsageError
        With fewer than two folders, the same one twice, or the target among them.
    DatasetError
        When the folders have no case in common and none has failed, or what they predicted does not mean the same.
    ResourceError
        When another process writes to the target.
    PartialFailure
        After all else was written, when cases could not be averaged; failed.csv says why.
    """
    resolved = [source.resolve() for source in sources]
    if len(resolved) < 2 or len(set(resolved)) < len(resolved):
        raise UsageError("-i: an ensemble needs two or more different prediction folders.")
    if target.resolve() in resolved:
        raise UsageError(f"-o {target}: is one of the folders to be averaged. Give another one.")
    with alone_in(target):
        return _average_folders(sources, target, cases)


def _average_folders(sources: Sequence[Path], target: Path, cases: Collection[str] | None) -> list[CasePrediction]:
    reasons = {case: reason for source in sources for case, reason in read_failures(source)}
    read = [_read_folder(source) for source in sources]
    predicted = [{case.identifier for case in cases_of_one} for cases_of_one in read]
    wanted = set.union(*predicted, set(reasons)) if cases is None else set(cases)
    everywhere = sorted(set.intersection(*predicted) & wanted)
    if not everywhere and not reasons:
        raise DatasetError(f"{', '.join(map(str, sources))}: no case was predicted in all of them.")
    _require_same(sources, everywhere)
    first = next((one for cases_of_one in read for one in cases_of_one), None)
    model = _ensemble_description([cases_of_one[0].model for cases_of_one in read if cases_of_one])
    maps = sorted({name for cases_of_one in read for one in cases_of_one for v in one.vertebrae for name in v.evidence})
    folder = PredictionFolder(target, wanted, model, maps)
    folder.open()
    hard = HardCases(target)
    for case in sorted(wanted - set(everywhere)):
        hard.failed[case] = reasons.get(case, "not predicted by every model")
    hard.failed |= folder.clashing
    for case in hard.failed:
        folder.clear(case)
    done = []
    try:
        for case in everywhere:
            if case not in hard.failed:
                with hard.case(case), folder.replacing(case):
                    done.append(_average_case([saved_case(source, case) for source in sources], target, folder.model))
    finally:
        folder.write_tables(() if first is None else first.class_names, hard.failed)
    tell_of_empty(done, target)
    tell_of_old_scores(target, len(done))
    hard.raise_if_any(len(done) + len(hard.failed), str(target / FAILURES_NAME))
    return done


def _ensemble_description(models: Sequence[Mapping]) -> dict:
    """What an averaged prediction says about where it comes from."""
    return {"ensemble": [dict(model) for model in models], "spinecls_version": __version__}


def _read_folder(source: Path) -> list[CasePrediction]:
    """Cases of a folder; none where all have failed."""
    has_cases = any(is_case_json(path) for path in source.glob("*.json"))
    return read_folder(source) if has_cases or not read_failures(source) else []


def _require_same(sources: Sequence[Path], cases: Sequence[str]) -> None:
    """Refuse to average other classes, or probabilities that count on other shares of them, before anything is done."""
    meanings = {}
    for source in sources:
        for case in cases:
            try:
                with open(source / PROBABILITIES.format(case), "rb") as stream, np.load(stream) as content:
                    order = bool(content["class_order"])
            except (OSError, KeyError, ValueError, zipfile.BadZipFile):
                # Such a case fails by itself, and says why.
                continue
            path = source / f"{case}.json"
            prediction = read_case_json(path)
            meanings[str(path)] = {
                "class_names": list(prediction.class_names),
                "class_order": order,
                "prevalence": prediction.model.get("prevalence"),
            }
    if meanings:
        remedy = "Predict all folders by models of the same classes, in the same way."
        require_same(meanings, "-i", remedy, DatasetError)


def saved_case(folder: Path, case: str) -> SavedCase:
    """What a folder holds of a case.

    Raises
    ------
    DatasetError
        When the probabilities were not saved, or a file is damaged or does not belong to the JSON.
    """
    path = folder / PROBABILITIES.format(case)
    prediction = read_case_json(folder / f"{case}.json")
    if "ensemble" in prediction.model:
        raise DatasetError(
            f"{folder}: holds a mean, which cannot be averaged again. Give the folders that it is of by -i, together "
            "with the others."
        )
    if not path.exists():
        raise DatasetError(f"{path}: not there. Predict with --save_probabilities.")
    require_whole(folder, prediction, prediction.outputs)
    try:
        with open(path, "rb") as stream, np.load(stream) as content:
            posterior, codes, order = content["level_posterior"], content["level_codes"], bool(content["class_order"])
            members = content["class_probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: cannot be read ({error}). Predict again with --save_probabilities.") from None
    if posterior.shape != (len(prediction.vertebrae), len(LEVELS)):
        raise DatasetError(f"{path}: of {len(posterior)} vertebrae, {case}.json has {len(prediction.vertebrae)}.")
    flat = members.reshape(math.prod(members.shape[:2]), *members.shape[2:])
    return SavedCase(folder, prediction, posterior, codes, order, flat)


def _average_case(saved: Sequence[SavedCase], target: Path, model: Mapping) -> CasePrediction:
    """Average one case and write its files.

    Parameters
    ----------
    model : what is said of the models; those of every case are the same

    Raises
    ------
    DatasetError
        When they are of different images, or their maps lie on other grids.
    """
    first = saved[0].prediction
    for other in saved[1:]:
        if first.input.get("voxels") != other.prediction.input.get("voxels"):
            raise DatasetError(f"{other.folder}: predicted from another image of this name than {saved[0].folder}.")
    if files.plain(_ensemble_description([s.prediction.model for s in saved])) != model:
        raise DatasetError(
            f"{first.identifier}: predicted by another model, or in another way, than other cases of the same folder. "
            "Predict the folders again."
        )
    groups = [g for g in grouped([_centres(s) for s in saved]) if 2 * len(g.rows) >= len(saved)]
    decoding = _decoded(saved, groups, first.geometry)
    # Two that the models saw apart from each other may be one vertebra.
    groups, decoding = [groups[row] for row in decoding.kept], decoding.rows(decoding.kept)
    prediction = CasePrediction(
        identifier=first.identifier,
        class_names=first.class_names,
        vertebrae=tuple(_vertebra(saved, group, decoding, i) for i, group in enumerate(groups)),
        model=model,
        geometry=first.geometry,
        warnings=tuple(dict.fromkeys(w for s in saved for w in s.prediction.warnings)),
        input=first.input,
    )
    written = _write_maps(saved, groups, prediction, target)
    prediction = dataclasses.replace(prediction, outputs=output_digests(target, written))
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


def _decoded(saved: Sequence[SavedCase], groups: Sequence[Group], geometry: Geometry | None) -> LevelDecoding:
    """Names from the mean level probabilities.

    Each of a model's probabilities has seen its whole column already, so all of them together count as one witness.
    """
    centres = np.array([_middle([_centres(s) for s in saved], g.rows) for g in groups]).reshape(-1, 3)
    means = [np.mean([saved[m].level_posterior[row] for m, row in g.rows.items()], axis=0) for g in groups]
    logarithms = np.log(np.maximum(np.array(means).reshape(-1, len(LEVELS)), 1e-12))
    decoding = decode_levels(centres, logarithms, {}, visibility=np.full(len(groups), 1 / max(1, len(groups))))
    return decoding if geometry is None else see_anchors(decoding, centres, geometry, {})


def _vertebra(saved: Sequence[SavedCase], group: Group, decoding: LevelDecoding, i: int) -> VertebraPrediction:
    seen = [saved[model].prediction.vertebrae[row] for model, row in group.rows.items()]
    level, runner_up = decoding.labels[i], decoding.runner_up[i]
    # The model whose name stands describes the region best.
    base = next((v for v in seen if v.level == level), seen[0])
    probabilities = tuple(np.mean([v.class_probabilities for v in seen], axis=0).tolist())
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
        prediction_set=_joined_set(saved[0], seen, probabilities),
        entropy=entropy_of(probabilities),
        doubt=_doubt(saved, group) if probabilities else {},
        visible_fraction=float(np.mean([v.visible_fraction for v in seen])),
        evidence=_mean_evidence(seen, len(saved)),
        flags=_flags(seen, decoding.ambiguous, bool(probabilities)),
    )


def _joined_set(
    first: SavedCase, seen: Sequence[VertebraPrediction], probabilities: Sequence[float]
) -> tuple[str, ...]:
    """What any model's set holds, and so the class whenever one of them does; the reported class; of grades no gap."""
    names = first.prediction.class_names
    if not names:
        return ()
    held = {names.index(name) for v in seen for name in v.prediction_set} | {int(np.argmax(probabilities))}
    if first.class_order:
        held = set(range(min(held), max(held) + 1))
    return tuple(names[k] for k in sorted(held))


def _doubt(saved: Sequence[SavedCase], group: Group) -> dict[str, float]:
    """Parts of the entropy over all folds and views of all models, before calibration."""
    members = np.concatenate([saved[model].members[:, row] for model, row in group.rows.items()])
    return decompose(members[:, None]).of(0)


def _flags(seen: Sequence[VertebraPrediction], ambiguous: bool, classified: bool) -> tuple[str, ...]:
    """Flags of any model; the numbering is ambiguous when that of half of them is, or that of all together."""
    doubted = 2 * sum(NUMBERING_AMBIGUOUS in v.flags for v in seen) >= len(seen)
    flags = dict.fromkeys(flag for v in seen for flag in v.flags if flag not in (REFER, NUMBERING_AMBIGUOUS))
    flags |= {NUMBERING_AMBIGUOUS: None} if ambiguous or doubted else {}
    refer = classified and flags.keys() & set(REFER_REASONS)
    return (REFER, *flags) if refer else tuple(flags)


def _mean_evidence(seen: Sequence[VertebraPrediction], models: int) -> dict[str, dict[str, float]]:
    """A model that did not find the vertebra adds nothing to the maps, and so nothing to their sums."""
    return {
        name: {key: sum(v.evidence[name][key] for v in seen) / models for key in values}
        for name, values in seen[0].evidence.items()
    }


def _write_maps(
    saved: Sequence[SavedCase], groups: Sequence[Group], prediction: CasePrediction, target: Path
) -> list[str]:
    """Write the maps of a case; returns their names."""
    case = prediction.identifier
    volumes = [read_map(s.folder / f"{case}.nii.gz") for s in saved]
    for volume, other in zip(volumes, saved, strict=True):
        if volume.geometry != volumes[0].geometry:
            raise DatasetError(f"{other.folder / case}.nii.gz: on another grid than that in {saved[0].folder}.")
    source, grid = volumes[0].source, volumes[0].geometry
    levels = [v.level for v in prediction.vertebrae]
    write_map(target / f"{case}.nii.gz", _voted(saved, groups, levels, volumes), source, grid)
    names = tuple(prediction.vertebrae[0].evidence) if prediction.vertebrae else ()
    for name in names:
        file = contribution_file(case, name, names)
        kept = (_kept(s, groups, model, read_map(s.folder / file)) for model, s in enumerate(saved))
        total = sum(kept, start=np.zeros(grid.shape, np.float32))
        write_map(target / file, (total / len(saved)).astype(np.float32), source, grid)
    write_map(target / evidence_file(case), _mean_abnormality(saved, groups, prediction, grid), source, grid)
    return [f"{case}.nii.gz", evidence_file(case), *(contribution_file(case, name, names) for name in names)]


def _kept(saved: SavedCase, groups: Sequence[Group], model: int, volume: Volume) -> np.ndarray:
    """A model's map without what belongs to vertebrae that too few models found."""
    inside = np.zeros(volume.geometry.shape, bool)
    for group in groups:
        if model in group.rows:
            inside |= inside_box(volume.geometry, *_box(saved.prediction.vertebrae[group.rows[model]]))
    return np.where(inside, volume.array[0], 0.0)


def _mean_abnormality(
    saved: Sequence[SavedCase], groups: Sequence[Group], prediction: CasePrediction, grid: Geometry
) -> np.ndarray:
    """Evidence of abnormality, the mean over the models.

    A model whose map shows another class than the one that is the most probable abnormal one of the mean says nothing
    for it, nor does one that did not find the vertebra.
    """
    evidence = np.zeros(grid.shape, np.float32)
    if len(prediction.class_names) < 2:
        return evidence
    maps = [read_map(s.folder / evidence_file(prediction.identifier)).array[0] for s in saved]
    for group, vertebra in zip(groups, prediction.vertebrae, strict=True):
        chosen = abnormal_class(vertebra.class_probabilities)
        total = np.zeros(grid.shape, np.float32)
        for model, row in group.rows.items():
            own = saved[model].prediction.vertebrae[row]
            if SEVERITY in own.evidence or abnormal_class(own.class_probabilities) == chosen:
                total += np.where(inside_box(grid, *_box(own)), maps[model], 0)
        np.maximum(evidence, total / len(saved), out=evidence)
    return evidence


def _box(vertebra: VertebraPrediction) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a vertebra's region, a little wider, for they are written with rounding."""
    return np.asarray(vertebra.box_lps[0]) - 1e-3, np.asarray(vertebra.box_lps[1]) + 1e-3


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
