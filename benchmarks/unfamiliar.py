"""Which images are told to be unlike those of training: false alarms on further patients, and altered scans found.

    python benchmarks/unfamiliar.py [--dataset RAW/Dataset002_LumbarMRI] [--repeats 20]

The patients of the two large sources of T2 scans are parted into two halves, every second one. What to measure was
chosen with a look at all scans, the limits' constants on the first half, the further patients and phantoms. Here the
limits come from patients of the first half and the scans of the second are judged, as they are and altered. Then limits
from fewer patients, drawn at random; limits from one source alone, against the scans of the other; the scans of two
further patients, most of them T1 and STIR; and phantoms, T2 against T1 and STIR of the same anatomy. Counted is what is
said of a scan at all, and of its grid, its contrast (by the limits of single numbers, and by all of them together) and
its quality. Takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from common import DATA, provenance, score_text
from scipy import ndimage

from spinecls.evaluation import intervals
from spinecls.geometry import Geometry
from spinecls.io.images import read_image
from spinecls.planning.appearance import appearance
from spinecls.planning.familiarity import CHANNEL, CONTRAST, GRID, familiar_images, unfamiliar
from spinecls.planning.plan import FamiliarImages
from spinecls.planning.volume import body_mask
from spinecls.testing.phantom import PhantomOptions, make_case

SOURCES = ("VB2", "VB3")
FEWER_PATIENTS = (5, 10, 15, 20)
PHANTOMS = 40
SEQUENCES = ("T2", "T1", "STIR")

Alteration = Callable[[np.ndarray, Geometry, np.random.Generator], tuple[np.ndarray, Geometry]]


@dataclass(frozen=True)
class Scan:
    """What is compared of a scan, and which it is."""

    identifier: str
    patient: str
    source: str
    sequence: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    appearance: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Limits:
    """As much of a plan as is needed."""

    familiar: FamiliarImages | None
    channel_names: tuple[str, ...] = ("T2",)


def main() -> None:
    options = parse()
    rows = list(csv.DictReader((options.dataset / "cases.csv").open()))
    images = {row["case"]: read_image([options.dataset / f"imagesTr/{row['case']}_0000.nii.gz"]) for row in rows}
    scans = {row["case"]: scan_of(row, images[row["case"]].array, images[row["case"]].geometry) for row in rows}
    large = [row for row in rows if row["set"] in SOURCES]
    halves: tuple[list[dict], list[dict]] = ([], [])
    for source in SOURCES:
        for number, row in enumerate(row for row in large if row["set"] == source):
            halves[number % 2].append(row)
    first, second = ([scans[row["case"]] for row in half] for half in halves)
    altered = {"as they are": second}
    for name, alter in ALTERATIONS.items():
        rng = np.random.default_rng(0)
        volumes = [(row, images[row["case"]]) for row in halves[1]]
        altered[name] = [scan_of(row, *alter(volume.array, volume.geometry, rng)) for row, volume in volumes]
    print(f"\n{len(first)} patients for the limits, {len(second)} judged; {provenance()}\n")
    print(HEADER)
    limits = limits_of(first)
    for name, judged in altered.items():
        print(line(name, judged, [limits]))
    others = [scan for scan in scans.values() if scan.source not in SOURCES]
    for sequence in ("T1", "STIR", "T2"):
        chosen = [scan for scan in others if scan.sequence == sequence]
        print(line(f"{sequence} of another hospital ({len(chosen)} scans)", chosen, [limits]))
    for known, other in (SOURCES, SOURCES[::-1]):
        chosen = [scan for scan in first + second if scan.source == other]
        alone = limits_of([scan for scan in first + second if scan.source == known])
        print(line(f"T2 of {other} by limits of {known}", chosen, [alone]))
    for count in FEWER_PATIENTS:
        rng = np.random.default_rng(count)
        drawn = [limits_of(rng.permutation(np.array(first, object))[:count]) for _ in range(options.repeats)]
        for name in ("as they are", *FEWER):
            print(line(f"{name}; {count} patients", altered[name], drawn))
    phantoms = phantom_scans()
    limits = limits_of(phantoms["T2"][: PHANTOMS // 2])
    for sequence in SEQUENCES:
        print(line(f"phantom {sequence} by phantom T2", phantoms[sequence][PHANTOMS // 2 :], [limits]))
    seconds = [seconds_of(volume.array, volume.geometry) for volume in images.values()]
    print(f"\nseconds to measure a scan: median {np.median(seconds):.2f}, at most {max(seconds):.2f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=DATA / "Dataset002_LumbarMRI")
    parser.add_argument("--repeats", type=int, default=20, help="draws of fewer patients")
    return parser.parse_args()


def scan_of(row: dict, image: np.ndarray, geometry: Geometry) -> Scan:
    return Scan(
        identifier=row["case"],
        patient=row["patient"],
        source=row["set"],
        sequence=row["sequence"],
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        appearance=appearance(image, geometry.spacing_mm),
    )


def seconds_of(image: np.ndarray, geometry: Geometry) -> float:
    began = time.perf_counter()
    appearance(image, geometry.spacing_mm)
    return time.perf_counter() - began


def limits_of(scans: Sequence[Scan]) -> Limits:
    return Limits(familiar_images(list(scans)))


def phantom_scans() -> dict[str, list[Scan]]:
    """The same anatomy in every sequence, each as a scan of one channel."""
    options = PhantomOptions(channels=SEQUENCES, shape=(16, 128, 96))
    scans: dict[str, list[Scan]] = {sequence: [] for sequence in SEQUENCES}
    for seed in range(PHANTOMS):
        case = make_case(np.random.default_rng(seed), options)
        row = {"case": f"phantom_{seed}", "patient": f"phantom_{seed}", "set": "phantom"}
        for channel, sequence in enumerate(SEQUENCES):
            image = case.image[channel : channel + 1]
            scans[sequence].append(scan_of(row | {"sequence": sequence}, image, case.geometry))
    return scans


# --- alterations ------------------------------------------------------------------------------------------------


def body_percentiles(image: np.ndarray, geometry: Geometry, shares: Sequence[float]) -> np.ndarray:
    return np.percentile(image[0][body_mask(image, geometry.spacing_mm)], shares)


def inverted(image: np.ndarray, geometry: Geometry, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
    """Bright tissue dark and dark tissue bright, while air stays dark."""
    dark, bright = body_percentiles(image, geometry, (10, 99.9))
    return np.interp(image, (0, dark, bright), (0, bright - dark, 0)).astype(np.float32), geometry


def noisy(share: float) -> Alteration:
    """Rician noise with a standard deviation of `share` of the spread of the body's brightness."""

    def alter(image, geometry, rng):
        low, high = body_percentiles(image, geometry, (5, 95))
        real, imaginary = rng.normal(0, share * (high - low), (2, *image.shape))
        return np.hypot(image + real, imaginary).astype(np.float32), geometry

    return alter


