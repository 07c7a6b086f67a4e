"""Whether what was planned, measured and preprocessed of a raw dataset still is what the dataset says.

The one rule for every command that reads any of it: the raw data are compared by content, and a command that would go
by something else stops, names what changed and says what to run. Files whose size and time of change are those of the
last look are not read again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from spinecls import files, paths
from spinecls.errors import DatasetError
from spinecls.io.checked_cases import inspect_changed
from spinecls.io.dataset_assembly import require_faultless
from spinecls.io.file_hashes import FileHashes
from spinecls.io.preprocessed_records import NATIVE, native_cases, read_native
from spinecls.model_folder import FoldFolder
from spinecls.planning.fingerprint_cache import outdated_fingerprints
from spinecls.planning.inputs import INDEX_NAME, case_inputs
from spinecls.planning.plan import Plan, load_plan
from spinecls.planning.splits import SPLITS
from spinecls.planning.stages import CHECKED, FINGERPRINT_CASES
from spinecls.records import DatasetDescription, RawDataset

logger = logging.getLogger(__name__)

MEANING = {
    "channel_names": "channel_names",
    "class_names": "classes",
    "class_order": "class_order",
    "levels": "vertebrae",
    "structures": "structures",
    "lesion_structures": "lesion_structures",
    "vertebrae_complete": "vertebrae_complete",
    "ignore_label": "ignore_label",
}
"""What a plan remembers of dataset.json, and its name there."""

_SHOWN = 10


def require_current(dataset: str, plan: Plan) -> None:
    """Refuse to train on preprocessed data that the raw dataset no longer bears out.

    Where the raw data are not at hand, as on a node of a cluster, this is said and nothing is compared.

    Parameters
    ----------
    dataset : number, full name or path, as the user gave it

    Raises
    ------
    DatasetError
        Naming the cases that changed, are gone or are new, what else changed, and the command that brings it up to
        date; also when the raw dataset is faulty now.
    """
    name = paths.dataset_name(dataset)
    folder = _raw_folder(dataset, name)
    if folder is None:
        logger.info("The raw data of %s are not here, so it is not checked whether they changed since.", name)
        return
    preprocessed = paths.preprocessed_folder(name)
    raw, hashes = _read(folder, preprocessed)
    inputs = case_inputs(raw, hashes, plan.register_channels)
    stored = stored_inputs(preprocessed)
    annotated = {case.identifier for case in raw.cases}
    faults = {
        "changed": [case for case in stored if case in inputs and inputs[case] != stored[case]],
        "no longer there": [case for case in stored if case not in inputs],
        "new": sorted(annotated - stored.keys()),
    }
    told_of = {case for cases in faults.values() for case in cases}
    measured = outdated_fingerprints(raw, inputs, preprocessed / FINGERPRINT_CASES)
    faults["changed since it was measured"] = [case for case in measured if case not in told_of]
    told = [f"{what}: {_some(cases)}" for what, cases in faults.items() if cases]
    told += [f"dataset.json: {text}" for text in plan_differences(plan, raw.description)]
    own = folder / SPLITS
    if own.is_file() and files.read_json(own) != files.read_json(preprocessed / SPLITS):
        told.append(f"{SPLITS}: not the folds of {own}")
    if told:
        raise DatasetError(_message(folder, told, _command("plan_and_preprocess", name, plan)))
    if lacking := sorted({case.identifier for case in raw.unlabelled} - stored.keys()):
        logger.warning("Not preprocessed, and so not learnt from: %s of imagesUn.", _some(lacking))


def require_current_fingerprint(raw: RawDataset, hashes: FileHashes) -> None:
    """Refuse to plan by a fingerprint of other data than the raw dataset's.

    Raises
    ------
    DatasetError
        Naming the cases that changed since they were measured.
    """
    preprocessed = paths.preprocessed_folder(raw.folder.name)
    outdated = outdated_fingerprints(raw, case_inputs(raw, hashes), preprocessed / FINGERPRINT_CASES)
    if outdated:
        told = [f"changed, new or no longer there: {_some(outdated)}"]
        raise DatasetError(_message(raw.folder, told, f"spinecls_extract_fingerprint -d {raw.folder.name}"))


def require_current_plan(raw: RawDataset, plan: Plan) -> None:
    """Refuse to preprocess by a plan that was made for another dataset.json.

    Raises
    ------
    DatasetError
        Naming what is different.
    """
    if told := [f"dataset.json: {text}" for text in plan_differences(plan, raw.description)]:
        raise DatasetError(_message(raw.folder, told, _command("plan_and_preprocess", raw.folder.name, plan)))


def require_current_folds(dataset: str, plans_name: str, folds: Sequence[FoldFolder]) -> None:
    """Refuse to judge folds by a truth that changed since they were validated.

    Parameters
    ----------
    dataset : full name

    Raises
    ------
    DatasetError
        When the raw data changed (`require_current`), or naming the fold, the cases that changed and what to do.
    """
    plan = paths.preprocessed_folder(dataset) / f"{plans_name}.json"
    if plan.is_file():
        require_current(dataset, load_plan(plan))
    for fold in folds:
        if changed := changed_since_validation(dataset, fold):
            raise DatasetError(
                f"{fold.path}: validated before these cases changed: {_some(changed)}. Train the fold again, or, if "
                "only cases that it validates changed, validate it again by spinecls_train with --val."
            )


def changed_since_validation(dataset: str, fold: FoldFolder) -> list[str]:
    """Validated cases of a fold that were preprocessed from other data since; none where either is not known."""
    preprocessed = paths.preprocessed_folder(dataset)
    if not (preprocessed / NATIVE).is_dir():
        return []
    return changed_since(fold.scores().get("inputs", {}), stored_inputs(preprocessed))


def changed_since(noted: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Cases whose noted inputs are no longer those of the preprocessed data."""
    return sorted(case for case, inputs in noted.items() if present.get(case) != inputs)


