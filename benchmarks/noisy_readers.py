"""What wrong classes cost, and how much of it is won back by judging the readers.

    python benchmarks/noisy_readers.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600
    python benchmarks/noisy_readers.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600 --folds 0 1 2 3
    python benchmarks/noisy_readers.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600 --second_round

From a dataset with exact classes (simulated lesions, `spinecls_simulate`) two are made whose classes three readers of
known quality gave: with all three readings, and with the class that most of them said; where all three differ nothing
is said. With the default qualities about a fifth of these majorities are wrong; the table says how many are. Three
trainings of a fold by the same trainer, plan, steps and seed:

    clean      the exact classes
    majority   what most readers said
    readers    every reading; the readers are judged by each other, and each vertebra is what they make likely

With --second_round the last is trained on all folds, and once more with `--refine`, where the fold that held a vertebra
out is one reader more:

    second round

Structures are left out, since outlines of lesions tell the class. Validation cases are scored by the exact classes.
Recovered: (arm - majority) / (clean - majority), where the interval of clean - majority lies above 0. The accuracies
that readers are found to have (mean of a matrix' diagonal, `readers.json`) are compared with how often each is right in
the training cases, over all vertebrae and as the mean over classes, which is what a diagonal holds. A run that was
stopped goes on when it is started anew.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import held_out
import numpy as np
import torch
from common import provenance
from held_out import text
from trainings import SPLITS, Run, Trainings, maps_of, without_structures, write_raw

from spinecls import files
from spinecls.evaluation import metrics
from spinecls.evaluation.truth import class_of
from spinecls.io.dataset import load_dataset

EXACT, READERS, MAJORITY = "Dataset140_Exact", "Dataset141_Readers", "Dataset142_Majority"
TRAINER = "UncertainLabelsTrainer"
ARMS = {"clean": EXACT, "majority": MAJORITY, "readers": READERS}
SECOND = "second round"


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    bench = Trainings(options.folder, options.steps, options.threads)
    make_datasets(bench, options)
    arms = {arm: [Run(dataset, TRAINER, fold) for fold in options.folds] for arm, dataset in ARMS.items()}
    others = []
    if options.second_round:
        folds = map(str, range(len(files.read_json(bench.preprocessed(READERS) / SPLITS))))
        others = [Run(READERS, TRAINER, fold) for fold in folds if fold not in options.folds]
        arms[SECOND] = [Run(READERS, TRAINER, fold, refine=True) for fold in options.folds]
    runs = [*itertools.chain(*zip(*arms.values(), strict=True)), *others]
    readings = [training_readings(bench, fold) for fold in options.folds]
    bench.forecast(runs)
    # The second round comes last, for it needs the first of all folds.
    for run in sorted(runs, key=lambda run: run.refine):
        bench.train(run)
    plans = [held_out.fold_plan(bench.model(run), run.fold) for run in arms["clean"]]
    prior = np.mean([held_out.training_prior(plan) for plan in plans], axis=0)
    outcomes = {arm: list(itertools.chain(*(judged(bench, run) for run in own))) for arm, own in arms.items()}
    draws = held_out.draws_of(outcomes["clean"])
    scores = {arm: held_out.macro_auc(found, prior) for arm, found in outcomes.items()}
    print(f"\nfolds {' '.join(options.folds)}, {options.steps} steps; {provenance()}\n")
    print(f"{len(outcomes['clean'])} cases\n")
    print("| classes | wrong in training | macro AUC, end to end |\n|---|---|---|")
    for arm, score in scores.items():
        print(f"| {arm} | {wrong_text(arm, readings)} | {text(score.interval(draws))} |")
    print("\n| difference | macro AUC |\n|---|---|")
    compared = [arm for arm in (SECOND, "readers") if arm in arms]
    pairs = [("clean", "majority"), *((arm, "majority") for arm in compared), *itertools.pairwise(compared)]
    for first, second in pairs:
        print(f"| {first} - {second} | {text(scores[first].less(scores[second], draws))} |")
    for arm in compared:
        recovered = held_out.closed_text(scores["majority"], scores["clean"], scores[arm], draws)
        print(f"| recovered by {arm} | {recovered} |")
    print_readers([bench.fold_folder(run) / "readers.json" for run in arms["readers"]], readings, options.folds)


def judged(bench: Trainings, run: Run) -> list:
    """Validation cases of a training, judged by the exact classes."""
    return held_out.judged_fold(bench.model(run), run.fold, bench.preprocessed(EXACT))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset with exact classes")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--folds", nargs="+", default=["0"], help="judged together")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument(
        "--readers", type=float, nargs=3, default=[0.8, 0.65, 0.45], help="chance that each of them is right"
    )
    parser.add_argument("--second_round", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def make_datasets(bench: Trainings, options: argparse.Namespace) -> None:
    """The three datasets, preprocessed, with the folds and the plan of the exact one."""
    bench.remember(options.dataset)
    without_structures(options.dataset, bench.raw(EXACT))
    bench.loosen(EXACT, READERS, "--readers", *map(str, options.readers))
    made = files.read_json(bench.raw(READERS) / "loosening.json")["options"]["reader_accuracy"]
    if made != options.readers:
        raise SystemExit(f"{bench.raw(READERS)} was made with --readers {made}. Give these, or another --folder.")
    raw = load_dataset(bench.raw(READERS), verify_voxels=False)
    names = raw.description.class_names
    voted = {(case.identifier, v.level): class_of(v.readings, names) for case in raw.cases for v in case.vertebrae}
    rows = [
        row | {"class": "" if (k := voted[row["case"], row["vertebra"]]) is None else names[k]}
        for row in files.read_csv(bench.raw(EXACT) / "vertebraeTr.csv")
    ]
    write_raw(bench.raw(MAJORITY), bench.raw(EXACT), rows, maps_of(bench.raw(EXACT)))
    bench.prepare(EXACT)
    for dataset in (READERS, MAJORITY):
        bench.prepare(dataset, folds_of=EXACT, plan_of=EXACT)


@dataclass(frozen=True)
class Readings:
    """Classes of the training vertebrae that have one: the true, each reader's, and the majority's (-1 = none)."""

    truth: np.ndarray
    by_reader: dict[str, np.ndarray]
    majority: np.ndarray
    num_classes: int


def wrong_text(arm: str, readings: Sequence[Readings]) -> str:
    """Share of wrong labels that an arm learns from, over all folds."""
    if arm == "clean":
        return "0.000"
    if arm in ("readers", SECOND):
        wrong = np.concatenate([said != fold.truth for fold in readings for said in fold.by_reader.values()])
        return f"{wrong.mean():.3f} of {len(wrong)} readings"
    truth, majority = (np.concatenate([getattr(fold, name) for fold in readings]) for name in ("truth", "majority"))
    known = majority >= 0
    wrong = np.mean(majority[known] != truth[known])
    return f"{wrong:.3f} of {known.sum()} classes ({(~known).sum()} without a majority)"


def training_readings(bench: Trainings, fold: str) -> Readings:
    """What was read in the training cases of the fold."""
    train = set(bench.split(EXACT, fold)["train"])
    exact, read = (load_dataset(bench.raw(name), verify_voxels=False) for name in (EXACT, READERS))
    names = exact.description.class_names
    truth = {(c.identifier, v.level): class_of(v.readings, names) for c in exact.cases for v in c.vertebrae}
    known = [
        (truth[case.identifier, v.level], v.readings)
        for case in read.cases
        for v in case.vertebrae
        if case.identifier in train and truth[case.identifier, v.level] is not None
    ]
    readers = sorted({reading.reader for _, readings in known for reading in readings})
    said = {
        reader: np.array([class_of([r for r in readings if r.reader == reader], names) for _, readings in known])
        for reader in readers
    }
    majority = [class_of(readings, names) for _, readings in known]
    return Readings(
        truth=np.array([k for k, _ in known]),
        by_reader=said,
        majority=np.array([-1 if k is None else k for k in majority]),
        num_classes=len(names),
    )


def print_readers(paths: Sequence[Path], readings: Sequence[Readings], folds: Sequence[str]) -> None:
    """Found against true accuracy of each reader in each fold, and their correlations."""
    table = []
    print("\n| fold | reader | right, all vertebrae | right, mean over classes | found |\n|---|---|---|---|---|")
    for path, read, fold in zip(paths, readings, folds, strict=True):
        if not path.exists():
            raise SystemExit(f"{path} is missing: too few vertebrae were read by several readers to tell them apart.")
        found = {name: entry["accuracy"] for name, entry in files.read_json(path).items()}
        for name, said in read.by_reader.items():
            confusion = metrics.confusion(read.truth, said, read.num_classes)
            balanced = metrics.balanced_accuracy(confusion[None], np.unique(read.truth))[0]
            row = (np.mean(said == read.truth), balanced, found[name])
            table.append(row)
            print(f"| {fold} | {name} | {row[0]:.3f} | {row[1]:.3f} | {row[2]:.3f} |")
    correlation = np.corrcoef(np.array(table).T)[2]
    print(f"| | Pearson correlation with the found | {correlation[0]:.3f} | {correlation[1]:.3f} | |")


if __name__ == "__main__":
    main()
