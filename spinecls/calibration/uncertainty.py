"""What kind of doubt an ensemble has. How sure the reported probabilities are is `evaluation.metrics.confidence_of`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinecls.evaluation.metrics import entropy


@dataclass(frozen=True)
class Decomposition:
    """Parts of the uncertainty of each vertebra, (N,) in nats; `total` is the sum of the other two.

    Attributes
    ----------
    total : entropy of the mean over members
    aleatoric : mean entropy of the members, doubt that each member has by itself: the image does not tell
    mutual_information : doubt from members that contradict each other: more training data would help
    """

    total: np.ndarray
    aleatoric: np.ndarray
    mutual_information: np.ndarray

    def of(self, row: int) -> dict[str, float]:
        """What is written of one vertebra."""
        return {"aleatoric": float(self.aleatoric[row]), "disagreement": float(self.mutual_information[row])}


def decompose(members: np.ndarray) -> Decomposition:
    """Uncertainty of (M, N, K) probabilities of M members (fold models, views).

    References
    ----------
    Depeweg et al., Decomposition of Uncertainty in Bayesian Deep Learning, ICML 2018.
    """
    total, aleatoric = entropy(members.mean(axis=0)), entropy(members).mean(axis=0)
    # The entropy is concave, so the difference is below zero by rounding only.
    information = np.maximum(0.0, total - aleatoric)
    return Decomposition(total=total, aleatoric=total - information, mutual_information=information)
