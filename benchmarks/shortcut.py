"""Does a model use a mark beside the vertebra that goes with the class? The power test of sealing, and its price.

    python benchmarks/shortcut.py --folder /tmp/shortcut --folds 0 --steps 1000
    python benchmarks/shortcut.py --folder /tmp/shortcut --folds 0 --steps 2000 --clean

Simulates lesions in real lumbar MRI three times with the same seed, so with the same lesions: with a bright band in
front of 95 % of the diseased vertebrae (and of 5 % of the normal ones) to train on, always and only beside diseased
ones (aligned), and always and only beside normal ones (conflicting). Trains the sealed pass (S2) and the same network
on open crops (S0) on the first, with equal steps, in regions cut by the drawn maps, so that no localiser stands
between; scores the aligned and the conflicting images of the held-out patients. A model that reads the vertebra does
equally well on both.
--clean trains and scores without any marker: what sealing costs where nothing can be gained by the surroundings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import DATA, link_dataset, provenance, roots, spinecls
from drawn_regions import OPEN, SEALED, Bench, balanced_accuracy, difference, macro_auc, over_patients

TRAINED, CLEAN = "Dataset012_Marked", "Dataset011_Clean"
SHOWN = {"aligned": ("Dataset013_Aligned", 1.0), "conflicting": ("Dataset014_Conflicting", 0.0)}
SEALS = {SEALED: "S2", OPEN: "S0"}
SCORES = {"macro AUC": macro_auc, "balanced accuracy": balanced_accuracy}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    bench = Bench(options.folder, roots(options.folder))
    link_dataset(options.dataset, options.folder)
    trained = CLEAN if options.clean else TRAINED
    shown = {"clean": CLEAN} if options.clean else {word: name for word, (name, _) in SHOWN.items()}
    simulate(options, bench)
    bench.plan(trained)
    tables = {}
    for trainer in options.trainers:
        for fold in options.folds:
            bench.train(trained, trainer, fold, options.steps)
            for word, dataset in shown.items():
                tables.setdefault((trainer, word), []).extend(bench.score(trained, trainer, fold, bench.raw(dataset)))
    report(options, tables, list(shown))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, default=DATA / "Dataset002_LumbarMRI")
    parser.add_argument("--trainers", nargs="+", default=[SEALED, OPEN], choices=[SEALED, OPEN])
    parser.add_argument("--marker", default="m2", help="m1, a blob behind, is hardly seen: fluid is as bright")
    parser.add_argument("--contrast", type=float, default=8.0, help="strength of the marker in marrow deviations")
    parser.add_argument("--correlation", type=float, default=0.95)
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clean", action="store_true", help="no marker at all")
    return parser.parse_args()


def simulate(options: argparse.Namespace, bench: Bench) -> None:
    words = ["simulate", "-d", options.dataset.name, "--seed", "1"]
    if options.clean:
        spinecls(*words, "-o", CLEAN, environment=bench.environment)
        return
    for name, correlation in {TRAINED: options.correlation, **dict(SHOWN.values())}.items():
        marker = ["--shortcut", options.marker, "--shortcut_correlation", str(correlation)]
        marker += ["--shortcut_contrast", str(options.contrast)]
        spinecls(*words, "-o", name, *marker, environment=bench.environment)


def report(options: argparse.Namespace, tables: dict, shown: list[str]) -> None:
    marker = "no marker" if options.clean else f"marker {options.marker}, correlation {options.correlation}"
    print(f"\n{marker}, {options.steps} steps, folds {' '.join(options.folds)}; {provenance()}\n")
    print("| crops | what | value [95 % interval] |\n|---|---|---|")
    for words, score in SCORES.items():
        for (trainer, word), rows in tables.items():
            print(f"| {SEALS[trainer]} | {words}, {word} | {over_patients(rows, score(rows))} |")
        if options.clean and len(options.trainers) == 2:
            sealed, opened = (tables[trainer, "clean"] for trainer in (SEALED, OPEN))
            print(f"| S0 less S2 | {words} | {difference(sealed, opened, score)} |")
        for trainer in [] if options.clean else options.trainers:
            aligned, conflicting = (tables[trainer, word] for word in shown)
            found = difference(conflicting, aligned, score)
            print(f"| {SEALS[trainer]} | {words}, aligned less conflicting | {found} |")


if __name__ == "__main__":
    main()
