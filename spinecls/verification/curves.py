"""Check that the voxels with evidence are those that the class rests on: take them away, or show nothing else."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from spinecls.sealing.crop import FILL
from spinecls.verification.attribution import MOST_VERTEBRAE
from spinecls.verification.check_results import CheckResult, Outcome, mean_over_patients, not_applicable
from spinecls.verification.instrument import Crops, Instrument
from spinecls.verification.measures import area_under_curve
from spinecls.verification.study import Study, spread

STEPS = 20
NOISE_VOXELS = 1.5
"""Width of the noise that makes the random order, voxels of the sealed grid."""


def partly_shown(crop: Crops, order: np.ndarray, shown_first: bool) -> Crops:
    """Crops in which a growing share of the region's voxels, in `order`, is filled, or alone is shown.

    Parameters
    ----------
    crop : a single one
    order : flat indices of voxels on the sealed grid
    shown_first : show the first ones and fill the rest (insertion), instead of filling the first ones (deletion)

    Returns
    -------
    Crops
        STEPS + 1 of them, from none to all of the voxels.
    """
    channels = crop.images[:, :-1].repeat(STEPS + 1, 1, 1, 1, 1)
    flat = channels.flatten(2)
    for step in range(STEPS + 1):
        count = round(step / STEPS * len(order))
        filled = order[count:] if shown_first else order[:count]
        flat[step][:, torch.from_numpy(np.ascontiguousarray(filled))] = FILL
    return crop.with_channels(flat.view_as(channels))


def random_order(counted: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Flat indices of the counted voxels (s, r, a) in the order of smooth noise.

    Smooth, because evidence is: voxels that vanish one by one leave a speckle that no vertebra shows, and the network
    would answer to the speckle instead of to what is missing.
    """
    noise = ndimage.gaussian_filter(generator.standard_normal(counted.shape), NOISE_VOXELS)
    voxels = np.flatnonzero(counted)
    return voxels[np.argsort(-noise.ravel()[voxels], kind="stable")]


def deletion_and_insertion(instrument: Instrument, study: Study) -> CheckResult:
    """Areas under the probability of the predicted class while its evidence is deleted, or inserted (Petsiuk 2018).

    For vertebrae whose class is not 0, because the absence of a finding has no voxels to delete. The fill is the
    constant that prediction shows outside the region. A random order has the same area both ways: deleting by it is
    inserting by its reverse.
    """
    title = "deletion and insertion by evidence"
    deleted: list[float] = []
    inserted: list[float] = []
    by_chance: list[float] = []
    patients = []
    positive = [place for place in study.chosen if study.predicted(place) > 0]
    for place in spread(positive, MOST_VERTEBRAE):
        target = study.predicted(place)
        crop = instrument.crops([study.question(place)])
        voxels = np.flatnonzero(crop.pooled[0].numpy())
        evidence = study.scans[place.scan].answers.evidence[place.vertebra, target].ravel()[voxels]
        strongest_first = voxels[np.argsort(-evidence, kind="stable")]
        shuffled = random_order(crop.pooled[0].numpy(), study.generator(3, place.scan, place.vertebra))
        orders = ((strongest_first, False), (strongest_first, True), (shuffled, False))
        for areas, (order, shown_first) in zip((deleted, inserted, by_chance), orders, strict=True):
            curve = instrument.answer(partly_shown(crop, order, shown_first)).probabilities[:, target]
            areas.append(area_under_curve(curve))
        patients.append(study.patient(place))
    if not patients:
        return not_applicable("deletion_insertion", title, "No examined vertebra is predicted to show anything.")
    deletion, insertion = mean_over_patients(deleted, patients), mean_over_patients(inserted, patients)
    chance = mean_over_patients(by_chance, patients)
    return CheckResult(
        key="deletion_insertion",
        title=title,
        outcome=Outcome.REPORTED,
        numbers={
            "deletion": deletion,
            "insertion": insertion,
            "random_order": chance,
            "random_minus_deletion": mean_over_patients(np.subtract(by_chance, deleted), patients),
            "insertion_minus_random": mean_over_patients(np.subtract(inserted, by_chance), patients),
        },
        sentence=(
            f"Mean probability of the predicted class while voxels are deleted, strongest evidence first: "
            f"{deletion.estimate:.3f}; while they are inserted: {insertion.estimate:.3f}; in random order: "
            f"{chance.estimate:.3f} ({len(patients)} vertebrae with a finding)."
        ),
    )
