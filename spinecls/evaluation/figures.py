"""Figures of an evaluation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from spinecls import files
from spinecls.evaluation import intervals, metrics, selective, summary
from spinecls.evaluation.intervals import PatientDraws, format_score
from spinecls.evaluation.matching import CaseOutcome, VertebraOutcome
from spinecls.evaluation.patients import AFFECTED, CaseNumbers, case_numbers
from spinecls.records import DatasetDescription

FIGURES = ("confusion.png", "roc.png", "risk_coverage.png", "reliability.png", "patients.png")
MOST_BINS = 10
VERTEBRAE_A_BIN = 15
"""Of the reliability figure, so that a point says something; the ECE has bins of its own."""
BAND_COVERAGES = tuple(np.linspace(0.1, 1.0, 10))
"""Where the band of the risk-coverage figure is computed."""


def write_figures(
    folder: Path,
    outcomes: Sequence[CaseOutcome],
    description: DatasetDescription,
    scores: Mapping[str, Any] | None,
    draws: int,
    note: str = "",
) -> None:
    """Confusion matrix, ROC, risk-coverage curve, reliability and affected vertebrae a case as PNG.

    Nothing where no class was read or scored. Below each stands the note. Figures of an earlier evaluation go, for they
    may be of other cases.
    """
    for name in FIGURES:
        (folder / name).unlink(missing_ok=True)
    read = [v for case in outcomes for v in case.vertebrae if v.true_class is not None]
    if not read or scores is None:
        return
    truth = np.asarray([v.true_class for v in read])
    probabilities = summary.probability_table(read, scores["prior"])
    patients = [v.patient for v in read]
    figures = {
        "confusion.png": lambda axes: _draw_confusion(axes, scores["end_to_end"]["confusion"], description.class_names),
        "roc.png": lambda axes: _draw_roc(axes, truth, probabilities, description.class_names, scores["end_to_end"]),
        "risk_coverage.png": lambda axes: _draw_risk_coverage(
            axes, truth, probabilities, scores["end_to_end"], intervals.draw_patients(patients, draws), patients
        ),
    }
    identified = [v for v in read if v.prediction is not None]
    if identified:
        figures["reliability.png"] = lambda axes: _draw_reliability(axes, identified, scores, draws)
    for name, draw in figures.items():
        figure = Figure(figsize=(5.2, 4.8), layout="constrained")
        draw(figure.add_subplot())
        _save(figure, folder / name, note)
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    _draw_patients(figure, case_numbers(outcomes, description), scores["patients_summary"]["agreement"][AFFECTED])
    _save(figure, folder / "patients.png", note)


def _save(figure: Figure, path: Path, note: str) -> None:
    if note:
        figure.supxlabel("\n".join(textwrap.wrap(note, 90)), fontsize="x-small")
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_confusion(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="decided (most probable class)", ylabel="annotated", title="Vertebrae, missed ones by the prior")


def _draw_roc(
    axes: Axes, truth: np.ndarray, probabilities: np.ndarray, names: Sequence[str], scores: Mapping[str, Any]
) -> None:
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="chance")
    for index, name in enumerate(names):
        if np.isnan(scores["auc_by_class"][name]["estimate"]):
            continue
        false_rate, true_rate, _ = roc_curve(truth == index, probabilities[:, index])
        axes.plot(false_rate, true_rate, label=f"{name}: {format_score(scores['auc_by_class'][name])}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="Class against the rest, end to end", aspect="equal")
    axes.legend(loc="lower right", fontsize="small", title="AUC [95 %]")


def _draw_risk_coverage(
    axes: Axes,
    truth: np.ndarray,
    probabilities: np.ndarray,
    scores: Mapping[str, Any],
    drawn: PatientDraws,
    patients: Sequence[str],
) -> None:
    sure, wrong = metrics.confidence_of(probabilities), metrics.decide(probabilities) != truth

    def risks(weights: np.ndarray) -> np.ndarray:
        return np.stack([selective.risk_at(sure, wrong, weights, share) for share in BAND_COVERAGES], axis=1)

    band = intervals.joint_intervals(risks, BAND_COVERAGES, patients, drawn).values()
    ends = np.asarray([(score.low, score.high) for score in band])
    # Of one patient there is no band.
    if not np.isnan(ends).all():
        axes.fill_between(BAND_COVERAGES, *ends.T, alpha=0.2, label="95 % over patients")
    coverage, risk = selective.risk_coverage(sure, wrong)
    axes.plot(coverage, risk, marker=".", label=f"AUGRC {format_score(scores['augrc'])}")
    axes.axhline(wrong.mean(), linestyle="--", color="grey", label="in random order")
    axes.set(xlabel="share that is decided, the surest first", ylabel="share of these that is wrong")
    axes.set(xlim=(0, 1.02), title="Selective decision, end to end")
    axes.set_ylim(bottom=-0.01)
    axes.legend(loc="best", fontsize="small")


def _draw_reliability(axes: Axes, vertebrae: Sequence[VertebraOutcome], scores: Mapping[str, Any], draws: int) -> None:
    probabilities = summary.probability_table(vertebrae, scores["prior"])
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray([v.true_class for v in vertebrae])
    patients = [v.patient for v in vertebrae]
    share = metrics.patient_shares(patients)
    bins = int(np.clip(len(vertebrae) // VERTEBRAE_A_BIN, 1, MOST_BINS))
    drawn = intervals.draw_patients(patients, draws)
    cut = metrics.calibration_bins(confidence, correct, share[None], bins)
    filled = np.flatnonzero(cut.mass[0] > 0)
    x, accuracy = cut.confidence[0, filled], cut.accuracy[0, filled]

    def accuracies(weights: np.ndarray) -> np.ndarray:
        drawn_bins = metrics.calibration_bins(confidence, correct, weights * share, bins)
        return np.where(drawn_bins.mass > 0, drawn_bins.accuracy, np.nan)[:, filled]

    bin_scores = intervals.joint_intervals(accuracies, range(len(filled)), patients, drawn)
    ends = np.asarray([(score.low, score.high) for score in bin_scores.values()])
    known = not np.isnan(ends).all()
    bars = [accuracy - ends[:, 0], ends[:, 1] - accuracy] if known else None
    label = "equal mass a bin" + (", 95 % over patients" if known else "")
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    axes.fill_between(x, ends[:, 0], ends[:, 1], alpha=0.2)
    axes.errorbar(x, accuracy, yerr=bars, fmt="o-", capsize=2, label=label)
    axes.plot(confidence, np.full(len(confidence), -0.04), "|", color="black", alpha=0.4, label="vertebrae")
    axes.set(xlabel="confidence", ylabel="share of right decisions", xlim=(0, 1.02), ylim=(-0.07, 1.03))
    axes.set_title(f"Identified vertebrae, ECE {format_score(scores['identified']['ece'])}")
    axes.legend(loc="upper left", fontsize="small")


def _draw_patients(figure: Figure, numbers: Sequence[CaseNumbers], scores: Mapping[str, Any]) -> None:
    """Affected vertebrae of each case: predicted against true, and the difference against the mean."""
    true, decided, expected = (
        np.asarray([one.numbers[AFFECTED][source] for one in numbers]) for source in ("true", "decided", "expected")
    )
    left, right = figure.subplots(1, 2)
    end = max(true.max(), decided.max(), expected.max()) + 0.5
    left.plot([0, end], [0, end], linestyle="--", color="grey", label="equal")
    _draw_counts(left, true, decided, f"decided, ICC {format_score(scores['decided']['icc'])}")
    left.plot(true, expected, "x", color="C1", label=f"expected, ICC {format_score(scores['expected']['icc'])}")
    left.set(xlabel="affected vertebrae, annotated", ylabel="affected vertebrae, predicted", aspect="equal")
    left.set(xlim=(-0.5, end), ylim=(-0.5, end), title=f"{len(numbers)} cases; larger circles are several")
    left.legend(loc="upper left", fontsize="small")
    _draw_counts(right, (true + decided) / 2, decided - true, None)
    lines = {"limit_high": ("upper limit", "--"), "mean_difference": ("mean", "-"), "limit_low": ("lower limit", "--")}
    for key, (words, style) in lines.items():
        score = scores["decided"][key]
        if not np.isnan(score["estimate"]):
            right.axhline(score["estimate"], linestyle=style, color="C0", label=f"{words} {format_score(score)}")
            if not np.isnan(score["low"]):
                right.axhspan(score["low"], score["high"], color="C0", alpha=0.1)
    right.set(xlabel="mean of annotated and decided", ylabel="decided - annotated", title="Bland and Altman")
    right.margins(y=0.3)
    right.legend(loc="upper left", fontsize="small")


def _draw_counts(axes: Axes, x: np.ndarray, y: np.ndarray, label: str | None) -> None:
    """Circles whose area says how many cases lie at a place."""
    places, counts = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    areas = counts * min(40.0, 600.0 / counts.max())
    axes.scatter(places[:, 0], places[:, 1], s=areas, facecolors="none", edgecolors="C0", linewidths=1.5, label=label)
