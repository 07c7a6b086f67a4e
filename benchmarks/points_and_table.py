"""Are scans worth having whose vertebrae nobody outlined? A class table beside a few points, and forms mixed.

    python benchmarks/points_and_table.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600

points: a few training cases have a point at each vertebra (3 mm off); all others have a class table alone, no position.
    Trained on all of them, and on the few cases alone. Needs classes.
mixed: of the training cases a quarter has exact maps, a quarter loose boxes, a quarter points, and a quarter no
    position. Trained on all of them, and on the quarter with maps alone.

Both trainings of a pair have the same plan, trainer, steps and seed, and differ in their training cases alone. The
annotation is made by `spinecls_loosen`; structures are left out, since outlines of lesions tell where vertebrae are.
Validation cases are scored by the exact annotation, without mirrored views. A run that was stopped goes on when it is
started anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import held_out
import numpy as np
import torch
from common import provenance
from held_out import text
from trainings import Run, Trainings, maps_of, without_structures, write_raw

from spinecls import files
from spinecls.planning.plan import load_plan

EXACT, POINTS, BOXES = "Dataset130_Exact", "Dataset131_Points", "Dataset132_LooseBoxes"
LOOSENED = {POINTS: ("--form", "point"), BOXES: ("--form", "box", "--slack_mm", "2", "6")}
EVERYTHING = {"points": "Dataset133_FewPoints", "mixed": "Dataset135_Mixed"}
PART = {"points": "Dataset134_PointsAlone", "mixed": "Dataset136_MapsAlone"}
CALLED = {"points": ("points and table", "points alone"), "mixed": ("all four forms", "maps alone")}
MASK, NONE = "mask", "none"
POSITION = ("x_mm", "y_mm", "z_mm", "x_min_mm", "y_min_mm", "z_min_mm", "x_max_mm", "y_max_mm", "z_max_mm")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    bench = Trainings(options.folder, options.steps, options.threads)
    bench.remember(options.dataset)
    without_structures(options.dataset, bench.raw(EXACT))
    bench.prepare(EXACT)
    for name, words in LOOSENED.items():
        bench.loosen(EXACT, name, *words)
    classes = len(load_plan(bench.preprocessed(EXACT) / "spineclsPlans.json").class_names) > 1
    if "points" in options.parts and not classes:
        raise SystemExit(f"{options.dataset} has no classes, so a class table says nothing. Give --parts mixed.")
    trainers = {"points": options.points_trainer, "mixed": options.mixed_trainer}
    pairs = {part: prepared(bench, options, part, trainers[part]) for part in options.parts}
    bench.forecast([run for pair in pairs.values() for run in pair])
    for part, pair in pairs.items():
        report(bench, part, pair, classes)
    print(f"\nfold {options.fold}, {options.steps} steps; {provenance()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset with exact maps")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=list(EVERYTHING), choices=list(EVERYTHING))
    parser.add_argument("--fold", default="0")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--pointed", type=int, default=8, help="training cases that have points")
    parser.add_argument("--points_trainer", default="BaselineTrainer")
    parser.add_argument("--mixed_trainer", default="UncertainLabelsTrainer")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def prepared(bench: Trainings, options: argparse.Namespace, part: str, trainer: str) -> tuple[Run, Run]:
    """The two trainings of a part, of everything and of the cases alone, with their datasets preprocessed."""
    train = bench.split(EXACT, options.fold)["train"]
    drawn = [train[i] for i in np.random.default_rng(0).permutation(len(train))]
    if part == "points":
        kept, source = drawn[: options.pointed], dict.fromkeys(drawn[: options.pointed], POINTS)
    else:
        quarters = np.array_split(drawn, 4)
        kept = quarters[0].tolist()
        source = {
            case: name for name, quarter in zip((EXACT, BOXES, POINTS), quarters, strict=False) for case in quarter
        }
    write_mixed(bench, EVERYTHING[part], source)
    bench.prepare(EVERYTHING[part], folds_of=EXACT)
    bench.restrict(EVERYTHING[part], PART[part], options.fold, kept)
    return Run(EVERYTHING[part], trainer, options.fold), Run(PART[part], trainer, options.fold)


def write_mixed(bench: Trainings, target: str, source: Mapping[str, str]) -> None:
    """A raw dataset whose cases are annotated as in the dataset that `source` names; the others have no position.

    Validation cases have none either, so that nothing of their shape enters the plan.
    """
    tables = {name: by_case(files.read_csv(bench.raw(name) / "vertebraeTr.csv")) for name in LOOSENED}
    forms = {name: files.read_json(bench.raw(name) / "annotationsTr.json") for name in LOOSENED}
    rows, form_of = [], {}
    for case, listed in tables[POINTS].items():
        taken = source.get(case)
        placed = tables[taken][case] if taken in LOOSENED else listed
        rows += [row | {key: row.get(key, "") if taken in LOOSENED else "" for key in POSITION} for row in placed]
        form_of[case] = forms[taken][case] if taken in LOOSENED else {"vertebrae": {"form": MASK if taken else NONE}}
    maps = maps_of(bench.raw(EXACT), [case for case, name in source.items() if name == EXACT])
    write_raw(bench.raw(target), bench.raw(EXACT), rows, maps, form_of)


def by_case(rows: Sequence[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


def report(bench: Trainings, part: str, pair: tuple[Run, Run], classes: bool) -> None:
    """Scores of both trainings of a part, and what the one on everything gains."""
    models = [bench.train(run) for run in pair]
    outcomes = [held_out.judged_fold(m, r.fold, bench.preprocessed(EXACT)) for m, r in zip(models, pair, strict=True)]
    draws = held_out.draws_of(outcomes[0])
    scores = {"identification rate": [held_out.identification(found) for found in outcomes]}
    if part == "mixed":
        scores["Dice of an instance"] = [held_out.dice(found) for found in outcomes]
    if classes:
        plans = [held_out.fold_plan(m, r.fold) for m, r in zip(models, pair, strict=True)]
        scores["macro AUC, end to end"] = [
            held_out.macro_auc(found, held_out.training_prior(plan))
            for found, plan in zip(outcomes, plans, strict=True)
        ]
    everything, alone = CALLED[part]
    counts = [len(bench.split(run.dataset, run.fold)["train"]) for run in pair]
    print(f"\n{part}, {pair[0].trainer}: {everything}, {counts[0]} training cases; {alone}, {counts[1]}\n")
    print(f"| score | {everything} | {alone} | gain |\n|---|---|---|---|")
    for name, (first, second) in scores.items():
        gain = first.less(second, draws)
        print(f"| {name} | {text(first.interval(draws))} | {text(second.interval(draws))} | {text(gain)} |", flush=True)


if __name__ == "__main__":
    main()
