"""The files of an evaluation: summary.json, the same flat in summary.csv, vertebrae.csv and patients.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spinecls import files
from spinecls.evaluation.matching import CaseOutcome
from spinecls.evaluation.patients import PATIENTS, case_numbers, write_patients
from spinecls.evaluation.vertebra_table import write_vertebrae
from spinecls.model_folder import SUMMARY, VERTEBRAE
from spinecls.records import DatasetDescription

SUMMARY_TABLE = "summary.csv"
_SCORE_KEYS = ("estimate", "low", "high", "patients", "items", "no_interval")


def write_scores(
    folder: Path, content: Mapping[str, Any], outcomes: Sequence[CaseOutcome], description: DatasetDescription
) -> None:
    """Write all tables of scores; patients.csv only for a dataset with classes.

    Parameters
    ----------
    content : of summary.json, with what `summary.summarise` returned
    """
    files.write_csv(folder / SUMMARY_TABLE, ["group", "score", *_SCORE_KEYS], flat_scores(content))
    write_vertebrae(folder / VERTEBRAE, outcomes, description)
    if len(description.class_names) > 1:
        write_patients(folder / PATIENTS, case_numbers(outcomes, description))
    else:
        (folder / PATIENTS).unlink(missing_ok=True)
    # Last, because a run counts as validated when it is there.
    files.write_json(folder / SUMMARY, content)


def flat_scores(content: Mapping[str, Any], group: str = "") -> Iterator[dict[str, Any]]:
    """One row a score with an interval: the keys that lead to it joined by `/`, its own key, its numbers."""
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if "estimate" in value:
            yield {"group": group, "score": key, **{name: value.get(name) for name in _SCORE_KEYS}}
        else:
            yield from flat_scores(value, f"{group}/{key}" if group else key)
