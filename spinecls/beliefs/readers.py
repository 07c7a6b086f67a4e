"""How good readers are, and what is likely true of a vertebra, from what they say of the same vertebrae."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from spinecls.beliefs.vertebra import Belief, belief, belief_by_reader, refined

READERS = "readers.json"
"""File of a fold that says how each reader calls each class."""

FEWEST_TO_COMPARE = 3
"""Readers of a vertebra from which on it can be told who errs: of two who differ either may be wrong."""

FEWEST_COMPARED = 100
"""Vertebrae read by so many, from which on they are judged.

With fewer the matrices seem surer than they are, and what they make likely is further from the truth than the mean of
the readings is (of readers right in 0.80, 0.65 and 0.45).
"""

ROUNDS = 100
START_TRUST = 0.7
"""Chance that a reader is right, before anything was compared."""

UNNAMED_TRUST = 0.9
"""The same of readings without a known reader: most vertebrae that they are of nobody else has read."""

REVIEWER = "audit"
"""Reader of a class that was put right after all readings had been looked at."""

REVIEWER_TRUST = 0.99

REVIEW, MODEL, UNNAMED = -3, -2, -1
"""Places of the matrices of the reviewer, of an earlier model, and of all other readers, behind those with a name."""

EVEN_READINGS = 5.0
"""Readings of each true class that a matrix is thought to hold beside those counted, of a reader who errs evenly."""


class Reading(NamedTuple):
    """What a reader says of a vertebra: one of these class indices, with this confidence (0 to 1)."""

    classes: tuple[int, ...]
    confidence: float = 1.0
    reader: str = ""

    def weights(self, num_classes: int) -> np.ndarray:
        """(K,) how far it allows each class; zeros where it tells nothing."""
        allowed = np.isin(np.arange(num_classes), self.classes)
        return self.confidence * allowed if not allowed.all() else np.zeros(num_classes)


def _unsure(weights: np.ndarray) -> np.ndarray:
    """Likelihood of (N, K) weights as far as readers are not confident of them: then all classes are said alike."""
    return (1 - weights.max(axis=1)) * (weights > 0).mean(axis=1)


@dataclass(frozen=True)
class Readers:
    """How the readings of a vertebra become one belief.

    Attributes
    ----------
    num_classes : K
    names : readers who are told apart; without any, readings are averaged
    matrices : (len(names) + 3, K, K) probabilities, [reader, said, true], the last at `REVIEW`, `MODEL` and `UNNAMED`;
        None where readers are told apart and not judged (`belief_by_reader`)
    shares : (K,) of the true classes, with `matrices`
    """

    num_classes: int
    names: tuple[str, ...] = ()
    matrices: np.ndarray | None = None
    shares: np.ndarray | None = None

    def told(self, readings: Sequence[Reading], expected: np.ndarray | None = None) -> Belief:
        """Belief about a vertebra: what readers who were judged make likely, else what each of them says.

        Parameters
        ----------
        expected : (K,) class probabilities by a model that did not learn from this vertebra, zeros = unknown. It is one
            reader more where readers are judged, else it sharpens sets of classes (`refined`)
        """
        if self.matrices is not None:
            return self._likely(self.matrices, readings, expected)
        if self.names:
            # Whoever has no name of these is -1 there.
            numbered = [(r.classes, r.confidence, max(self.place(r), -1)) for r in readings]
            made = belief_by_reader(numbered, self.num_classes)
        else:
            made = belief([(r.classes, r.confidence) for r in readings], self.num_classes)
        return made if expected is None else refined(made, expected)

    def described(self) -> dict[str, Mapping]:
        """What `readers.json` says of those who were judged."""
        return {} if self.matrices is None else described(self.names, self.matrices[: len(self.names)])

    def place(self, reading: Reading) -> int:
        """Place of who says it among the matrices."""
        if reading.reader in self.names:
            return self.names.index(reading.reader)
        return REVIEW if reading.reader == REVIEWER else UNNAMED

    def _likely(self, matrices: np.ndarray, readings: Sequence[Reading], expected: np.ndarray | None) -> Belief:
        """Masses on single classes, as likely as each is if any reading is meant; that none is stays open."""
        _, reader, weights = _rows([readings], [None], self)
        said = np.einsum("is,ist->it", weights, matrices[reader])
        unsure = _unsure(weights)
        told = self.shares * ((said + unsure[:, None]).prod(axis=0) - unsure.prod())
        if expected is not None and expected.any():
            told = told * (expected @ matrices[MODEL])
        meant = 1 - (1 - weights.max(axis=1)).prod()
        masses = meant * told / max(told.sum(), np.finfo(float).tiny)
        return Belief(np.eye(self.num_classes, dtype=bool), masses.astype(np.float32), np.full(self.num_classes, -1))


def described(names: Sequence[str], matrices: np.ndarray) -> dict[str, Mapping]:
    """Of each reader the matrix [said][true], and the mean of its diagonal as `accuracy`."""
    return {
        name: {"accuracy": round(float(np.diag(matrix).mean()), 4), "matrix": np.round(matrix, 4).tolist()}
        for name, matrix in zip(names, np.asarray(matrices, float), strict=True)
    }


def judged(
    vertebrae: Sequence[Sequence[Reading]],
    names: tuple[str, ...],
    num_classes: int,
    expected: Sequence[np.ndarray | None] | None = None,
) -> Readers:
    """Readers with the matrices that make what they said likely.

    Expectation maximisation: what is true of a vertebra follows from what all readers say of it, each as trustworthy as
    he is; how trustworthy that is follows from what is true. A reading of several classes, or of little confidence,
    counts as far as it tells. Matrices lean a little towards errors that are even over the classes, for some tens of
    vertebrae of a class do not tell them well. Dawid and Skene, Appl. Statist. 1979.

    Parameters
    ----------
    vertebrae : readings of each
    names : readers who are told apart; all others share a matrix, but for the `REVIEWER`, who is believed
    expected : of each vertebra the (K,) class probabilities by a model that did not learn from it, which is then one
        reader more (as in CROWDLAB, Goh et al. 2022)

    Raises
    ------
    ValueError
        When no reading tells anything.
    """
    unjudged = Readers(num_classes, names)
    vertebra, reader, weights = _rows(vertebrae, expected or [None] * len(vertebrae), unjudged)
    if not len(vertebra):
        raise ValueError("no reading tells anything about a class")
    vertebra = np.unique(vertebra, return_inverse=True)[1]
    unsure = np.where(reader == MODEL, 0, _unsure(weights))
    trust = [START_TRUST] * len(names) + [REVIEWER_TRUST, START_TRUST, UNNAMED_TRUST]
    matrices = np.stack([_even(share, num_classes) for share in trust])
    shares = np.full(num_classes, 1 / num_classes)
    for _ in range(ROUNDS):
        said = weights[:, :, None] * matrices[reader]
        likelihood = said.sum(axis=1) + unsure[:, None]
        log_truth = np.tile(np.log(shares), (vertebra.max() + 1, 1))
        np.add.at(log_truth, vertebra, np.log(likelihood))
        truth = softmax(log_truth, axis=1)
        shares = (truth.sum(axis=0) + 1) / (len(truth) + num_classes)
        counts = np.zeros_like(matrices)
        np.add.at(counts, reader, truth[vertebra][:, None] * said / likelihood[:, None])
        right = (np.trace(counts, axis1=1, axis2=2) + trust) / (counts.sum(axis=(1, 2)) + 1)
        counts += EVEN_READINGS * np.stack([_even(share, num_classes) for share in right])
        matrices = counts / counts.sum(axis=1, keepdims=True)
        matrices[REVIEW] = _even(REVIEWER_TRUST, num_classes)
    return Readers(num_classes, names, matrices, shares)


def _even(trust: float, num_classes: int) -> np.ndarray:
    """(K, K) matrix of a reader who is right this often and errs evenly over the other classes."""
    wrong = (1 - trust) / (num_classes - 1)
    return np.full((num_classes, num_classes), wrong) + (trust - wrong) * np.eye(num_classes)


def _rows(
    vertebrae: Sequence[Sequence[Reading]], expected: Sequence[np.ndarray | None], readers: Readers
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of the vertebra, place of the matrix and (K,) weights of each reading that tells anything."""
    rows = []
    for index, (readings, chances) in enumerate(zip(vertebrae, expected, strict=True)):
        weighted = [(readers.place(r), r.weights(readers.num_classes)) for r in readings]
        told = [(place, weights) for place, weights in weighted if weights.any()]
        if told and chances is not None and chances.any():
            told.append((MODEL, chances))
        rows += [(index, place, weights) for place, weights in told]
    vertebra, place = (np.array([row[i] for row in rows], int) for i in (0, 1))
    return vertebra, place, np.array([row[2] for row in rows], float).reshape(-1, readers.num_classes)
