"""Checks of what the class is attributed to, and of the evidence against drawn lesions."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import torch

from spinecls.verification.check_results import CheckResult, Number, Outcome, mean_over_patients, not_applicable
from spinecls.verification.instrument import Crops, Instrument
from spinecls.verification.measures import HIT_RADIUS_MM, average_precision, distance_to_set_mm
from spinecls.verification.study import Study, spread

MOST_VERTEBRAE = 20
"""Vertebrae at most in checks that need some hundred passes each."""

Attribute = Callable[[Instrument, Crops, int], torch.Tensor]


def captum_is_installed() -> bool:
    """Whether integrated gradients can be computed."""
    return importlib.util.find_spec("captum") is not None


def attribution_inside(instrument: Instrument, study: Study, attribute: Attribute) -> CheckResult:
    """Share of the attribution of a class logit that lies inside the region, and on the drawn lesion if there is one.

    The class is the most probable one other than 0. The energy on the lesion is the share of the positive attribution
    (Wang et al., CVPR workshops 2020).

    Parameters
    ----------
    attribute : `integrated_gradients`, or another that returns (C, s, r, a) for one crop
    """
    shares, chances, energies, energy_patients, patients = [], [], [], [], []
    largest_outside = 0.0
    for place in spread(study.chosen, MOST_VERTEBRAE):
        question = study.question(place)
        crops = instrument.crops([question])
        target = int(study.scans[place.scan].answers.lesion_classes[place.vertebra])
        values = attribute(instrument, crops, target).numpy()
        inside = crops.images[0, -1].numpy() > 0
        largest_outside = max(largest_outside, float(np.abs(values[:, ~inside]).max(initial=0.0)))
        # A network that ignores its input attributes nothing; that is no share. Taken from what lies outside, so that
        # nothing there is a share of exactly one, however the sum of all rounds.
        total = np.abs(values).sum() or np.nan
        shares.append(float(1 - np.abs(values[:, ~inside]).sum() / total))
        chances.append(float(inside.mean()))
        patients.append(study.patient(place))
        lesion = study.lesion(place, target)
        if lesion is not None:
            native, counted = instrument.native_evidence(question, values.sum(axis=0))
            positive = np.maximum(native, 0)
            energies.append(float(positive[lesion[counted.slices]].sum() / (positive.sum() or np.nan)))
            energy_patients.append(study.patient(place))
    share, chance = mean_over_patients(shares, patients), float(np.mean(chances))
    numbers: dict[str, Number] = {"inside_share": share, "chance": chance, "largest_outside": largest_outside}
    if energies:
        numbers["energy_on_lesion"] = mean_over_patients(energies, energy_patients)
    return CheckResult(
        key="attribution",
        title="integrated gradients inside the region",
        outcome=instrument.judged(largest_outside == 0),
        guarantee=instrument.guaranteed,
        numbers=numbers,
        threshold="exactly 0 outside" if instrument.guaranteed else "",
        sentence=(
            f"{share.estimate:.1%} of the attribution lies inside the region, which fills {chance:.1%} of the crop; "
            f"the largest attribution to a voxel outside is {largest_outside:.2g}."
        ),
    )


def evidence_on_lesions(instrument: Instrument, study: Study) -> CheckResult:
    """Whether the evidence of a lesion's class is greatest on the lesion, over all vertebrae with a drawn one.

    A hit: the voxel of greatest evidence lies within 3 mm of the lesion. Chance is the share of the voxels that do.
    """
    title = "evidence against drawn lesions"
    hits, chances, precisions, shares, patients = [], [], [], [], []
    for place in study.places:
        scan = study.scans[place.scan]
        for target in scan.lesions:
            lesion = study.lesion(place, target)
            if lesion is None:
                continue
            evidence = scan.answers.evidence[place.vertebra, target]
            native, counted = instrument.native_evidence(study.question(place), evidence)
            drawn = lesion[counted.slices][counted.mask]
            if not drawn.any():
                continue
            points_lps = counted.geometry.to_world(np.argwhere(counted.mask))
            near = distance_to_set_mm(points_lps, points_lps[drawn]) <= HIT_RADIUS_MM
            values = native[counted.mask]
            hits.append(bool(near[values.argmax()]))
            chances.append(float(near.mean()))
            precisions.append(average_precision(values, drawn))
            shares.append(float(drawn.mean()))
            patients.append(scan.patient)
    if not hits:
        return not_applicable("lesion_hit", title, study.lacks("an outlined lesion in an examined vertebra"))
    hit, precision = mean_over_patients(hits, patients), mean_over_patients(precisions, patients)
    chance, share = mean_over_patients(chances, patients), mean_over_patients(shares, patients)
    return CheckResult(
        key="lesion_hit",
        title=title,
        outcome=Outcome.REPORTED,
        numbers={
            "hit_rate": hit,
            "hit_chance": chance,
            "average_precision": precision,
            "average_precision_chance": share,
        },
        sentence=(
            f"In {hit.estimate:.1%} of {len(hits)} vertebrae with a drawn lesion the voxel of greatest evidence lies "
            f"within {HIT_RADIUS_MM:g} mm of it (by chance {chance.estimate:.1%}); the area under the precision-recall "
            f"curve of the evidence is {precision.estimate:.3f} (by chance {share.estimate:.3f})."
        ),
    )
