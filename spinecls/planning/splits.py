"""Cross-validation folds: no patient on both sides, classes and sites spread evenly, reproducible by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.errors import PlanError
from spinecls.io.preprocessed_records import native_cases, read_native
from spinecls.records import Case

SPLITS = "splits_final.json"

Fold = dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class SplitCase:
    """What a split needs to know of a case; `classes` are the names read at any of its vertebrae."""

    case: str
    patient: str
    site: str = ""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folds:
    """Folds in the form of `splits_final.json`, and sentences on anything that is not as asked for."""

    folds: tuple[Fold, ...]
    notes: tuple[str, ...] = ()


def split_cases(cases: Iterable[Case]) -> tuple[SplitCase, ...]:
    """What `make_folds` needs, from the cases of a raw dataset."""
    return tuple(
        SplitCase(
            case=case.identifier,
            patient=case.patient,
            site=case.site,
            classes=tuple(sorted({r.classes[0] for v in case.vertebrae for r in v.readings if len(r.classes) == 1})),
        )
        for case in cases
    )


def make_folds(cases: Sequence[SplitCase], num_folds: int = 5, seed: int = 0) -> Folds:
    """Patient-wise folds, stratified by the rarest classes and by site.

    Patients are dealt out one after the other, those with the rarest classes first, each to the fold that has the
    smallest share of the patient's classes and site so far; ties fall to the fold with the fewest cases, then by
    chance. This is the greedy scheme of Sechidis et al., ECML PKDD 2011, on patients instead of samples.

    Raises
    ------
    PlanError
        With fewer than two patients, because no fold could be validated on an unseen patient.
    """
    patients: dict[str, list[SplitCase]] = {}
    for case in sorted(cases, key=lambda c: c.case):
        patients.setdefault(case.patient, []).append(case)
    if len(patients) < 2:
        raise PlanError(
            f"Folds: {len(cases)} case(s) of {len(patients)} patient(s); cross-validation needs at least 2 patients. "
            "Add patients, fill the column `patient` of vertebraeTr.csv if these are several people, or train fold "
            "`all`."
        )
    notes = []
    used = min(num_folds, len(patients))
    if used < num_folds:
        notes.append(f"{len(patients)} patients allow {used} folds; {num_folds} were asked for.")
    assignment = _deal(patients, used, np.random.default_rng(seed))
    notes += _rare_class_notes(patients, used)
    folds = []
    for index in range(used):
        val = sorted(c.case for p, members in patients.items() if assignment[p] == index for c in members)
        train = sorted(c.case for p, members in patients.items() if assignment[p] != index for c in members)
        folds.append({"train": train, "val": val})
    return Folds(tuple(folds), tuple(notes))


def _traits(members: Sequence[SplitCase]) -> list[str]:
    classes = sorted({f"class {name}" for case in members for name in case.classes})
    return classes + sorted({f"site {case.site}" for case in members})


def _deal(patients: Mapping[str, list[SplitCase]], num_folds: int, rng: np.random.Generator) -> dict[str, int]:
    """Fold index of each patient."""
    traits = {patient: _traits(members) for patient, members in patients.items()}
    frequency = Counter(trait for names in traits.values() for trait in names)
    chance = dict(zip(sorted(patients), rng.permutation(len(patients)), strict=True))
    order = sorted(patients, key=lambda p: (min(frequency[t] for t in traits[p]), -len(patients[p]), chance[p]))
    held: list[Counter[str]] = [Counter() for _ in range(num_folds)]
    num_cases = [0] * num_folds
    num_patients = [0] * num_folds
    base, larger = divmod(len(patients), num_folds)
    assignment = {}
    for patient in order:
        rarest = sorted(traits[patient], key=lambda t: (frequency[t], t))
        # At most `larger` folds take one patient more than the others, so the sizes stay even and none stays empty.
        limit = base + (sum(n > base for n in num_patients) < larger)
        open_folds = [i for i in range(num_folds) if num_patients[i] < limit]
        tie = rng.permutation(num_folds)
        chosen = min(open_folds, key=lambda i: ([held[i][t] for t in rarest], num_cases[i], tie[i]))
        assignment[patient] = chosen
        held[chosen].update(traits[patient])
        num_cases[chosen] += len(patients[patient])
        num_patients[chosen] += 1
    return assignment


def _rare_class_notes(patients: Mapping[str, list[SplitCase]], num_folds: int) -> list[str]:
    counts = Counter(name for members in patients.values() for name in {n for c in members for n in c.classes})
    return [
        f"Class {name!r} is seen in {count} patient(s) only, so {num_folds - count} of {num_folds} folds validate "
        "without it."
        for name, count in sorted(counts.items())
        if count < num_folds
    ]


def stored_folds(preprocessed: Path) -> tuple[Fold, ...]:
    """Folds of a preprocessed dataset, checked each time, for anybody may have edited the file since it was written.

    Parameters
    ----------
    preprocessed : `<preprocessed>/<Dataset>`

    Raises
    ------
    PlanError
        Listing every fault, see `check_split`.
    """
    path = preprocessed / SPLITS
    if not path.is_file():
        raise PlanError(f"{path}: no folds. Run spinecls_plan_and_preprocess -d {preprocessed.name} first.")
    records = [read_native(preprocessed, case) for case in native_cases(preprocessed)]
    cases = [SplitCase(case=record.identifier, patient=record.patient) for record in records if record.is_annotated]
    remedy = f"delete it and run spinecls_plan_and_preprocess -d {preprocessed.name}, which makes folds anew."
    try:
        return check_split(files.read_json(path), cases, str(path), known="preprocessed with an annotation")
    except PlanError as error:
        raise PlanError(f"{error} Correct the file, or {remedy}") from None


def check_split(
    split: object, cases: Sequence[SplitCase], place: str = "Split file", known: str = "in the dataset"
) -> tuple[Fold, ...]:
    """Folds of a user's own file, checked.

    Of a single patient nothing can be validated on, so there, and only there, `val` may be empty.

    Parameters
    ----------
    split : content of the JSON file, a list of {"train": [...], "val": [...]}
    place : where it comes from, for the message
    known : what `cases` are and others are not, for the message

    Raises
    ------
    PlanError
        Listing every fault: form, unknown or repeated cases, an empty side, overlaps, a patient on both sides.
    """
    form = 'The form is [{"train": ["case", ...], "val": ["case", ...]}, ...].'
    if not isinstance(split, Sequence) or isinstance(split, str) or not split:
        raise PlanError(f"{place}: expected a list with one entry a fold, got {type(split).__name__}. {form}")
    patient_of = {case.case: case.patient for case in cases}
    faults: list[str] = []
    for index, fold in enumerate(split):
        faults += [f"fold {index}: {text}" for text in _fold_faults(fold, patient_of, known)]
    if faults:
        raise PlanError(f"{place}: {len(faults)} fault(s). " + " ".join(f"{text}." for text in faults) + f" {form}")
    return tuple({"train": list(fold["train"]), "val": list(fold["val"])} for fold in split)


def _fold_faults(fold: object, patient_of: Mapping[str, str], known: str) -> list[str]:
    if not isinstance(fold, Mapping) or set(fold) != {"train", "val"}:
        got = sorted(map(str, fold)) if isinstance(fold, Mapping) else type(fold).__name__
        return [f"expected the keys train and val, got {got}"]
    faults: list[str] = []
    for side in ("train", "val"):
        names = fold[side]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return [*faults, f"{side} is not a list of case names"]
        if not names and (side == "train" or len(set(patient_of.values())) > 1):
            faults.append(f"{side} is empty")
        if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
            faults.append(f"{side} names {_some(repeated)} more than once")
        if unknown := sorted(set(names) - set(patient_of)):
            faults.append(f"{side} names cases that are not {known}: {_some(unknown)}")
    if both := sorted(set(fold["train"]) & set(fold["val"])):
        faults.append(f"{_some(both)} in both train and val")
    train, val = (
        {patient_of[name] for name in fold[side] if name in patient_of and name not in both}
        for side in ("train", "val")
    )
    if shared := sorted(train & val):
        faults.append(f"patient(s) {_some(shared)} in both train and val, so validation is not on unseen people")
    return faults


def _some(names: Sequence[str], limit: int = 10) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
