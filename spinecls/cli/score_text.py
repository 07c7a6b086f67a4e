"""The scores of an evaluation as text: what a reader asks first; all others are in summary.csv."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from spinecls.errors import counted
from spinecls.evaluation.intervals import format_score

_LOCATION_ROWS = {
    "identification_rate": "right name within 20 mm",
    "trivial_counter_identification_rate": "  by counting bodies alone",
    "whole_case_right": "whole case right",
    "f1_10mm": "F1 at 10 mm, without names",
    "centre_error_mm": "centre error of identified, mm",
    "dice": "Dice of a vertebra",
}
_CLASS_ROWS = {
    "auc_macro": "macro AUC",
    "balanced_accuracy": "balanced accuracy",
    "balanced_accuracy_prior_corrected": "  prior divided out",
    "kappa": "kappa",
    "kappa_quadratic": "kappa, quadratic weights",
    "ece": "ECE, debiased",
}
_RISK_ROWS = {"1": "error rate", "0.8": "  among the surest 80 %"}
_REFER_ROWS = {
    "share_referred": "share referred",
    "error_referred": "error rate among these",
    "error_not_referred": "error rate among the others",
}
_AGREEMENT_ROWS = {"icc": "ICC(2,1)", "mean_difference": "mean difference"}
_COLUMN = 27
_SPLITS = {"Tr": "training cases", "Ts": "test cases"}
_WIDTH = 118


def score_text(content: Mapping[str, Any]) -> str:
    """What summary.json says of location, classes, each class, prediction sets and affected vertebrae a case."""
    missed = len(content["missed_cases"])
    lines = [
        f"{content['dataset']}, {_SPLITS[content['split']]}: {counted(content['cases'], 'case')}"
        f"{f' ({missed} without prediction)' if missed else ''}, {counted(content['patients'], 'patient')}, "
        f"{content['vertebrae']} annotated vertebrae",
        f"[95 % intervals] over patients, {content['draws']} draws.",
        f"Class prior and counter from {content['training_reference']['taken_from']} "
        f"({content['training_reference']['cases']}).",
        *(line for remark in content["remarks"] for line in _wrapped(remark)),
    ]
    lines += _title("Found and named", [])
    lines += [_row(words, [content["location"][key]]) for key, words in _LOCATION_ROWS.items()]
    classes = content["classification"]
    if classes is not None and classes["end_to_end"]["vertebrae"]:
        lines += _class_lines(classes)
    elif classes is not None:
        table = f"vertebrae{content['split']}.csv"
        lines += ["", f"No vertebra of these cases has a class in {table}, so classes are not scored."]
    return "\n".join(lines)


def _class_lines(scores: Mapping[str, Any]) -> list[str]:
    groups = [scores["end_to_end"], scores["identified"]]
    lines = _title(
        "Classified", [f"{g} ({s['vertebrae']})" for g, s in zip(("end to end", "identified"), groups, strict=True)]
    )
    lines += [_row(words, [s[key] for s in groups]) for key, words in _CLASS_ROWS.items() if key in groups[0]]
    lines += [_row(words, [s["risk_at_coverage"][key] for s in groups]) for key, words in _RISK_ROWS.items()]
    lines += _title("Each class, end to end", ["AUC", "recall", "precision"])
    for name, own in groups[0]["by_class"].items():
        area = groups[0]["auc_by_class"][name]
        lines.append(_row(f"{name} ({own['vertebrae']})", [area, own["recall"], own["precision"]]))
    sets = scores["prediction_sets"]
    lines += _title("Prediction sets, identified", ["coverage", "mean size"])
    lines.append(_row(f"all, target {sets['target']:g}", [sets["coverage"], sets["mean_size"]]))
    lines += [_row(name, [score]) for name, score in sets["coverage_by_class"].items()]
    if scores["refer_flag"] is not None:
        lines += _title("Referred to a reader", [])
        lines += [_row(words, [scores["refer_flag"][key]]) for key, words in _REFER_ROWS.items()]
    summary = scores["patients_summary"]
    if summary["cases"]:
        affected = summary["agreement"]["affected"]
        lines += _title(f"Affected vertebrae of {counted(summary['cases'], 'case')}", list(affected))
        lines += [_row(words, [s[key] for s in affected.values()]) for key, words in _AGREEMENT_ROWS.items()]
    return lines


def _wrapped(remark: str) -> list[str]:
    return textwrap.wrap(remark, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _title(text: str, columns: Sequence[str]) -> list[str]:
    return ["", _columns(text, columns)]


def _row(text: str, scores: Sequence[Mapping[str, Any]]) -> str:
    return _columns(f"  {text}", [format_score(score) for score in scores])


def _columns(first: str, others: Sequence[str]) -> str:
    return (f"{first:33s} " + "".join(f"{text:{_COLUMN - 2}s}  " for text in others)).rstrip()
