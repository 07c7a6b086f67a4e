"""How good readers are, from what they say of the same vertebrae alone."""

from __future__ import annotations

import numpy as np

FEWEST_TO_COMPARE = 3
"""Readers from which on it can be told who errs: of two who differ either may be wrong."""

ROUNDS = 100
SMOOTHING = 0.5
"""Readings that each cell of a matrix is thought to hold beside those counted."""


def reader_matrices(said: np.ndarray, num_classes: int, ordinal: bool = False) -> np.ndarray:
    """How each reader calls each class, by expectation maximisation over the unknown truth.

    What is true of each vertebra follows from what all readers say of it, each as trustworthy as he is; how trustworthy
    that is follows from what is true. It starts with every vote worth the same. Dawid and Skene, Appl. Statist. 1979.

    Parameters
    ----------
    said : (N, R) class indices, -1 where a reader says nothing or no single class
    ordinal : whether a reader errs by one grade at most

    Returns
    -------
    (R, K, K) probabilities, [r, said, true]; columns sum to 1
    """
    classes = np.arange(num_classes)
    votes = (np.asarray(said)[:, :, None] == classes).astype(float)
    possible = (np.abs(classes[:, None] - classes) <= 1) | (not ordinal)
    votes = votes[votes.any(axis=(1, 2))]
    truth = votes.sum(axis=1) / votes.sum(axis=(1, 2))[:, None]
    for _ in range(ROUNDS):
        share = (truth.sum(axis=0) + SMOOTHING) / (len(truth) + SMOOTHING * num_classes)
        counts = (np.einsum("nrs,nt->rst", votes, truth) + SMOOTHING) * possible
        matrices = counts / counts.sum(axis=1, keepdims=True)
        likelihood = np.einsum("nrs,rst->nt", votes, np.log(np.maximum(matrices, 1e-6)))
        truth = np.exp(likelihood - likelihood.max(axis=1, keepdims=True)) * share
        truth /= truth.sum(axis=1, keepdims=True)
    return matrices
