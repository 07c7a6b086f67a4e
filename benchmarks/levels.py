"""Naming of vertebrae on real lumbar MRI: whole scans, and the same scans cut short head to feet.

    python benchmarks/levels.py --results /tmp/lumbar/results --preprocessed /tmp/lumbar/preprocessed \
        --dataset Dataset002_LumbarMRI --trainer AuxSegTrainer --folds 0 1

Every validation case of the folds is predicted by the model that did not see its patient: whole, and cut to 60 % and
40 % of its rows, each at the head end, in the middle and at the feet end. What is cut off is cut off before anything
else, so the model never sees it, and annotated vertebrae whose centre is cut off do not count. Prints identification
by visible fraction, how errors part between cases whose numbering the model doubts and the others, the time of peaks
and decoding, every wrong case, and whether scans of one person are named alike. With --pictures, wrong cases are drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from common import provenance, score_text

from spinecls.evaluation import matching, summary
from spinecls.evaluation.trivial_counter import commonest_lowest_level
from spinecls.inference import locating
from spinecls.inference.case_results import case_prediction
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.preprocessed import load_case
from spinecls.trainers.validation import plan_description

FRACTIONS = (1.0, 0.6, 0.4)
PLACES = {"head end": 0.0, "middle": 0.5, "feet end": 1.0}


def main() -> None:
    options = parse(__doc__)
    torch.set_num_threads(options.threads)
    outcomes = defaultdict(list)
    named, seconds = {}, []
    for fold in options.folds:
        run_fold(options, fold, outcomes, named, seconds)
    report(options, outcomes, named, seconds)


def parse(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--preprocessed", type=Path, required=True)
    parser.add_argument("--dataset", default="Dataset002_LumbarMRI")
    parser.add_argument("--trainer", default="AuxSegTrainer")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=Path, help="folder for a picture of every case with a wrong name")
    return parser.parse_args()


def run_fold(options: argparse.Namespace, fold: str, outcomes, named, seconds) -> None:
    preprocessed = options.preprocessed / options.dataset
    folder = options.results / options.dataset / f"{options.trainer}__spineclsPlans__{options.configuration}"
    model = load_predictor(choose_model(ModelChoice(folder=folder, folds=(fold,))), torch.device("cpu"), augment=False)
    split = json.loads((preprocessed / "splits_final.json").read_text())[int(fold)]
    time_decoding(model, seconds)
    description = plan_description(model.plan)
    grid = f"spineclsPlans_{options.configuration}"
    levels = [[v.level for v in load_case(preprocessed, grid, case).vertebrae] for case in split["train"]]
    lowest = commonest_lowest_level(levels)
    for identifier, fraction in itertools.product(split["val"], FRACTIONS):
        case = load_case(preprocessed, grid, identifier)
        for place, share in PLACES.items() if fraction < 1 else (("whole", 0.0),):
            image, geometry, truth_map, truth = cut(case, fraction, share, description)
            if not truth.centres_lps:
                continue
            unlike = bool(model.image_warnings(case.native, case.native_geometry))
            volume = model.predict_volume(image, geometry, unlike)
            dice = {} if truth_map is None else summary.dice_by_level(truth_map, volume.level_map, description)
            predicted = case_prediction(truth.identifier, volume, model.plan, {})
            predicted = dataclasses.replace(predicted, class_names=())
            plain = dataclasses.replace(description, class_names=())
            judged = matching.judge([predicted], [dataclasses.replace(truth, dice=dice)], plain, lowest)[0]
            outcomes[fraction, place].append((judged, volume))
            if fraction == 1:
                named[identifier] = (case.patient, [(v.level, v.centre_lps) for v in volume.vertebrae])
            if options.pictures and any(v.match.status != matching.IDENTIFIED for v in judged.vertebrae):
                draw(options.pictures / f"{truth.identifier}.png", image, geometry, truth, volume)


def cut(case, fraction: float, share: float, description):
    """Image, grid, map and truth of the part of a case that stays."""
    rows = case.native_geometry.shape[1]
    length = max(8, round(fraction * rows))
    first = round(share * (rows - length))
    view = (slice(None), slice(first, first + length))
    shape = case.native_geometry.shape
    geometry = case.native_geometry.cropped((0, first, 0), (shape[0], first + length, shape[2]))
    placed = {v.level: v.centre_lps for v in case.vertebrae if v.centre_lps is not None}
    centres = {level: centre for level, centre in placed.items() if bool(geometry.contains(np.asarray(centre)))}
    percent = round(100 * fraction)
    truth = matching.CaseTruth(
        identifier=case.identifier if fraction == 1 else f"{case.identifier}_{percent}_{round(100 * share)}",
        patient=case.patient,
        centres_lps=centres,
    )
    truth_map = None if case.native_map is None else case.native_map[view]
    return case.native[(slice(None), *view)], geometry, truth_map, truth


def time_decoding(model, seconds: list[float]) -> None:
    """Measure peaks, outliers and decoding inside `locate`."""
    for name in ("find_centres", "drop_outliers", "decode_levels", "see_anchors"):
        original = getattr(locating, name)
        if hasattr(original, "timed"):
            continue

        def timed(*arguments, original=original, first=name == "find_centres", **options):
            began = time.perf_counter()
            result = original(*arguments, **options)
            spent = time.perf_counter() - began
            if first:
                seconds.append(0.0)
            seconds[-1] += spent
            return result

        timed.timed = True
        setattr(locating, name, timed)


def report(options: argparse.Namespace, outcomes, named, seconds) -> None:
    print(f"\n{options.dataset}, {options.trainer}, folds {' '.join(options.folds)}; {provenance()}\n")
    whole = summary.summarise([o for o, _ in outcomes[1.0, "whole"]], _no_classes(), None, None)
    rows = (
        "identification_rate",
        "identification_rate_half_pitch",
        "whole_case_right",
        "off_by_one_rate",
        "centre_error_mm",
        "f1_10mm",
        "dice",
    )
    print("| whole scans | value [95 % interval] |\n|---|---|")
    print("\n".join(f"| {row} | {score_text(whole['location'][row])} |" for row in rows))
    counter = [v.counter_right for o, _ in outcomes[1.0, "whole"] for v in o.vertebrae if v.match]
    print(f"| trivial counter | {np.mean(counter):.3f} |")
    print(f"\npeaks, outliers and decoding: median {np.median(seconds):.4f} s, largest {max(seconds):.4f} s a case\n")
    print("| part seen | where | cases | identification | counter | doubted | wrong, doubted | wrong, not doubted |")
    print("|---|---|---|---|---|---|---|---|")
    for fraction in FRACTIONS:
        places = [place for f, place in outcomes if f == fraction]
        for place in (*places, *(["all"] if len(places) > 1 else [])):
            cases = [o for p in ([place] if place != "all" else places) for o, _ in outcomes[fraction, p]]
            print_row(fraction, place, cases)
    print("\nevery case that is not all right:")
    for key, cases in outcomes.items():
        for outcome, volume in cases:
            wrong = [
                f"{v.level}: {v.match.status} {v.match.named or ''}".strip()
                for v in outcome.vertebrae
                if v.match and v.match.status != matching.IDENTIFIED
            ]
            if wrong:
                margin = volume.located.decoding.shift_margin_nats
                doubt = "doubted" if outcome.doubted else "not doubted"
                print(f"- {outcome.identifier} ({key[1]}): {', '.join(wrong)} ({doubt}, margin {margin:.1f} nats)")
    compare_scans_of_one_person(named)


def _no_classes():
    from spinecls.records import DatasetDescription

    return DatasetDescription(name="", channel_names=(), class_names=(), file_ending="")


def print_row(fraction: float, place: str, cases) -> None:
    location = summary.summarise(cases, _no_classes(), None, None)["location"]
    doubt = location["numbering_doubt"]
    counter = np.mean([v.counter_right for o in cases for v in o.vertebrae if v.match])
    scores = (doubt["doubted_cases"], doubt["wrong_names_when_doubted"], doubt["wrong_names_when_not_doubted"])
    cells = [score_text(location["identification_rate"]), f"{counter:.3f}", *map(score_text, scores)]
    print(f"| {fraction:.0%} | {place} | {len(cases)} | " + " | ".join(cells) + " |")


def compare_scans_of_one_person(named) -> None:
    groups = defaultdict(list)
    for identifier, (patient, vertebrae) in named.items():
        groups[patient].append((identifier, vertebrae))
    for patient, scans in groups.items():
        for (first, a), (second, b) in itertools.combinations(scans, 2):
            pairs = [(la, lb) for la, ca in a for lb, cb in b if np.linalg.norm(np.subtract(ca, cb)) < 8]
            alike = sum(la == lb for la, lb in pairs)
            # Scans of one session share the scanner's coordinates; others have no places in common.
            if len(pairs) >= 3:
                print(f"patient {patient}, {first} and {second}: {alike} of {len(pairs)} vertebrae named alike")


def draw(path: Path, image, geometry, truth, volume) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    middle = np.median([geometry.to_index(np.asarray(c))[0] for c in truth.centres_lps.values()])
    plane = image[0, int(np.clip(round(middle), 0, image.shape[1] - 1))]
    figure, axis = plt.subplots(figsize=(6, 6 * plane.shape[0] / plane.shape[1] + 0.5))
    axis.imshow(plane, cmap="gray", aspect=geometry.spacing_mm[1] / geometry.spacing_mm[2])
    for level, centre in truth.centres_lps.items():
        _, row, column = geometry.to_index(np.asarray(centre))
        axis.text(column + 12, row, level, color="lime")
        axis.plot(column, row, "+", color="lime")
    for vertebra in volume.vertebrae:
        _, row, column = geometry.to_index(np.asarray(vertebra.centre_lps))
        axis.text(column - 30, row, vertebra.level, color="orange")
        axis.plot(column, row, "x", color="orange")
    margin = volume.located.decoding.shift_margin_nats
    axis.set_title(f"{truth.identifier}\ngreen true, orange predicted; margin {margin:.1f} nats", fontsize=8)
    axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()
