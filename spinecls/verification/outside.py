"""Checks that alter the image outside a vertebra's region: nothing about its class may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from spinecls.sealing.marrow import marrow_reference
from spinecls.verification.check_results import CheckResult, Number, Outcome, mean_over_patients, not_applicable
from spinecls.verification.instrument import Answers, Instrument
from spinecls.verification.measures import jensen_shannon
from spinecls.verification.study import Place, Study
from spinecls.verification.swaps import EXTREMES, centre_voxel, intensity_matched, placed, with_blob, with_outside

BITWISE = "equal to the last bit"
OPEN_TARGETS = "nothing is promised; a model trained against it should reach flips <= 0.02, divergence <= 0.005"


@dataclass(frozen=True)
class Change:
    """How the outputs for one vertebra differ between the image and a variant of it.

    Attributes
    ----------
    unequal : whether any bit of a probability, of any fold, or of the evidence differs
    largest_logit, largest_probability : largest absolute change
    flipped : whether the predicted class differs
    divergence : Jensen-Shannon divergence, nats
    """

    unequal: bool
    largest_logit: float
    largest_probability: float
    flipped: bool
    divergence: float


def changes(before: Answers, after: Answers) -> list[Change]:
    """Row by row."""
    divergence = jensen_shannon(before.probabilities, after.probabilities)
    return [
        Change(
            unequal=not (
                torch.equal(torch.from_numpy(before.members[:, row]), torch.from_numpy(after.members[:, row]))
                and torch.equal(_tensor(before.evidence[row]), _tensor(after.evidence[row]))
            ),
            largest_logit=float(np.abs(before.logits[:, row] - after.logits[:, row]).max()),
            largest_probability=float(np.abs(before.probabilities[row] - after.probabilities[row]).max()),
            flipped=bool(before.classes[row] != after.classes[row]),
            divergence=float(divergence[row]),
        )
        for row in range(len(divergence))
    ]


def _tensor(evidence: np.ndarray) -> torch.Tensor:
    # The map of graded classes is one array seen several times, which torch refuses to wrap.
    return torch.from_numpy(np.ascontiguousarray(evidence))


def donor_images(study: Study, place: Place) -> list[np.ndarray]:
    """Images of other cases, one of their vertebrae laid on this one, scaled to this case's marrow.

    A study of a single case has no other image; its own, turned round along all axes and moved, stands in.
    """
    scan = study.scans[place.scan]
    generator = study.generator(1, place.scan, place.vertebra)
    others = [other for other in study.places if other.scan != place.scan]
    here = centre_voxel(scan.regions[place.vertebra])
    images = []
    # Different cases first, then other vertebrae of the same cases, so that no two donors are alike.
    order = _different_scans_first([others[i] for i in generator.permutation(len(others))])
    for other in (order * study.donors)[: study.donors]:
        donor = study.scans[other.scan]
        shift = here - centre_voxel(donor.regions[other.vertebra])
        matched = intensity_matched(donor.image, donor.marrow, scan.marrow)
        images.append(placed(matched, scan.grid.shape, shift))
    if not others:
        turned = scan.image[:, ::-1, ::-1, ::-1]
        moves = generator.integers(1, np.maximum(2, scan.grid.shape), size=(study.donors, 3))
        images = [placed(turned, scan.grid.shape, move) for move in moves]
    return images


def _different_scans_first(places: Sequence[Place]) -> list[Place]:
    turns: dict[int, int] = {}
    ranked = []
    for place in places:
        ranked.append((turns.get(place.scan, 0), place))
        turns[place.scan] = turns.get(place.scan, 0) + 1
    return [place for _, place in sorted(ranked, key=lambda entry: entry[0])]


def outside_swap(instrument: Instrument, study: Study) -> CheckResult:
    """Region and marrow numbers fixed, everything outside replaced by other cases' images and by extremes."""
    per_vertebra: list[list[Change]] = []
    extreme: list[Change] = []
    for place in study.chosen:
        question = study.question(place)
        outsides = donor_images(study, place)
        outsides += [np.full_like(question.image, value, np.float32) for value in EXTREMES]
        variants = [
            replace(question, image=with_outside(question.image, question.region, outside)) for outside in outsides
        ]
        swap_changes = changes(instrument.reference(question, len(variants)), instrument.ask(variants))
        per_vertebra.append(swap_changes[: study.donors])
        extreme += swap_changes[study.donors :]
    flat = [change for vertebra_changes in per_vertebra for change in vertebra_changes]
    patients = [study.patient(place) for place in study.chosen]
    unequal = sum(change.unequal for change in (*flat, *extreme))
    total = len(flat) + len(extreme)
    flips = mean_over_patients(
        [float(np.mean([c.flipped for c in vertebra_changes])) for vertebra_changes in per_vertebra], patients
    )
    divergences = [float(np.mean([c.divergence for c in vertebra_changes])) for vertebra_changes in per_vertebra]
    numbers: dict[str, Number] = {
        "unequal": unequal,
        "swaps": total,
        "largest_logit_change": max(change.largest_logit for change in (*flat, *extreme)),
        "flip_rate": flips,
        "mean_divergence": mean_over_patients(divergences, patients),
        "vertebrae": len(study.chosen),
    }
    sentence = (
        f"{total - unequal} of {total} swaps of everything outside the region left every probability and the evidence "
        f"{BITWISE}; the predicted class changed in {flips.estimate:.1%} of the swaps with other cases' images."
    )
    return CheckResult(
        key="outside_swap",
        title="outside replaced, marrow numbers fixed",
        outcome=instrument.judged(unequal == 0),
        guarantee=instrument.guaranteed,
        numbers=numbers,
        threshold=BITWISE if instrument.guaranteed else OPEN_TARGETS,
        sentence=sentence,
    )


