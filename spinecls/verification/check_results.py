"""What a check of the evidence says: numbers, a threshold, an outcome and one plain sentence."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from spinecls.evaluation.intervals import Interval, draw_patients, interval
from spinecls.evaluation.metrics import mean

Number = int | float | Interval


class Outcome(enum.StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    WARNING = "warning"
    REPORTED = "reported"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Result of one check.

    Attributes
    ----------
    key : short name, as in the JSON
    title : what a table calls it
    outcome : REPORTED where nothing is judged, WARNING where a person should look
    guarantee : whether a failure breaks the promise that a sealed model makes
    numbers : by name; the first is the one that a table shows
    threshold : what the outcome was judged by, in words; empty where nothing was
    sentence : what was found, in words
    """

    key: str
    title: str
    outcome: Outcome
    sentence: str
    guarantee: bool = False
    numbers: Mapping[str, Number] | None = None
    threshold: str = ""

    @property
    def breaks_guarantee(self) -> bool:
        """Whether this result disproves what a sealed model promises."""
        return self.guarantee and self.outcome is Outcome.FAILED

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        numbers = {
            name: value.as_dict() if isinstance(value, Interval) else value
            for name, value in (self.numbers or {}).items()
        }
        return {
            "check": self.key,
            "title": self.title,
            "outcome": self.outcome.value,
            "guarantee": self.guarantee,
            "threshold": self.threshold,
            "numbers": numbers,
            "sentence": self.sentence,
        }


def not_applicable(key: str, title: str, reason: str) -> CheckResult:
    """Result of a check that these data or this model do not allow."""
    return CheckResult(key=key, title=title, outcome=Outcome.NOT_APPLICABLE, sentence=reason)


def mean_over_patients(values: Sequence[float] | np.ndarray, patients: Sequence[str]) -> Interval:
    """Mean of the items with its 95 % interval over patients; items that are not a number are left out."""
    numbers = np.asarray(values, float)
    known = np.isfinite(numbers)
    kept = [patient for patient, keep in zip(patients, known, strict=True) if keep]
    return interval(partial(mean, numbers[known]), kept, draw_patients(kept))
