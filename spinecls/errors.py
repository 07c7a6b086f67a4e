"""The errors a user can cause, each with the exit code of the command that meets it.

A message says what is wrong, where, what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SpineclsError(Exception):
    """Base of every error that is not a defect of ours; its text is shown without a traceback."""

    exit_code = 3


class UsageError(SpineclsError):
    """An option or argument has a value that cannot be used."""

    exit_code = 2


class DatasetError(SpineclsError):
    """A raw dataset or an input image is faulty."""


class PlanError(SpineclsError):
    """No plan satisfies the data and the limits, or a plan file is faulty."""


class ModelError(SpineclsError):
    """A checkpoint or model folder is missing, damaged or of another kind."""


class TrainerError(SpineclsError):
    """A trainer or task that a user wrote is faulty."""


class ResourceError(SpineclsError):
    """Memory, disk or device do not allow the work."""

    exit_code = 4


class Busy(ResourceError):
    """Another process is at the same work."""


class PartialFailure(SpineclsError):
    """Some cases failed, the rest is done."""

    exit_code = 5


class DefectiveCases(PartialFailure):
    """Some cases failed by a defect of ours, the rest is done."""

    exit_code = 1


class Interrupted(SpineclsError):
    """The work was stopped by a signal and can be resumed."""

    exit_code = 6


class CheckFailed(SpineclsError):
    """A check that was asked for says no."""

    exit_code = 7


def some_names(names: Sequence[str]) -> str:
    """The first few names, for a message about many."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """` Did you mean X?` for the known name most like `name`, whatever its case; empty where none is.

    To be put behind the sentence that refuses `name`.

    Parameters
    ----------
    cutoff : likeness from 0 to 1 that is asked for
    """
    by_folded = {word.casefold(): word for word in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=cutoff)
    return f" Did you mean {by_folded[close[0]]}?" if close else ""


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 case`, `2 cases`, `0 cases`; `several` is the plural where it is not the noun with an s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"
