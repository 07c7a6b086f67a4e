"""Does a model use a mark beside the vertebra that goes with the class? The power test of sealing.

    python benchmarks/shortcut.py --folder /tmp/shortcut --steps 1500

Simulates lesions in real lumbar MRI three times with the same seed, so with the same lesions: with a bright blob behind
diseased vertebrae in 95 % (and behind normal ones in 5 %) to train on, always and only behind diseased ones (aligned),
and always and only behind normal ones (conflicting). Trains sealed and open trainers on the first, with equal steps,
and predicts the aligned and the conflicting images of the held-out patients. A model that reads the vertebra does
equally well on both. `--clean` trains and predicts without any marker: what sealing costs where nothing can be gained.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from common import DATA, link_dataset, link_held_out, provenance, roots, score_text, spinecls

from spinecls.evaluation import intervals, metrics

TRAINED = "Dataset012_Marked"
SHOWN = {"aligned": ("Dataset013_Aligned", 1.0), "conflicting": ("Dataset014_Conflicting", 0.0)}
CLEAN = "Dataset011_Clean"


def main() -> None:
    options = parse()
    environment = roots(options.folder)
    link_dataset(options.dataset, options.folder)
    simulate(options, environment)
    trained, shown = (CLEAN, {"clean": CLEAN}) if options.clean else (TRAINED, {k: v[0] for k, v in SHOWN.items()})
    plan = ["--time_budget", str(options.minutes), *options.plan]
    spinecls("plan_and_preprocess", "-d", trained, "-c", "3d_fullres", *plan, environment=environment)
    tables = {}
    preprocessed = options.folder / "preprocessed" / trained
    for trainer in options.trainers:
        model = options.folder / f"results/{trained}/{trainer}__spineclsPlans__3d_fullres"
        if not (model / f"fold_{options.fold}/checkpoint_final.pt").exists():
            steps = ["--set", f"steps={options.steps}"] if options.steps else []
            spinecls("train", trained, "3d_fullres", options.fold, "-tr", trainer, *steps, environment=environment)
        for name, dataset in shown.items():
            output = options.folder / f"out_{trainer}_{name}"
            target = options.folder / f"in_{dataset}_{options.fold}"
            images = link_held_out(preprocessed, options.folder / "raw" / dataset, options.fold, target)
            words = ["-i", images, "-o", output, "-m", model, "-f", options.fold, "--disable_tta"]
            spinecls("predict", *words, environment=environment)
            spinecls("evaluate", "-i", output, "-gt", dataset, environment=environment)
            tables[trainer, name] = read(output)
    report(options, tables, list(shown))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, default=DATA / "Dataset002_LumbarMRI")
    parser.add_argument("--trainers", nargs="+", default=["BaselineTrainer", "OpenBaselineTrainer"])
    parser.add_argument("--marker", default="m1")
    parser.add_argument("--correlation", type=float, default=0.95)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--minutes", type=float, default=30, help="time budget that the plan is made for")
    parser.add_argument("--steps", type=int, help="steps of each training, instead of the plan's")
    parser.add_argument("--clean", action="store_true", help="no marker at all")
    parser.add_argument("plan", nargs="*", help="further words for spinecls_plan_and_preprocess, after --")
    return parser.parse_args()


def simulate(options: argparse.Namespace, environment: dict[str, str]) -> None:
    words = ["simulate", "-d", options.dataset.name, "--seed", "1"]
    spinecls(*words, "-o", CLEAN, environment=environment)
    marked = {TRAINED: options.correlation, **dict(SHOWN.values())}
    for name, correlation in {} if options.clean else marked.items():
        marker = ["--shortcut", options.marker, "--shortcut_correlation", str(correlation)]
        spinecls(*words, "-o", name, *marker, environment=environment)


def read(output: Path) -> dict:
    """Truth, probabilities and patients of all read vertebrae; one that was missed or misnamed has the prior."""
    summary = json.loads((output / "summary.json").read_text())["classification"]
    names, prior = summary["class_names"], summary["prior"]
    with (output / "vertebrae.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"]]
    table = [[float(row[f"p_{n}"]) for n in names] if row[f"p_{names[0]}"] else prior for row in rows]
    truth = np.array([names.index(row["class"]) for row in rows])
    return {"truth": truth, "p": np.array(table), "patients": [row["patient"] for row in rows]}


def macro_auc(table: dict):
    """Statistic of bootstrap weights."""
    classes = range(table["p"].shape[1])
    return lambda weights: np.mean(
        [metrics.auc_draws(table["truth"] == k, table["p"][:, k], weights) for k in classes], axis=0
    )


def balanced_accuracy(table: dict):
    """Statistic of bootstrap weights."""
    count = table["p"].shape[1]
    decided = table["p"].argmax(axis=1)
    return lambda weights: metrics.balanced_accuracy(
        metrics.confusion_draws(table["truth"], decided, count, weights), np.arange(count)
    )


def report(options: argparse.Namespace, tables: dict, shown: list[str]) -> None:
    draws = intervals.draw_patients(next(iter(tables.values()))["patients"])
    marker = "no marker" if options.clean else f"marker {options.marker}, correlation {options.correlation}"
    print(f"\n{marker}, fold {options.fold}; {provenance()}\n\n| model | what | value [95 % interval] |\n|---|---|---|")
    for score_name, score in (("macro AUC", macro_auc), ("balanced accuracy", balanced_accuracy)):
        for (trainer, name), table in tables.items():
            found = intervals.interval(score(table), table["patients"], draws).as_dict()
            print(f"| {trainer} | {score_name}, {name} | {score_text(found)} |")
        for label, first, second in pairs(options.trainers, shown):
            a, b = tables[first], tables[second]
            found = intervals.paired_interval(score(a), a["patients"], score(b), b["patients"], draws).as_dict()
            print(f"| {label} | {score_name}, difference | {score_text(found)} |")


def pairs(trainers: list[str], shown: list[str]) -> list[tuple]:
    """Aligned less conflicting of each trainer; with one set of images, the last trainer less each other."""
    if len(shown) == 2:
        return [(f"{t}, {shown[0]} less {shown[1]}", (t, shown[1]), (t, shown[0])) for t in trainers]
    return [(f"{trainers[-1]} less {t}", (t, shown[0]), (trainers[-1], shown[0])) for t in trainers[:-1]]


if __name__ == "__main__":
    main()
