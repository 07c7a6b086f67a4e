"""Which simulated lesions a model finds, and whether its evidence points at them: by class, contrast, size and level.

    python benchmarks/found_lesions.py --model FOLDER --fold 0 --dataset RAW/Dataset011_Clean

The validation cases of one fold, by the model that did not see them, without mirrored views. A vertebra counts where
one was found within 10 mm of the annotated centre. AUC: the vertebrae of the stratum against all vertebrae of other
classes, by the probability of their class. Hit: the voxel of greatest evidence for their class lies within 3 mm of
the lesion's outline.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from common import provenance, score_text

from spinecls.anatomy import region as spinal_region
from spinecls.evaluation import intervals, metrics
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.verification.cohort import build_study, dataset_cohort
from spinecls.verification.instrument import Instrument
from spinecls.verification.measures import HIT_RADIUS_MM, distance_to_set_mm

CONTRASTS = ((0.0, 3.0), (3.0, 6.0), (6.0, np.inf))


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    model = choose_model(ModelChoice(folder=options.model, folds=(options.fold,)))
    instrument = Instrument(load_predictor(model, torch.device("cpu"), augment=False))
    cohort = dataset_cohort(options.dataset, instrument.predictor.plan, model)
    if not cohort.held_out:
        raise SystemExit(f"fold {options.fold} of {options.model} has no validated cases of {options.dataset}")
    study = build_study(instrument, cohort, vertebrae=10_000, donors=1, seed=0)
    with (options.dataset / "lesions.csv").open() as file:
        listed = [row for row in csv.DictReader(file) if row["role"] == "lesion"]
    vertebrae = [
        judged(instrument, study, place, listed) for place in study.places if truth_of(study, place) is not None
    ]
    names = instrument.predictor.plan.class_names
    print(f"\n{model.name}, fold {options.fold}; {provenance()}\n")
    print("| lesions | vertebrae | AUC | evidence hit | hit by chance |\n|---|---|---|---|---|")
    for words, chosen in strata(vertebrae, names):
        print(f"| {words} | {len(chosen)} | {auc_text(vertebrae, chosen)} | {hit_text(chosen)} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset made by spinecls_simulate")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def truth_of(study, place) -> int | None:
    return study.scans[place.scan].truth[place.vertebra]


def judged(instrument: Instrument, study, place, listed: list[dict]) -> dict:
    """Truth, probabilities, the lesion's description and whether the evidence points at it, of one vertebra."""
    scan, truth = study.scans[place.scan], truth_of(study, place)
    found = {
        "patient": scan.patient,
        "truth": truth,
        "probabilities": scan.answers.probabilities[place.vertebra],
        "lesion": None,
        "hit": None,
    }
    outline = study.lesion(place, truth) if truth else None
    if outline is None:
        return found
    native, counted = instrument.native_evidence(study.question(place), scan.answers.evidence[place.vertebra, truth])
    points = counted.geometry.to_world(np.argwhere(counted.mask))
    near = distance_to_set_mm(points, scan.grid.to_world(np.argwhere(outline))) <= HIT_RADIUS_MM
    found |= {"hit": bool(near[native[counted.mask].argmax()]), "chance": float(near.mean())}
    middle = scan.grid.to_world(np.argwhere(outline)).mean(axis=0)
    here = [row for row in listed if row["case"] == scan.identifier]
    found["lesion"] = min(here, key=lambda row: np.linalg.norm(place_of(row) - middle))
    return found


def place_of(row: dict) -> np.ndarray:
    return np.array([float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm")])


def strata(vertebrae: list[dict], names) -> list[tuple[str, list[dict]]]:
    """Groups of diseased vertebrae; those whose lesion lies outside the region are in the groups by class alone."""
    diseased = [v for v in vertebrae if v["truth"]]
    groups = [("all", diseased)]
    groups += [(name, [v for v in diseased if v["truth"] == k]) for k, name in enumerate(names) if k]
    described = [v for v in diseased if v["lesion"] is not None]
    for low, high in CONTRASTS:
        chosen = [v for v in described if low < float(v["lesion"]["contrast"]) <= high]
        groups.append((f"contrast {low:g} to {high:g}", chosen))
    groups.append(("contrast above 3", [v for v in described if float(v["lesion"]["contrast"]) > 3]))
    for key, words in (("size_grade", "size grade"), ("kind", "kind")):
        values = defaultdict(list)
        for v in described:
            values[v["lesion"][key]].append(v)
        groups += [(f"{words} {value}", values[value]) for value in sorted(values)]
    levels = defaultdict(list)
    for v in described:
        levels[spinal_region(v["lesion"]["vertebra"])].append(v)
    return [*groups, *sorted(levels.items())]


def auc_text(vertebrae: list[dict], chosen: list[dict]) -> str:
    """Mean over the classes of the chosen vertebrae of each class against the vertebrae of all others."""
    classes = sorted({v["truth"] for v in chosen})
    wanted = {id(v) for v in chosen}
    tables = []
    for k in classes:
        rows = [v for v in vertebrae if v["truth"] != k or id(v) in wanted]
        tables.append((k, rows))
    if not tables or any(len({v["truth"] == k for v in rows}) < 2 for k, rows in tables):
        return "not defined"
    patients = [v["patient"] for v in vertebrae]
    draws = intervals.draw_patients(patients)

    def macro(weights: np.ndarray) -> np.ndarray:
        areas = []
        for k, rows in tables:
            kept = {id(v) for v in rows}
            columns = [i for i, v in enumerate(vertebrae) if id(v) in kept]
            truth = np.array([v["truth"] == k for v in rows])
            scores = np.array([v["probabilities"][k] for v in rows])
            areas.append(metrics.auc_draws(truth, scores, weights[:, columns]))
        return np.mean(areas, axis=0)

    return score_text(intervals.interval(macro, patients, draws).as_dict())


def hit_text(chosen: list[dict]) -> str:
    shown = [v for v in chosen if v["hit"] is not None]
    if not shown:
        return "none | "
    patients = [v["patient"] for v in shown]
    hits = np.array([v["hit"] for v in shown], float)
    draws = intervals.draw_patients(patients)

    def rate(weights: np.ndarray) -> np.ndarray:
        return (weights * hits).sum(axis=1) / weights.sum(axis=1)

    found = intervals.interval(rate, patients, draws).as_dict()
    return f"{score_text(found)} ({len(shown)}) | {np.mean([v['chance'] for v in shown]):.2f}"


if __name__ == "__main__":
    main()
