"""How much of the outlines' worth looser annotation keeps: Dice of an instance and class AUC, against the time to draw.

    python benchmarks/loose_annotation.py --dataset RAW/Dataset002_LumbarMRI --folder FOLDER --steps 1500
    python benchmarks/loose_annotation.py --dataset RAW/Dataset002_LumbarMRI --folder FOLDER --steps 1500 --folds 0 1

For every form three trainings of each fold, of the same steps and seed: `dense` learns from exact maps (AuxSegTrainer),
`naive` from the loose form as if it were a mask (AuxSegTrainer on boxes filled, points as ellipsoids of the median size
of a vertebra, strokes and coarse outlines as they are), `method` from the form as what it is (UncertainLabelsTrainer).
Every arm is planned from its own annotation, as its user's would be, and `method` is another trainer, so the gap that
is closed holds what these bring. Validation cases are scored against the exact maps, and where the dataset has classes
by the macro AUC end to end as well; classes and outlines of lesions are exact in all forms. Finished trainings are kept
in the folder, so the table can grow.
Dice is told a second time for the cases whose vertebrae all arms name right: a misnamed scan has a Dice of 0, and which
scan that is differs between trainings by chance.
Gap-closing ratio: (method - naive) / (dense - naive), where the interval of dense - naive lies above 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import held_out
import matplotlib.pyplot as plt
import numpy as np
import torch
from common import provenance
from held_out import text
from trainings import Run, Trainings, link

from spinecls import files
from spinecls.curve import image_tangents_lps
from spinecls.dataloading.forms import inside_box
from spinecls.evaluation import intervals
from spinecls.evaluation.matching import CaseOutcome
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_image, read_label_map, write_map
from spinecls.sealing.region import ellipsoid_distance, vertebra_axes

FORMS = {
    "tight box": ("--form", "box"),
    "loose box": ("--form", "box", "--slack_mm", "2", "6"),
    "coarse": ("--form", "coarse"),
    "point": ("--form", "point"),
    "scribble": ("--form", "scribble"),
}
LARGE_MM = np.array([42.0, 28.0, 34.0])
"""Usual size of a lumbar body, left-right, along the spine, front-back: what somebody would fill in at a point."""

EXACT = "Dataset100_Exact"
NAIVE, METHOD = "AuxSegTrainer", "UncertainLabelsTrainer"
DICE, IDENTIFIED, AUC = "Dice of an instance", "identification rate", "macro AUC, end to end"


def make_naive(bench: Trainings, loose: str, naive: str) -> None:
    """The loose dataset with maps that take the form for an outline."""
    if bench.raw(naive).exists():
        return
    source = load_dataset(bench.raw(loose))
    partial = bench.raw(naive).with_name(f"{naive}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(bench.raw(loose), partial)
    (partial / "annotationsTr.json").unlink(missing_ok=True)
    for case in source.cases:
        volume = read_image(case.images)
        codes = source.description.levels
        if case.vertebra_maps:
            labels, _ = read_label_map(next(iter(case.vertebra_maps.values())))
            if case.annotation_form.vertebrae.form == "scribble":
                labels = np.where(labels == source.description.ignore_label, 0, labels)
        else:
            labels = filled(case, volume.geometry, codes)
        (partial / "labelsTr").mkdir(exist_ok=True)
        path = partial / "labelsTr" / f"{case.identifier}{source.description.file_ending}"
        write_map(path, labels.astype(np.uint8), volume.source, volume.geometry)
    partial.rename(bench.raw(naive))


def filled(case, geometry, codes) -> np.ndarray:
    """Boxes filled, points as ellipsoids; a voxel of several belongs to the one whose middle is nearest."""
    placed = [v for v in case.vertebrae if v.centre_lps is not None or v.box_lps is not None]
    middles = np.array([v.centre_lps if v.box_lps is None else np.mean(v.box_lps, axis=0) for v in placed])
    tangents = image_tangents_lps(middles, geometry)
    labels, nearest = np.zeros(geometry.shape, np.uint8), np.full(geometry.shape, np.inf)
    for vertebra, middle, tangent in zip(placed, middles, tangents, strict=True):
        if vertebra.box_lps is not None:
            inside = inside_box(geometry, *map(np.asarray, vertebra.box_lps))
        else:
            inside = ellipsoid_distance(geometry, middle, vertebra_axes(geometry, tangent), LARGE_MM) <= 1
        distance = ellipsoid_distance(geometry, middle, np.eye(3), np.full(3, 2.0))
        own = inside & (distance < nearest)
        labels[own], nearest[own] = codes[vertebra.level], distance[own]
    return labels


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset with exact maps")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--folds", nargs="+", default=["0"], help="judged together")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    bench = Trainings(options.folder, options.steps, options.threads)
    bench.remember(options.dataset)
    link(bench.raw(EXACT), options.dataset)
    bench.prepare(EXACT)
    datasets = {form: prepared(bench, form) for form in options.forms}

    def of_folds(dataset: str, trainer: str) -> list[Run]:
        return [Run(dataset, trainer, fold) for fold in options.folds]

    exact = of_folds(EXACT, NAIVE)
    runs = {form: (of_folds(naive, NAIVE), of_folds(loose, METHOD)) for form, (naive, loose) in datasets.items()}
    bench.forecast([*exact, *(run for arms in runs.values() for arm in arms for run in arm)])
    dense = scored(bench, exact)
    told, points, arms = {name: [] for name in dense.scores}, [], {}
    for number, (form, (naive_runs, method_runs)) in enumerate(runs.items()):
        naive, method = scored(bench, naive_runs), scored(bench, method_runs)
        arms[form] = (naive.outcomes, method.outcomes)
        for name in dense.scores:
            told[name].append(row_text(form, *(s.scores[name] for s in (naive, method, dense)), dense.draws))
        times = [float(row["seconds"]) for row in files.read_csv(bench.raw(datasets[form][1]) / "loosening.csv")]
        values = [s.scores[DICE].interval(dense.draws) for s in (naive, method)]
        points.append((form, float(np.mean(times)), *values))
        print(f"{number + 1} of {len(options.forms)} forms done", flush=True)
    print(f"\nfolds {' '.join(options.folds)}, {options.steps} steps; {provenance()}")
    for name, rows in told.items():
        print_table(name, text(dense.scores[name].interval(dense.draws)), rows)
    print_named_right(dense.outcomes, arms)
    draw(bench.folder / "dice_against_time.png", points, dense.scores[DICE].interval(dense.draws))


def prepared(bench: Trainings, form: str) -> tuple[str, str]:
    """The datasets of a form, naive and as it is, made and preprocessed."""
    number, word = 101 + 2 * list(FORMS).index(form), form.title().replace(" ", "")
    loose, naive = f"Dataset{number}_{word}", f"Dataset{number + 1}_{word}Naive"
    bench.loosen(EXACT, loose, *FORMS[form])
    make_naive(bench, loose, naive)
    for name in (loose, naive):
        bench.prepare(name, folds_of=EXACT)
    return naive, loose


@dataclasses.dataclass(frozen=True)
class Scored:
    """Scores of the trainings of an arm by their names, and the draws of their validation patients."""

    scores: dict[str, held_out.Score]
    draws: intervals.PatientDraws
    outcomes: Sequence[CaseOutcome]


def scored(bench: Trainings, runs: Sequence[Run]) -> Scored:
    """Train, predict the validation cases once, and score them; classes are scored where the dataset has some."""
    outcomes, plans = [], []
    for run in runs:
        model = bench.train(run)
        outcomes += held_out.judged_fold(model, run.fold, bench.preprocessed(EXACT))
        plans.append(held_out.fold_plan(model, run.fold))
    scores = {DICE: held_out.dice(outcomes), IDENTIFIED: held_out.identification(outcomes)}
    if len(plans[0].class_names) > 1:
        prior = np.mean([held_out.training_prior(plan) for plan in plans], axis=0)
        scores[AUC] = held_out.macro_auc(outcomes, prior)
    return Scored(scores, held_out.draws_of(outcomes), outcomes)


def print_table(name: str, dense: str, rows: Sequence[str]) -> None:
    print(f"\n{name}; dense: {dense}\n")
    print("| form | naive | method | method - naive | dense - naive | gap closed |\n|---|---|---|---|---|---|")
    print("\n".join(rows))


def print_named_right(dense: Sequence[CaseOutcome], arms: Mapping[str, tuple[Sequence[CaseOutcome], ...]]) -> None:
    """Dice in the cases of which every arm found all vertebrae under their names."""
    every = [dense, *(outcomes for pair in arms.values() for outcomes in pair)]
    kept = [row for row in range(len(dense)) if all(named_right(outcomes[row]) for outcomes in every)]
    if not kept:
        return
    draws = held_out.draws_of([dense[row] for row in kept])

    def dice(outcomes: Sequence[CaseOutcome]) -> held_out.Score:
        return held_out.dice([outcomes[row] for row in kept])

    rows = [row_text(form, dice(naive), dice(method), dice(dense), draws) for form, (naive, method) in arms.items()]
    print_table(f"{DICE}, {len(kept)} cases named right by all", text(dice(dense).interval(draws)), rows)


def named_right(outcome: CaseOutcome) -> bool:
    return held_out.identification([outcome]).interval(held_out.draws_of([outcome])).estimate == 1


def row_text(form: str, naive: held_out.Score, method: held_out.Score, dense: held_out.Score, draws) -> str:
    cells = [text(naive.interval(draws)), text(method.interval(draws))]
    cells += [text(method.less(naive, draws)), text(dense.less(naive, draws))]
    return f"| {form} | {' | '.join(cells)} | {held_out.closed_text(naive, dense, method, draws)} |"


def draw(path: Path, points, dense) -> None:
    """Figure: Dice of every form against the seconds to draw a vertebra."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.axhspan(dense.low, dense.high, color="0.9")
    axes.axhline(dense.estimate, color="0.4", label="exact outlines")
    # Forms of the same time stand side by side, and so do the two scores of a form, so that intervals can be read.
    taken = [seconds for _, seconds, *_ in points]
    places = [seconds * 1.3 ** taken[:number].count(seconds) for number, seconds in enumerate(taken)]
    for offset, (label, colour, column) in enumerate((("as if exact", "tab:orange", 2), ("as drawn", "tab:blue", 3))):
        for place, row in zip(places, points, strict=True):
            score = row[column]
            error = [[score.estimate - score.low], [score.high - score.estimate]]
            axes.errorbar(
                place * (1 + 0.06 * offset),
                score.estimate,
                error,
                fmt="o",
                color=colour,
                capsize=3,
                label=label if row is points[0] else None,
            )
    for number, (place, (form, seconds, *scores)) in enumerate(zip(places, points, strict=True)):
        # The second form of a time is named below, or the names would run into each other.
        second = taken[:number].count(seconds) % 2
        height = min(s.low for s in scores) if second else max(s.high for s in scores)
        away, side = (-4, "top") if second else (4, "bottom")
        axes.annotate(form, (place, height), xytext=(0, away), textcoords="offset points", ha="center", va=side)
    axes.set(
        xscale="log", xlabel="seconds to draw a vertebra (forms of the same time side by side)",
        ylabel="Dice of an instance",
    )  # fmt: skip
    axes.legend(loc="best")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
