"""What is reported of each vertebra of an image, put together from all passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spinecls.anatomy import LEVELS
from spinecls.inference.case_results import Located, entropy_of, reported_levels
from spinecls.inference.reported import ClassReport
from spinecls.inference.sealed_pass import SealedResult
from spinecls.planning.plan import Configuration
from spinecls.records import NO_MASK, NUMBERING_AMBIGUOUS, REFER, TRUNCATED, UNSURE, VertebraPrediction
from spinecls.sealing.sealing_levels import is_guaranteed
from spinecls.types import triple

FULLY_VISIBLE = 0.9


@dataclass(frozen=True)
class ModelFacts:
    """What is alike for all vertebrae of a model: whether it segments and is calibrated, names of its evidence maps."""

    configuration: Configuration
    segments: bool
    calibrated: bool
    evidence_names: Sequence[str]


def reported_vertebra(
    i: int, located: Located, sealed: SealedResult | None, report: ClassReport | None, facts: ModelFacts
) -> VertebraPrediction:
    """The i-th vertebra of an image, from what its finder, its readers and the report on its classes say."""
    configuration, decoding = facts.configuration, located.decoding
    level = decoding.labels[i]
    visible = located.visible_fractions[i]
    probabilities = () if report is None else tuple(report.probabilities[i].tolist())
    reasons = [UNSURE] if report is not None and report.unsure[i] else []
    reasons += [NUMBERING_AMBIGUOUS] if decoding.ambiguous else []
    reasons += [TRUNCATED] if visible < FULLY_VISIBLE else []
    reasons += [NO_MASK] if facts.segments and not located.from_mask[i] else []
    flags = [REFER] if probabilities and reasons else []
    flags += ["uncalibrated"] if probabilities and not facts.calibrated else []
    flags += ["not_sealed"] if probabilities and not is_guaranteed(configuration.seal) else []
    flags += reasons
    region = located.regions[i]
    low_lps, high_lps = region.box_lps
    return VertebraPrediction(
        level=level,
        level_probability=float(decoding.posterior[i, LEVELS.index(level)]),
        runner_up=decoding.runner_up[i],
        runner_up_probability=float(decoding.posterior[i, LEVELS.index(decoding.runner_up[i])]),
        centre_lps=triple(float(v) for v in located.centres_lps[i]),
        box_lps=(triple(low_lps), triple(high_lps)),
        score=float(located.scores[i]),
        class_probabilities=probabilities,
        prediction_set=() if report is None else report.sets[i],
        entropy=entropy_of(probabilities),
        doubt={} if report is None else report.doubt.of(i),
        visible_fraction=visible,
        region={
            "source": region.source,
            "seal": configuration.seal,
            "guaranteed": is_guaranteed(configuration.seal),
            "margin_mm": configuration.sealing_margin_mm if region.source == "mask" else 0.0,
            "voxels": int(region.mask.sum()),
            "marrow_reference": None if configuration.seal == "S3" else located.marrow.tolist(),
        },
        evidence=_evidence_sums(i, sealed, facts.evidence_names),
        level_probabilities=reported_levels(decoding.posterior[i]),
        relative_name=decoding.relative_names[i],
        flags=tuple(flags),
    )


def _evidence_sums(i: int, sealed: SealedResult | None, names: Sequence[str]) -> dict[str, dict[str, float]]:
    if sealed is None:
        return {}
    sums = sealed.contributions[i].astype(float).sum(axis=(1, 2, 3))
    return {
        name: {"pooled": float(pooled), "contributions": float(total)}
        for name, pooled, total in zip(names, sealed.pooled[i], sums, strict=True)
    }
