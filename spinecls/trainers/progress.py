"""What a training run leaves to read: progress.csv, one row an epoch, and task_weights.csv."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from spinecls import files


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

    def close_epoch(self, step: int, seconds: float, learning_rate: float) -> dict:
        """Write the means since the last call; returns the row."""
        means = {name: self._sums[name] / self._counts[name] for name in self._sums}
        self._sums.clear()
        self._counts.clear()
        row = {"step": step, "seconds": round(seconds, 1), "learning_rate": f"{learning_rate:.3g}"}
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

    def add(self, step: int, task: str, **values: float) -> None:
        """One measurement, at the step of that number, counted from 1."""
        self.rows.append({"step": step, "task": task, **{key: float(f"{value:.5g}") for key, value in values.items()}})

    def write(self) -> None:
        """Rewrite the file, if there is anything to say."""
        if self.rows:
            files.write_csv(self.path, list(self.rows[0]), self.rows)


def _rows_until(path: Path, step: int) -> list[dict]:
    """Rows of an earlier part of a run; none of a run that starts anew."""
    if not step or not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if int(row["step"]) <= step]