def stored_inputs(preprocessed: Path) -> dict[str, str]:
    """Identifier to the hash of what each preprocessed case was made from (`inputs.case_inputs`)."""
    return {name: read_native(preprocessed, name).inputs for name in native_cases(preprocessed)}


def plan_differences(plan: Plan, other: Plan | DatasetDescription) -> list[str]:
    """What gives labels and outputs their meaning and is not the same in a plan and in another, or in dataset.json."""
    told = []
    for field, key in MEANING.items():
        planned, now = getattr(plan, field), getattr(other, field)
        # Without codes in dataset.json the plan has the usual ones.
        if planned != now and not (field == "levels" and not now):
            now, planned = _only_different(now, planned), _only_different(planned, now)
            told.append(f"{key} is now {_plain(now)}, planned was {_plain(planned)}")
    return told


def _only_different(value: object, other: object) -> object:
    """Of a mapping the entries that the other lacks or has otherwise: the rest would hide them."""
    if not isinstance(value, Mapping) or not isinstance(other, Mapping):
        return value
    return {key: entry for key, entry in value.items() if key not in other or other[key] != entry}


def _plain(value: object) -> str:
    text = json.dumps(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= 200 else text[:197] + "..."


def _raw_folder(dataset: str, name: str) -> Path | None:
    """Folder of the raw data; None where they, or their images, are not at hand."""
    given = Path(dataset)
    folder = given.resolve() if len(given.parts) > 1 and given.is_dir() else paths.raw_root() / name
    return folder if (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir() else None


def _read(folder: Path, preprocessed: Path) -> tuple[RawDataset, FileHashes]:
    # Preprocessed data may lie where a training cannot write; then what it hashed is not kept.
    keep = os.access(preprocessed, os.W_OK)
    hashes = FileHashes(preprocessed / INDEX_NAME, folder, keep=keep)
    inspect = partial(inspect_changed, verify_voxels=False, hashes=hashes, cache_path=preprocessed / CHECKED, keep=keep)
    return require_faultless(folder, "Tr", inspect), hashes


def _command(word: str, name: str, plan: Plan) -> str:
    other = "" if plan.plans_name == paths.DEFAULT_PLANS else f" -p {plan.plans_name}"
    return f"spinecls_{word} -d {name}{other}"


def _message(folder: Path, told: Sequence[str], command: str) -> str:
    listed = "\n".join(f"  {text}" for text in told)
    return (
        f"{folder}: the raw data are no longer those that were planned and preprocessed.\n{listed}\n"
        f"Run {command} again, with the options of the first time; only what changed is done anew."
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
