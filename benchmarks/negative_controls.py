"""Does a model learn where there is nothing to learn? Labels permuted, labels of the neighbour, shams.

    python benchmarks/negative_controls.py --folder /tmp/controls --dataset RAW/Dataset011_Clean --folds 0 --steps 700

From a dataset of simulated lesions three are made that differ in the class table alone: as it is; classes permuted
among all vertebrae; each vertebra with the class of the one below it. On each the sealed pass is trained, with equal
steps, in regions cut by the drawn maps, and the held-out patients are scored in such regions against the same kind of
labels. The first must be well above 0.5, the others at 0.5: there is nothing in a vertebra that tells them.

Sham: the first model scores the normal vertebrae of the simulated scans, each of which went through the simulation with
amplitude 0, and the same vertebrae of the source scans (--source), which did not. It must not tell them apart, with the
same marrow numbers for both. With those of each scan it may, a little: lesions in other vertebrae move them.
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import DATA, provenance, roots
from drawn_regions import SEALED, Bench, macro_auc, over_patients

from spinecls import files
from spinecls.anatomy import RANK
from spinecls.evaluation import metrics

ARMS = {"true": "Dataset021_TrueLabels", "permuted": "Dataset022_Permuted", "shifted": "Dataset023_Neighbour"}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    bench = Bench(options.folder, roots(options.folder))
    for arm, dataset in ARMS.items():
        build(bench, options.dataset, arm)
        bench.plan(dataset)
        for fold in options.folds:
            bench.train(dataset, SEALED, fold, options.steps)
    print(f"\n{options.steps} steps, folds {' '.join(options.folds)}; {provenance()}\n")
    print("| control | vertebrae | AUC [95 % interval] |\n|---|---|---|")
    for arm, dataset in ARMS.items():
        rows = [row for fold in options.folds for row in bench.score(dataset, SEALED, fold, bench.raw(dataset))]
        print(f"| {arm} labels | {len(rows)} | {over_patients(rows, macro_auc(rows))} |")
    true = ARMS["true"]
    for words, counted in (("the same", options.source), ("each scan's", None)):
        untouched, sham = (
            [row for f in options.folds for row in bench.score(true, SEALED, f, shown, counted) if row["truth"] == 0]
            for shown in (options.source, bench.raw(true))
        )
        rows = [*untouched, *sham]
        is_sham = np.arange(len(rows)) >= len(untouched)
        # By the probability of any lesion.
        score = np.array([1 - row["p"][0] for row in rows])
        found = over_patients(rows, partial(metrics.auc_draws, is_sham, score))
        print(f"| sham against untouched, {words} marrow numbers | {len(sham)} twice | {found} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset made by spinecls_simulate")
    parser.add_argument("--source", type=Path, default=DATA / "Dataset002_LumbarMRI", help="what it was made from")
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def build(bench: Bench, source: Path, arm: str) -> None:
    """The dataset with the class table of an arm, everything else linked; the folds are those of the true labels."""
    target = bench.raw(ARMS[arm])
    target.mkdir(parents=True, exist_ok=True)
    for name in ("imagesTr", "labelsTr", "structuresTr"):
        if not (target / name).exists():
            (target / name).symlink_to((source / name).resolve())
    files.write_json(target / "dataset.json", files.read_json(source / "dataset.json") | {"name": ARMS[arm]})
    with (source / "vertebraeTr.csv").open() as file:
        rows = list(csv.DictReader(file))
    if arm == "permuted":
        classes = np.random.default_rng(0).permutation([row["class"] for row in rows])
        rows = [row | {"class": str(c)} for row, c in zip(rows, classes, strict=True)]
    elif arm == "shifted":
        rows = neighbours(rows)
    files.write_csv(target / "vertebraeTr.csv", list(rows[0]), rows)
    if arm != "true":
        files.write_json(target / "splits_final.json", files.read_json(bench.splits(ARMS["true"])))


def neighbours(rows: list[dict]) -> list[dict]:
    """Each vertebra with the class of the next one below; the lowest of a case with that of its highest."""
    moved = []
    for case in dict.fromkeys(row["case"] for row in rows):
        column = sorted((row for row in rows if row["case"] == case), key=lambda row: RANK[row["vertebra"]])
        classes = [row["class"] for row in column]
        moved += [row | {"class": c} for row, c in zip(column, classes[1:] + classes[:1], strict=True)]
    return moved


if __name__ == "__main__":
    main()