def blurred(sigma_mm: float) -> Alteration:
    def alter(image, geometry, rng):
        sigma = [0, 0, *(sigma_mm / s for s in geometry.spacing_mm[1:])]
        return ndimage.gaussian_filter(image, sigma, mode="nearest"), geometry

    return alter


def cut(share: float) -> Alteration:
    """`share` of the rows, at a random place."""

    def alter(image, geometry, rng):
        rows = round(share * image.shape[2])
        start = int(rng.integers(0, image.shape[2] - rows + 1))
        stop = (geometry.shape[0], start + rows, geometry.shape[2])
        return image[:, :, start : start + rows], geometry.cropped((0, start, 0), stop)

    return alter


def coarse(spacing_mm: float, back: bool) -> Alteration:
    """In plane on a coarser grid, and `back` on that of before."""

    def alter(image, geometry, rng):
        factors = [1, 1, *(s / spacing_mm for s in geometry.spacing_mm[1:])]
        smooth = ndimage.gaussian_filter(image, [0, 0, *(0.4 / f for f in factors[2:])], mode="nearest")
        small = ndimage.zoom(smooth, factors, order=1)
        if back:
            return ndimage.zoom(small, np.divide(image.shape, small.shape), order=1), geometry
        return small, replace(geometry, shape=small.shape[1:], spacing_mm=(geometry.spacing_mm[0], *[spacing_mm] * 2))

    return alter


