"""Figure of a comparison: the score against the number of training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from spinecls import files
from spinecls.evaluation.paired_comparison import Comparison


def write_learning_curve(path: Path, comparisons: Sequence[Comparison], patients: Mapping[str, int]) -> None:
    """Macro AUC of every arm with its interval, as PNG.

    Parameters
    ----------
    patients : number of training patients of each size
    """
    arms = list(dict.fromkeys(c.arm for c in comparisons))
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for number, arm in enumerate(arms):
        own = sorted((c for c in comparisons if c.arm == arm), key=lambda c: patients[c.size])
        # Moved apart a little, or the intervals would cover each other.
        x = [patients[c.size] * (1 + 0.03 * (number - (len(arms) - 1) / 2)) for c in own]
        y = [c.area.estimate for c in own]
        errors = [[c.area.estimate - c.area.low for c in own], [c.area.high - c.area.estimate for c in own]]
        axes.errorbar(x, y, yerr=errors, marker="o", capsize=3, label=f"{arm} ({min(c.draws for c in own)} draws)")
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    ticks = sorted(set(patients.values()))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training patients")
    axes.set_ylabel("macro AUC, end to end")
    axes.legend(frameon=False)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
