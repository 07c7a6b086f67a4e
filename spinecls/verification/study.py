"""What the checks work on: cases with located vertebrae, what is known of them, and which vertebrae are examined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region
from spinecls.types import T
from spinecls.verification.instrument import Answers, Question
from spinecls.verification.swaps import whole_mask


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One image, its vertebrae from head to feet, and the model's output for them.

    Attributes
    ----------
    image : (C, S, R, A) on `grid`
    marrow : (C, 2) reference of the case
    answers : of all its vertebrae
    truth : annotated class of each vertebra; None = not known
    lesions : (S, R, A) bool outlines by the class that they show; empty where none were drawn
    """

    identifier: str
    patient: str
    image: np.ndarray
    grid: Geometry
    regions: tuple[Region, ...]
    marrow: np.ndarray
    answers: Answers
    truth: tuple[int | None, ...]
    lesions: Mapping[int, np.ndarray]


@dataclass(frozen=True, order=True)
class Place:
    """A vertebra of a study: number of its scan, number in the scan."""

    scan: int
    vertebra: int


@dataclass(frozen=True)
class Study:
    """Scans and the vertebrae among theirs that are examined closely.

    Attributes
    ----------
    donors : how many other images, or vertebrae, replace what is outside, or inside, of each
    annotated : whether the cases are of a dataset, so that what is not known of them is not annotated there
    """

    scans: tuple[Scan, ...]
    chosen: tuple[Place, ...]
    donors: int
    seed: int
    annotated: bool = False

    def lacks(self, what: str) -> str:
        """The sentence that something annotated is needed, with what to do about it."""
        if self.annotated:
            return f"Needs {what}; the dataset does not have that of the vertebrae that were found."
        return f"Needs {what}; give the images with their annotations, -d DATASET instead of -i."

    @property
    def places(self) -> tuple[Place, ...]:
        """All vertebrae."""
        return tuple(Place(s, v) for s, scan in enumerate(self.scans) for v in range(len(scan.regions)))

    def question(self, place: Place) -> Question:
        """The vertebra as it is."""
        scan = self.scans[place.scan]
        return Question(image=scan.image, grid=scan.grid, region=scan.regions[place.vertebra], marrow=scan.marrow)

    def predicted(self, place: Place) -> int:
        """Class that the model gives a vertebra."""
        return int(self.scans[place.scan].answers.classes[place.vertebra])

    def patient(self, place: Place) -> str:
        """Whom a vertebra belongs to."""
        return self.scans[place.scan].patient

    def lesion(self, place: Place, target: int) -> np.ndarray | None:
        """(S, R, A) bool outline, inside a vertebra's region, of a lesion that shows class `target`.

        None where none was drawn, or where the vertebra is annotated as of another class: then what lies in its
        region is the border of a neighbour's lesion.
        """
        scan = self.scans[place.scan]
        if target not in scan.lesions or scan.truth[place.vertebra] not in (None, target):
            return None
        inside = scan.lesions[target] & whole_mask(scan.regions[place.vertebra], scan.grid)
        return inside if inside.any() else None

    def generator(self, *purpose: int) -> np.random.Generator:
        """Random numbers that depend on the seed and on nothing that was drawn before."""
        return np.random.default_rng((self.seed, *purpose))


def spread(items: Sequence[T], limit: int) -> Sequence[T]:
    """At most `limit` of the items, evenly spaced."""
    return items[:: max(1, -(-len(items) // limit))]


def evenly(scans: Sequence[int], limit: int, generator: np.random.Generator) -> tuple[Place, ...]:
    """At most `limit` vertebrae: one of each scan, then a second of each, until there are enough.

    Parameters
    ----------
    scans : number of vertebrae of each scan
    """
    orders = [generator.permutation(count) for count in scans]
    rounds = [
        Place(scan, int(order[turn]))
        for turn in range(max(scans, default=0))
        for scan, order in enumerate(orders)
        if turn < len(order)
    ]
    return tuple(sorted(rounds[:limit]))
