"""Lesions inside vertebral bodies; a normal vertebra goes through the same code with amplitude 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.simulation.bodies import Body
from spinecls.simulation.inserts import Insert, measured
from spinecls.simulation.options import (
    GRADE_SHARES,
    KIND_WEIGHT,
    SHAM,
    SIGN,
    STRATA,
    SimulationOptions,
    class_of,
    kinds_for,
    stratum_of,
)
from spinecls.simulation.shapes import Shape, draw_shape
from spinecls.simulation.streams import Stream
from spinecls.simulation.tissue import Channel, changed, contrast

_INSIDE_STRATUM = (0.05, 0.95)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The lesion that a vertebra has if it is diseased."""

    body: Body
    kind: str
    grade: int
    shape: Shape
    target: float


def draw_candidates(
    bodies: Sequence[Body], sequence: str, options: SimulationOptions, stream: Stream
) -> dict[str, Candidate]:
    """Lesion of each body, drawn whether it is diseased or not; bodies where none fits are left out.

    Were they left out only when diseased, a body that is small or cut off would tell that it is normal.
    """
    candidates = {}
    for body in bodies:
        if not body.usable:
            continue
        rng = stream(body.level, "lesion")
        kind = _draw_kind(rng, kinds_for(options, sequence), options.task)
        grade = 1 + int(rng.choice(3, p=GRADE_SHARES))
        shape = draw_shape(rng, body, kind, grade)
        if shape is not None:
            target = draw_contrast(stream(body.level, "contrast"), options.contrast)
            candidates[body.level] = Candidate(body=body, kind=kind, grade=grade, shape=shape, target=target)
    return candidates


def _draw_kind(rng: np.random.Generator, kinds: Sequence[str], task: str) -> str:
    """Classes equally likely, then kinds of that class by their weight."""
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        groups.setdefault(class_of(task, kind, 1), []).append(kind)
    group = groups[list(groups)[rng.integers(len(groups))]]
    weights = np.array([KIND_WEIGHT[kind] for kind in group])
    return group[rng.choice(len(group), p=weights / weights.sum())]


def draw_contrast(rng: np.random.Generator, name: str) -> float:
    """Contrast in marrow deviations, uniform within a stratum."""
    mixed = list(STRATA)[rng.integers(len(STRATA))]
    low, high = STRATA[mixed if name == "mixed" else name]
    return low + rng.uniform(*_INSIDE_STRATUM) * (high - low)


def _draw_states(levels: Sequence[str], options: SimulationOptions, stream: Stream) -> dict[str, bool]:
    """Whether each vertebra is diseased, independently of all others.

    With marker m4 every second vertebra is a carrier: it is diseased with the probability of a marker given the state
    of the vertebra above it. The others do not change with the marker or its correlation.

    Parameters
    ----------
    levels : from head to feet
    """
    states: dict[str, bool] = {}
    for number, level in enumerate(levels):
        probability = options.prevalence
        if _is_carrier(number, options):
            probability = marker_probability(states[levels[number - 1]], options)
        states[level] = bool(stream(level, "state").random() < probability)
    return states


def _is_carrier(number: int, options: SimulationOptions) -> bool:
    """Whether the vertebra of this number from the head carries marker m4."""
    return "m4" in options.shortcuts and number % 2 == 1


def marker_probability(diseased: bool, options: SimulationOptions) -> float:
    """P(marker | diseased), P(marker | normal)."""
    return options.shortcut_correlation if diseased else 1 - options.shortcut_correlation


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """Result of `insert_lesions`.

    Attributes
    ----------
    image : (C, S, R, A) float32
    outlines : (S, R, A) uint8, index of the class that each lesion shows; 0 elsewhere
    classes : class of each vertebra, from head to feet
    """

    image: np.ndarray
    outlines: np.ndarray
    classes: Mapping[str, str]
    inserts: tuple[Insert, ...]


def insert_lesions(
    image: np.ndarray,
    bodies: Sequence[Body],
    channels: Sequence[Channel],
    channel_names: Sequence[str],
    class_list: Sequence[str],
    options: SimulationOptions,
    stream: Stream,
) -> Lesions:
    """Draw the states of all vertebrae of a scan and add the lesions of the diseased ones.

    Parameters
    ----------
    image : (C, S, R, A) float32, canonical; it is not changed
    bodies : from head to feet
    channels, channel_names : one a channel
    class_list : classes in index order
    """
    image = image.copy()
    outlines = np.zeros(image.shape[1:], np.uint8)
    candidates = draw_candidates(bodies, channels[0].sequence, options, stream)
    states = _draw_states(list(candidates), options, stream)
    classes, inserts = {}, []
    for number, (level, candidate) in enumerate(candidates.items()):
        name = class_of(options.task, candidate.kind, candidate.grade) if states[level] else class_list[0]
        classes[level] = name
        strength = _insert(image, candidate, channels, stream, 1.0 if states[level] else 0.0)
        if states[level]:
            outlines[candidate.body.slices][candidate.shape.outline] = class_list.index(name)
        elif not options.sham:
            continue
        strongest = int(np.argmax(strength))
        inserts.append(
            Insert(
                level=level,
                class_name=name,
                role="lesion" if states[level] else "sham",
                kind=candidate.kind,
                site=candidate.shape.site,
                grade=candidate.grade,
                marker="m4" if _is_carrier(number, options) and states[level] else "",
                channel=channel_names[strongest],
                contrast=strength[strongest],
                stratum=stratum_of(strength[strongest]) if states[level] else SHAM,
                marrow_deviation=channels[strongest].deviation,
                **measured(candidate.shape.outline, candidate.body.geometry),
            )
        )
    return Lesions(image=image, outlines=outlines, classes=classes, inserts=tuple(inserts))


def _insert(
    image: np.ndarray, candidate: Candidate, channels: Sequence[Channel], stream: Stream, amplitude: float
) -> list[float]:
    """Change the body's box of every channel in place; the contrast reached in each."""
    body, shape = candidate.body, candidate.shape
    rng = stream(body.level, "rounding")
    reached = []
    for volume, channel in zip(image, channels, strict=True):
        before = volume[body.slices].copy()
        target = amplitude * SIGN[candidate.kind][channel.sequence] * candidate.target
        after = changed(before, shape.pattern, shape.outline, channel, target, rng.random(before.shape))
        volume[body.slices] = after
        reached.append(contrast(before, after, shape.outline, channel))
    return reached
