"""The checks on screen and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinecls import __version__, files
from spinecls.errors import counted
from spinecls.evaluation.intervals import Interval, format_score
from spinecls.verification.check_results import CheckResult, Number
from spinecls.verification.study import Study
from spinecls.verification.suite import Verdict

JSON_NAME = "verification.json"
CSV_NAME = "verification.csv"


def content(
    model: Mapping[str, Any], note: str, study: Study, results: Sequence[CheckResult], verdict: Verdict
) -> dict[str, Any]:
    """Everything as plain types; `note` says what the cases are to the model."""
    return {
        "spinecls_version": __version__,
        "model": dict(model),
        "note": note,
        "cases": [scan.identifier for scan in study.scans],
        "patients": len({scan.patient for scan in study.scans}),
        "vertebrae_found": len(study.places),
        "vertebrae_examined": len(study.chosen),
        "donors": study.donors,
        "seed": study.seed,
        "guarantee_broken": verdict.broken,
        "verdict": list(verdict.sentences),
        "checks": [result.as_dict() for result in results],
    }


def write_report(folder: Path, report: Mapping[str, Any], results: Sequence[CheckResult]) -> None:
    """Write verification.json and verification.csv, one row a number."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / JSON_NAME, report)
    header = ["check", "outcome", "guarantee", "number", "estimate", "low", "high", "items", "no_interval", "threshold"]
    rows = [row for result in results for row in _rows(result)]
    files.write_csv(folder / CSV_NAME, header, rows)


def _rows(result: CheckResult) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "check": result.key,
        "outcome": result.outcome.value,
        "guarantee": result.guarantee,
        "threshold": result.threshold,
    }
    if not result.numbers:
        return [common]
    rows = []
    for name, value in result.numbers.items():
        row = {**common, "number": name}
        if isinstance(value, Interval):
            row |= {key: value.as_dict()[key] for key in ("estimate", "low", "high", "items", "no_interval")}
        else:
            row["estimate"] = value
        rows.append(row)
    return rows


def report_text(report: Mapping[str, Any], results: Sequence[CheckResult]) -> str:
    """A table, one line a check, what each found, and the verdict."""
    lines = [
        f"{report['model']['name']}, fold {' '.join(report['model']['folds'])}, sealing level "
        f"{report['model']['seal']}: {report['vertebrae_examined']} of {report['vertebrae_found']} vertebrae of "
        f"{counted(len(report['cases']), 'case')}. {report['note']}",
        "",
        f"{'check':46s} {'outcome':15s} {'first number':42s} judged by",
    ]
    for result in results:
        name, value = next(iter(result.numbers.items())) if result.numbers else ("", None)
        shown = f"{name} {_formatted(value)}" if name else result.sentence
        lines.append(f"{result.title:46s} {result.outcome.value:15s} {shown:42s} {result.threshold}".rstrip())
    details = [f"- {result.sentence}" for result in results if result.numbers]
    return "\n".join([*lines, "", *details, "", "Verdict", *report["verdict"]])


def _formatted(value: Number | None) -> str:
    if isinstance(value, Interval):
        return format_score(value.as_dict())
    return f"{value:.4g}"
