"""Cases of a fold and what is known of them before an array is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spinecls.beliefs import agreed_class
from spinecls.errors import PlanError, UsageError
from spinecls.io.preprocessed_records import native_cases, read_native
from spinecls.planning.fingerprint_types import CaseFingerprint, load_fingerprint
from spinecls.planning.splits import stored_folds
from spinecls.planning.stages import FINGERPRINT

ALL = "all"
"""The fold that trains on every case and validates none."""


def fold_cases(preprocessed: Path, fold: str) -> tuple[list[str], list[str]]:
    """Training and validation cases of a fold; for `all`, every case and none."""
    splits = stored_folds(preprocessed)
    if fold == ALL:
        return sorted({case for split in splits for case in [*split["train"], *split["val"]]}), []
    if fold not in [str(number) for number in range(len(splits))]:
        raise UsageError(f"Fold {fold!r} does not exist. Folds: 0 to {len(splits) - 1}, or {ALL}.")
    return list(splits[int(fold)]["train"]), list(splits[int(fold)]["val"])


def unlabelled_cases(preprocessed: Path, validation: Sequence[str]) -> list[str]:
    """Preprocessed scans without any annotation, those of patients whose cases are validated left out."""
    annotated = set(fold_cases(preprocessed, ALL)[0])
    others = [case for case in native_cases(preprocessed) if case not in annotated]
    held_out = {read_native(preprocessed, case).patient for case in validation}
    return [case for case in others if read_native(preprocessed, case).patient not in held_out]


def annotated_classes(preprocessed: Path, cases: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Class by level of each case, None where it was not read exactly."""
    return {
        case: {
            v.level: agreed_class((r.classes, r.confidence) for r in v.readings)
            for v in read_native(preprocessed, case).vertebrae
        }
        for case in cases
    }


def fingerprints_of(preprocessed: Path, cases: Sequence[str]) -> list[CaseFingerprint]:
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
