"""Figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from spinecls import files
from spinecls.evaluation import intervals, metrics, selective, summary
from spinecls.evaluation.intervals import format_score
from spinecls.evaluation.matching import CaseOutcome, VertebraOutcome
from spinecls.records import DatasetDescription


def write_figures(
    folder: Path,
    outcomes: Sequence[CaseOutcome],
    description: DatasetDescription,
    scores: Mapping[str, Any],
    draws: int,
) -> None:
    """Confusion matrix, ROC, risk-coverage curve and reliability as PNG; nothing where no class was read."""
    read = [v for case in outcomes for v in case.vertebrae if v.true_class is not None]
    if not read:
        return
    truth = np.asarray([v.true_class for v in read])
    probabilities = summary.probability_table(read, scores["prior"])
    figures = {
        "confusion.png": lambda axes: _draw_confusion(axes, scores["end_to_end"]["confusion"], description.class_names),
        "roc.png": lambda axes: _draw_roc(axes, truth, probabilities, description.class_names, scores["end_to_end"]),
        "risk_coverage.png": lambda axes: _draw_risk_coverage(axes, truth, probabilities, scores["end_to_end"]),
    }
    identified = [v for v in read if v.prediction is not None]
    if identified:
        figures["reliability.png"] = lambda axes: _draw_reliability(axes, identified, scores, draws)
    for name, draw in figures.items():
        figure = Figure(figsize=(5.2, 4.8), layout="constrained")
        draw(figure.add_subplot())
        with files.atomic_path(folder / name) as temporary:
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


def _draw_risk_coverage(axes: Axes, truth: np.ndarray, probabilities: np.ndarray, scores: Mapping[str, Any]) -> None:
    wrong = metrics.decide(probabilities) != truth
    coverage, risk = selective.risk_coverage(metrics.certainty(probabilities), wrong)
    axes.plot(coverage, risk, marker=".", label=f"AUGRC {format_score(scores['augrc'])}")
    axes.axhline(wrong.mean(), linestyle="--", color="grey", label="in random order")
    axes.set(xlabel="share that is decided, the surest first", ylabel="share of these that is wrong")
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), title="Selective decision, end to end")
    axes.legend(loc="upper left", fontsize="small")


def _draw_reliability(
    axes: Axes, vertebrae: Sequence[VertebraOutcome], scores: Mapping[str, Any], draws: int
) -> None:
    probabilities = summary.probability_table(vertebrae, scores["prior"])
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray([v.true_class for v in vertebrae])
    patients = [v.patient for v in vertebrae]
    share = metrics.patient_shares(patients)
    drawn = intervals.draw_patients(patients, draws)
    cut = metrics.calibration_bins(confidence, correct, share[None])
    scatter = metrics.calibration_bins(confidence, correct, drawn.weights(patients) * share)
    filled = np.flatnonzero(cut.mass[0] > 0)
    accuracy = cut.accuracy[0, filled]
    ends = np.asarray([intervals.percentiles(scatter.accuracy[scatter.mass[:, b] > 0, b]) for b in filled])
    bars = np.maximum(0, [accuracy - ends[:, 0], ends[:, 1] - accuracy])
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    axes.errorbar(cut.confidence[0, filled], accuracy, yerr=bars, fmt="o", capsize=2, label="bins of equal mass")
    axes.set(xlabel="confidence", ylabel="share of right decisions", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axes.set_title(f"Identified vertebrae, ECE {format_score(scores['identified']['ece'])}")
    axes.legend(loc="upper left", fontsize="small")