def outside_swap_with_marrow(instrument: Instrument, study: Study) -> CheckResult:
    """Everything outside replaced, the other vertebrae too, and the marrow numbers taken from what is then there.

    The numbers are those of all regions of the case, before and after, so only the content differs.
    """
    swap_changes: list[Change] = []
    for place in study.chosen:
        question = study.question(place)
        regions = study.scans[place.scan].regions
        before = replace(question, marrow=marrow_reference(question.image, regions))
        variants = []
        for donor in donor_images(study, place):
            image = with_outside(question.image, question.region, donor)
            variants.append(replace(question, image=image, marrow=marrow_reference(image, regions)))
        swap_changes += changes(instrument.reference(before, len(variants)), instrument.ask(variants))
    largest = max(change.largest_probability for change in swap_changes)
    average = float(np.mean([change.largest_probability for change in swap_changes]))
    flips = np.mean([change.flipped for change in swap_changes])
    return CheckResult(
        key="outside_swap_with_marrow",
        title="outside replaced, marrow numbers recomputed",
        outcome=Outcome.REPORTED,
        numbers={
            "largest_probability_change": largest,
            "mean_largest_change": average,
            "flip_rate": float(flips),
            "swaps": len(swap_changes),
        },
        sentence=(
            f"When the marrow numbers are taken anew from the altered image, a probability changes by at most "
            f"{largest:.3f} ({average:.3f} in the mean) and the predicted class in {flips:.1%} of the swaps: so much "
            "can a quite different rest of the image do through them."
        ),
    )


def lesion_in_neighbour(instrument: Instrument, study: Study) -> CheckResult:
    """A bright blob inside the region of the vertebra above or below, and not in this one's."""
    title = "lesion planted in the neighbouring vertebra"
    lesion_changes: list[Change] = []
    for place in study.chosen:
        question = study.question(place)
        regions = study.scans[place.scan].regions
        variants = []
        for other in (place.vertebra - 1, place.vertebra + 1):
            if not 0 <= other < len(regions):
                continue
            image = with_blob(question.image, question.grid, regions[other], question.region, question.marrow)
            if image is not None:
                variants.append(replace(question, image=image))
        if variants:
            lesion_changes += changes(instrument.reference(question, len(variants)), instrument.ask(variants))
    if not lesion_changes:
        return not_applicable("lesion_in_neighbour", title, "No examined vertebra has a neighbour in its image.")
    unequal = sum(change.unequal for change in lesion_changes)
    flips = np.mean([change.flipped for change in lesion_changes])
    return CheckResult(
        key="lesion_in_neighbour",
        title=title,
        outcome=instrument.judged(unequal == 0),
        guarantee=instrument.guaranteed,
        numbers={
            "unequal": unequal,
            "lesions": len(lesion_changes),
            "largest_logit_change": max(change.largest_logit for change in lesion_changes),
            "flip_rate": float(flips),
        },
        threshold=BITWISE if instrument.guaranteed else "",
        sentence=(
            f"{len(lesion_changes) - unequal} of {len(lesion_changes)} bright lesions planted in a neighbouring "
            f"vertebra left every probability and the evidence {BITWISE}; the class changed in {flips:.1%}."
        ),
    )
