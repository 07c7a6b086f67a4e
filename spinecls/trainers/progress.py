"""What a training run leaves to read: progress.csv, one row an epoch, and task_weights.csv."""

from __future__ import annotations

import csv
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinecls import files

logger = logging.getLogger(__name__)


class Progress:
    """Mean losses of each epoch, kept in progress.csv.

    The file is rewritten whole after each epoch, so it never holds a torn line, and rows beyond the step that a
    resumed run starts from are dropped.
    """

    def __init__(self, path: Path, resumed_at: int = 0) -> None:
        self.path = path
        self.rows = _rows_until(path, resumed_at)
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: dict[str, float]) -> None:
        """Losses of one step."""
        for name, value in values.items():
            self._sums[name] += value
            self._counts[name] += 1

    def close_epoch(self, part: str, step: int, seconds: float, learning_rate: float) -> dict:
        """Write the means since the last call; returns the row.

        Parameters
        ----------
        part : network that was trained
        """
        means = {name: self._sums[name] / self._counts[name] for name in self._sums}
        self._sums.clear()
        self._counts.clear()
        row = {"part": part, "step": step, "seconds": round(seconds, 1), "learning_rate": f"{learning_rate:.3g}"}
        row |= {name: f"{value:.5f}" for name, value in means.items()}
        self.rows.append(row)
        header = list(dict.fromkeys(key for entry in self.rows for key in entry))
        files.write_csv(self.path, header, [{key: entry.get(key, "") for key in header} for entry in self.rows])
        return row


class GradientLog:
    """What was measured of the auxiliary tasks' gradients, kept in task_weights.csv, a row a task and step.

    `weight` is the one that the task has after the step; `cosine` tells whether its gradient points where that of the
    main tasks does (1) or against it (-1).
    """

    def __init__(self, path: Path, resumed_at: int = 0) -> None:
        self.path = path
        self.rows = _rows_until(path, resumed_at)

    def add(self, step: int, task: str, part: str, **values: float) -> None:
        """One measurement of a network's task, at the step of that number, counted from 1."""
        numbers = {key: float(f"{value:.5g}") for key, value in values.items()}
        self.rows.append({"part": part, "step": step, "task": task, **numbers})

    def write(self) -> None:
        """Rewrite the file, if there is anything to say."""
        if self.rows:
            files.write_csv(self.path, list(self.rows[0]), self.rows)


class Idle:
    """Says of auxiliary losses that have not moved for a fifth of a network's training.

    Such a task teaches nothing, whatever weight it has: mostly there is too little of what it is about.

    Parameters
    ----------
    part : network
    tasks : names of its auxiliary tasks
    steps : of its training
    """

    SHARE = 0.2
    LEAST_CHANGE = 0.02
    """Of the loss at the start of the fifth."""

    def __init__(self, part: str, tasks: Sequence[str], steps: int) -> None:
        self.part = part
        self.tasks = set(tasks)
        self.span = self.SHARE * steps
        self.seen: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def look(self, step: int, row: Mapping) -> None:
        """Take note of an epoch that ended at a step of this network.

        Parameters
        ----------
        row : what `Progress.close_epoch` returned
        """
        for name in sorted(self.tasks & row.keys()):
            seen = self.seen[name]
            seen.append((step, float(row[name])))
            span = [loss for at, loss in seen if at >= step - self.span]
            if step - seen[0][0] < self.span or len(span) < 2 or min(span) <= 0:
                continue
            if (max(span) - min(span)) / max(span) < self.LEAST_CHANGE and span[-1] > 0.5 * seen[0][1]:
                self.tasks.remove(name)
                logger.warning(
                    "%s: the loss of the auxiliary task %s has stayed at %.3g for a fifth of the training, so it "
                    "teaches nothing. Look at what is drawn for it, or leave it out by --set task_weights.%s=0.",
                    self.part,
                    name,
                    span[-1],
                    name,
                )


def _rows_until(path: Path, step: int) -> list[dict]:
    """Rows of an earlier part of a run; none of a run that starts anew."""
    if not step or not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if int(row["step"]) <= step]
