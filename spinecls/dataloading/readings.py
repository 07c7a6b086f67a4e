"""What readers said of the vertebrae of preprocessed cases, and who of them is told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from spinecls.beliefs import Belief, partly_visible
from spinecls.beliefs.readers import FEWEST_COMPARED, FEWEST_TO_COMPARE, Readers, Reading, judged
from spinecls.io.preprocessed_records import PreparedVertebra, read_native
from spinecls.planning.plan import Plan

FEWEST_SHARED = 30
"""Vertebrae that a reader must have read with others, to be told apart from them."""

TRUNCATED_SHARE = 0.5
"""Share of a truncated vertebra that is taken to be seen."""


def known_readers(preprocessed: Path, cases: Sequence[str]) -> tuple[str, ...]:
    """Readers whose mistakes can be learnt: at least two, each with enough vertebrae that another one read as well."""
    shared: Counter[str] = Counter()
    for _, vertebra in _vertebrae(preprocessed, cases):
        names = {reading.reader for reading in vertebra.readings} - {""}
        shared.update(names if len(names) > 1 else ())
    known = sorted(name for name, count in shared.items() if count >= FEWEST_SHARED)
    return tuple(known) if len(known) > 1 else ()


def can_be_judged(preprocessed: Path, cases: Sequence[str], readers: Sequence[str]) -> bool:
    """Whether enough vertebrae were read by three of the readers, so that these tell who of them errs."""
    compared = 0
    for _, vertebra in _vertebrae(preprocessed, cases):
        names = {reading.reader for reading in vertebra.readings}
        compared += len(names & set(readers)) >= FEWEST_TO_COMPARE
    return compared >= FEWEST_COMPARED


def readers_of(
    preprocessed: Path,
    cases: Sequence[str],
    plan: Plan,
    expected: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Readers:
    """How readings of these cases become beliefs; the readers of the plan are judged where it says so.

    Parameters
    ----------
    expected : by case and level the (K,) class probabilities by models that did not learn from the case
    """
    unjudged = Readers(len(plan.class_names), tuple(plan.readers))
    vertebrae = list(_vertebrae(preprocessed, cases)) if plan.readers_judged else []
    readings = [readings_of(vertebra, plan) for _, vertebra in vertebrae]
    if not any(reading.weights(unjudged.num_classes).any() for told in readings for reading in told):
        return unjudged
    chances = [(expected or {}).get(case, {}).get(vertebra.level) for case, vertebra in vertebrae]
    return judged(readings, unjudged.names, unjudged.num_classes, chances)


def judged_counts(
    preprocessed: Path,
    cases: Sequence[str],
    plan: Plan,
    expected: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, int]:
    """How many vertebrae of each class judged readers make likely."""
    readers = readers_of(preprocessed, cases, plan, expected)
    masses = [
        label_of(vertebra, plan, readers, None if expected is None else expected.get(case, {})).singletons()
        for case, vertebra in _vertebrae(preprocessed, cases)
    ]
    return {name: round(float(count)) for name, count in zip(plan.class_names, np.sum(masses, axis=0), strict=True)}


def readings_of(vertebra: PreparedVertebra, plan: Plan) -> list[Reading]:
    """Readings of a vertebra, classes by their index."""
    return [
        Reading(tuple(map(plan.class_names.index, reading.classes)), float(reading.confidence), reading.reader)
        for reading in vertebra.readings
    ]


def label_of(
    vertebra: PreparedVertebra,
    plan: Plan,
    readers: Readers | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
    certainty: float = 1.0,
) -> Belief:
    """What is believed of the class of a vertebra; less where a part of it is not seen, or its name is not sure.

    Parameters
    ----------
    readers : None = readings are averaged
    expected : level -> (K,) class probabilities by models that did not learn from the case; None = there are none
    certainty : probability of the vertebra's name
    """
    chances = None if expected is None else expected.get(vertebra.level, np.zeros(len(plan.class_names)))
    label = (readers or Readers(len(plan.class_names))).told(readings_of(vertebra, plan), chances)
    label = label.discounted(certainty)
    return partly_visible(label, TRUNCATED_SHARE) if vertebra.truncated else label


def _vertebrae(preprocessed: Path, cases: Sequence[str]) -> Iterator[tuple[str, PreparedVertebra]]:
    """(case, vertebra) of every vertebra of these cases."""
    for case in cases:
        for vertebra in read_native(preprocessed, case).vertebrae:
            yield case, vertebra
