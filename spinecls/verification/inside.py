"""Checks that alter the image inside a region, or the region itself: here the class is meant to follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region
from spinecls.verification.check_results import CheckResult, Outcome, mean_over_patients, not_applicable
from spinecls.verification.instrument import Instrument
from spinecls.verification.outside import changes
from spinecls.verification.study import Place, Study
from spinecls.verification.swaps import grown_region, moved_region, with_content

LEAST_FOLLOWING = 0.8
"""Least share of predictions that follow a donor's content, relative to how many survive the resampling alone."""

SHIFT_MM = 2.0
GROWTH_MM = 1.5


def inside_swap(instrument: Instrument, study: Study) -> CheckResult:
    """The region's content replaced by that of vertebrae to which the model gives another class.

    A prediction follows when it becomes that of the donor. Stretching the donor's content onto another region costs
    some of what it shows; how much is measured by bringing the transplanted content back into the donor's own region
    and asking how often the donor's class is still predicted there (the round trip).
    """
    title = "inside replaced by a vertebra of another class"
    follows, stays, survives, patients = [], [], [], []
    for place in study.chosen:
        donors = _donors_of_another_class(study, place)
        if not donors:
            continue
        there, back = [], []
        own = study.question(place)
        for donor in donors:
            other = study.question(donor)
            image = with_content(own.image, own.region, own.marrow, other.image, other.region, other.marrow)
            there.append(replace(own, image=image))
            image = with_content(other.image, other.region, other.marrow, image, own.region, own.marrow)
            back.append(replace(other, image=image))
        wanted = np.array([study.predicted(donor) for donor in donors])
        predicted = instrument.ask(there).classes
        follows.append(float(np.mean(predicted == wanted)))
        stays.append(float(np.mean(predicted == study.predicted(place))))
        survives.append(float(np.mean(instrument.ask(back).classes == wanted)))
        patients.append(study.patient(place))
    if not follows:
        return not_applicable("inside_swap", title, "The model gives every vertebra the same class; none can follow.")
    following, surviving = mean_over_patients(follows, patients), mean_over_patients(survives, patients)
    ratio = following.estimate / surviving.estimate if surviving.estimate > 0 else float("nan")
    return CheckResult(
        key="inside_swap",
        title=title,
        outcome=Outcome.PASSED if ratio >= LEAST_FOLLOWING else Outcome.FAILED,
        numbers={
            "following": following,
            "round_trip": surviving,
            "ratio": ratio,
            "unchanged": mean_over_patients(stays, patients),
            "vertebrae": len(follows),
        },
        threshold=f"following / round trip >= {LEAST_FOLLOWING}",
        sentence=(
            f"The prediction follows the transplanted content in {following.estimate:.1%} of the swaps; the resampling "
            f"alone keeps the donor's class in {surviving.estimate:.1%}."
        ),
    )


def _donors_of_another_class(study: Study, place: Place) -> list[Place]:
    """Vertebrae that the model gives another class, the classes taking turns, of other cases where there are any."""
    own = study.predicted(place)
    generator = study.generator(2, place.scan, place.vertebra)
    others = [other for other in study.places if study.predicted(other) != own]
    shuffled = [others[i] for i in generator.permutation(len(others))]
    turns: dict[int, int] = {}
    ranked = []
    for other in shuffled:
        group = study.predicted(other)
        turns[group] = turns.get(group, 0) + 1
        ranked.append((other.scan == place.scan, turns[group], other))
    return [other for *_, other in sorted(ranked, key=lambda entry: entry[:2])][: study.donors]


def region_variants(region: Region, grid: Geometry) -> dict[str, Region]:
    """The region moved along each array axis, grown and shrunk; a variant of which nothing is left is missing."""
    axes = ("left-right", "head-feet", "front-back")
    made = {
        f"{name} {sign * SHIFT_MM:+g} mm": moved_region(region, grid, axis, sign * SHIFT_MM)
        for axis, name in enumerate(axes)
        for sign in (-1, 1)
    }
    made[f"grown {GROWTH_MM:g} mm"] = grown_region(region, grid, GROWTH_MM)
    made[f"shrunk {GROWTH_MM:g} mm"] = grown_region(region, grid, -GROWTH_MM)
    return {name: variant for name, variant in made.items() if variant is not None}


def region_shift(instrument: Instrument, study: Study) -> CheckResult:
    """How much the class depends on where exactly the region lies: its shape is predicted from the whole image."""
    flips, largest, patients = [], [], []
    by_variant: dict[str, list[bool]] = {}
    for place in study.chosen:
        question = study.question(place)
        variants = region_variants(question.region, question.grid)
        asked = [replace(question, region=region) for region in variants.values()]
        region_changes = changes(instrument.reference(question, len(asked)), instrument.ask(asked))
        for name, change in zip(variants, region_changes, strict=True):
            by_variant.setdefault(name, []).append(change.flipped)
        flips.append(float(np.mean([change.flipped for change in region_changes])))
        largest.append(float(np.mean([change.largest_probability for change in region_changes])))
        patients.append(study.patient(place))
    rate, mean_change = mean_over_patients(flips, patients), mean_over_patients(largest, patients)
    worst = max(by_variant, key=lambda name: np.mean(by_variant[name]))
    return CheckResult(
        key="region_shift",
        title="region moved, grown, shrunk",
        outcome=Outcome.REPORTED,
        numbers={
            "flip_rate": rate,
            "mean_probability_change": mean_change,
            **{f"flip rate, {name}": float(np.mean(flipped)) for name, flipped in by_variant.items()},
        },
        sentence=(
            f"Moving the region by {SHIFT_MM:g} mm or its border by {GROWTH_MM:g} mm (at least one voxel, so a slice "
            f"where slices are thick) changes the class in {rate.estimate:.1%}; most often: {worst}."
        ),
    )
