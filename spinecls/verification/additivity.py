"""Check that the evidence map is what the class was computed from: recomputed from it by the documented formula.

A second implementation, in NumPy and double precision, of the poolings and of the link of graded classes.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
from scipy.special import expit, logsumexp

from spinecls.networks.pooling import (
    AttentionPooling,
    ExtentPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
)
from spinecls.networks.reader import Reader
from spinecls.verification.check_results import CheckResult, Outcome
from spinecls.verification.instrument import Crops, Instrument
from spinecls.verification.study import Study

TOLERANCE = 1e-4
"""Largest difference of a logit; float32 sums over some thousand voxels differ by a hundredth of this."""


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


@singledispatch
def _pooled_evidence(pooling: Pooling, evidence: np.ndarray, features: np.ndarray) -> np.ndarray:
    """(E,) pooled evidence (E, V) of the counted voxels with features (F, V), without the bias."""
    raise NotImplementedError(f"{type(pooling).__name__}: no formula is documented here. Add one, as of the others.")


@_pooled_evidence.register
def _(pooling: MeanPooling, evidence: np.ndarray, features: np.ndarray) -> np.ndarray:
    return evidence.mean(axis=1)


@_pooled_evidence.register
def _(pooling: MaxPooling, evidence: np.ndarray, features: np.ndarray) -> np.ndarray:
    return evidence.max(axis=1)


@_pooled_evidence.register
def _soft_maximum(pooling: LogSumExpPooling, evidence: np.ndarray, features: np.ndarray) -> np.ndarray:
    sharpness = 1 + 9 * expit(_numpy(pooling.sharpness_logit))
    return (logsumexp(sharpness[:, None] * evidence, axis=1) - np.log(evidence.shape[1])) / sharpness


@_pooled_evidence.register
def _(pooling: ExtentPooling, evidence: np.ndarray, features: np.ndarray) -> np.ndarray:
    strength, extent = (np.logaddexp(0, _numpy(p)) for p in (pooling.strength_logit, pooling.extent_logit))
    size = np.log(pooling.SMALLEST + expit(evidence).mean(axis=1))
    return strength * _soft_maximum(pooling, evidence, features) + extent * size


@_pooled_evidence.register
def _(pooling: AttentionPooling, evidence: np.ndarray, features: np.ndarray) -> np.ndarray:
    content, gate = (
        _numpy(conv.weight).reshape(len(conv.weight), -1) @ features + _numpy(conv.get_parameter("bias"))[:, None]
        for conv in (pooling.content, pooling.gate)
    )
    score = _numpy(pooling.score.weight).reshape(-1) @ (np.tanh(content) * expit(gate))
    attention = np.exp(score - logsumexp(score))
    weights = (1 - pooling.UNIFORM_SHARE) * attention + pooling.UNIFORM_SHARE / evidence.shape[1]
    return evidence @ weights


def recomputed_logits(reader: Reader, evidence: np.ndarray, features: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(K,) logits of one vertebra from its evidence (E, s, r, a), features (F, s, r, a) and counted voxels (s, r, a).

    Of graded classes they are log-probabilities: log(sigmoid(theta_(k+1) - s) - sigmoid(theta_k - s)).
    """
    pooled = _numpy(reader.pooling.bias)
    if counted.any():
        pooled = pooled + _pooled_evidence(reader.pooling, evidence[:, counted], features[:, counted])
    if not reader.ordinal:
        return np.concatenate([[0.0], pooled])
    gaps = np.logaddexp(0, _numpy(reader.link.gap_logits)) + reader.link.SMALLEST_GAP
    thresholds = float(reader.link.first.detach()) + np.concatenate([[0.0], np.cumsum(gaps)])
    return np.log(np.diff(expit(thresholds - pooled[0]), prepend=0.0, append=1.0))


@torch.inference_mode()
def _network_outputs(reader: Reader, crops: Crops, device: torch.device) -> tuple[np.ndarray, ...]:
    """Logits (N, K), evidence (N, E, ...) and pooled features (N, F, ...) of crops."""
    caught: list[torch.Tensor] = []
    handle = reader.pooling.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[2]))
    try:
        logits, evidence = reader.sealed_pass(crops.images.to(device), crops.pooled.to(device))
    finally:
        handle.remove()
    return _numpy(logits), _numpy(evidence), _numpy(caught[0])


def evidence_adds_up(instrument: Instrument, study: Study) -> CheckResult:
    """The logits follow from the evidence map alone, and the map is zero where nothing may count."""
    largest, stray = 0.0, 0
    for place in study.chosen:
        crops = instrument.crops([study.question(place)])
        counted = crops.pooled[0].numpy()
        for reader in instrument.readers:
            logits, evidence, features = _network_outputs(reader, crops, instrument.device)
            again = recomputed_logits(reader, evidence[0], features[0], counted)
            largest = max(largest, float(np.abs(again - logits[0]).max()))
            stray += int(np.count_nonzero(evidence[0][:, ~counted]))
    return CheckResult(
        key="evidence_adds_up",
        title="logits recomputed from the evidence",
        outcome=Outcome.PASSED if largest <= TOLERANCE and stray == 0 else Outcome.FAILED,
        guarantee=instrument.guaranteed,
        numbers={"largest_difference": largest, "voxels_outside": stray, "vertebrae": len(study.chosen)},
        threshold=f"difference <= {TOLERANCE:g}, no evidence outside",
        sentence=(
            f"The class logits recomputed from the evidence maps differ by at most {largest:.1e}; {stray} voxels "
            "outside what may count carry evidence."
        ),
    )