def fewer_slices(image: np.ndarray, geometry: Geometry, rng: np.random.Generator) -> tuple[np.ndarray, Geometry]:
    """Every second slice."""
    half = image[:, ::2]
    spacing_mm = (2 * geometry.spacing_mm[0], *geometry.spacing_mm[1:])
    return half, replace(geometry, shape=half.shape[1:], spacing_mm=spacing_mm)


def ghosts(share: float) -> Alteration:
    """Copies a quarter of the field of view away, head and feet, as of motion along the phase direction."""

    def alter(image, geometry, rng):
        step = image.shape[2] // 4
        copies = (np.roll(image, step, axis=2) + np.roll(image, -step, axis=2)) / 2
        return ((1 - share) * image + share * copies).astype(np.float32), geometry

    return alter


def replaced_by_a_phantom(
    image: np.ndarray, geometry: Geometry, rng: np.random.Generator
) -> tuple[np.ndarray, Geometry]:
    """A T2 phantom on a grid of the usual lumbar kind."""
    case = make_case(rng, PhantomOptions(shape=(19, 224, 224), spacing_mm=(4.0, 1.0, 1.0)))
    return case.image, case.geometry


ALTERATIONS: dict[str, Alteration] = {
    "contrast inverted": inverted,
    "noise of 3 %": noisy(0.03),
    "noise of 10 %": noisy(0.1),
    "blur of 1 mm": blurred(1.0),
    "blur of 2 mm": blurred(2.0),
    "75 % of the rows": cut(0.75),
    "60 % of the rows": cut(0.6),
    "40 % of the rows": cut(0.4),
    "on 2 mm in plane": coarse(2.0, back=False),
    "by way of 2 mm in plane": coarse(2.0, back=True),
    "every second slice": fewer_slices,
    "ghosts of 25 %": ghosts(0.25),
    "a phantom in its place": replaced_by_a_phantom,
}
FEWER = ("contrast inverted", "noise of 3 %", "blur of 1 mm", "60 % of the rows")


# --- table ------------------------------------------------------------------------------------------------------

HEADER = "| scans | told unlike | grid | contrast, single | contrast, together | quality |\n|---|---|---|---|---|---|"
KINDS = {
    "grid": [number.words for number in GRID.values()],
    "contrast, single": [CHANNEL[name].words for name in CONTRAST],
    "contrast, together": ["contrast, all"],
    "quality": [number.words for name, number in CHANNEL.items() if name not in CONTRAST] + ["too small"],
}


def kinds_of(said: Sequence[str]) -> set[str]:
    texts = [text.removeprefix("T2: ") for text in said]
    return {kind for kind, words in KINDS.items() for text in texts if text.startswith(tuple(words))}


def line(name: str, scans: Sequence[Scan], all_limits: Sequence[Limits]) -> str:
    """A row of the table: the share of scans, mean over the limits, with its interval over patients."""
    said = [
        [unfamiliar(scan.shape, scan.spacing_mm, scan.appearance, limits) for limits in all_limits] for scan in scans
    ]
    patients = [scan.patient for scan in scans]
    draws = intervals.draw_patients(patients)

    def share(counts: Callable[[Sequence[str]], bool]) -> dict:
        rates = np.array([np.mean([counts(reasons) for reasons in found]) for found in said])
        return intervals.interval(lambda w: (w * rates).sum(axis=1) / w.sum(axis=1), patients, draws).as_dict()

    parts = [f"{share(lambda reasons, kind=kind: kind in kinds_of(reasons))['estimate']:.2f}" for kind in KINDS]
    return f"| {name} | {score_text(share(bool), 2)} | {' | '.join(parts)} |"


if __name__ == "__main__":
    main()
