"""Does a model learn where there is nothing to learn? Labels permuted, labels of the neighbour, shams.

    python benchmarks/negative_controls.py --folder /tmp/controls --dataset RAW/Dataset011_Clean --folds 0 --steps 700

From a dataset of simulated lesions three are made that differ in the class table alone: as it is; classes permuted
among all vertebrae; each vertebra with the class of the one below it. On each the sealed pass is trained, with equal
steps, in regions cut by the drawn maps, and the held-out patients are scored in such regions against the same kind of
labels. The first must be well above 0.5, the others at 0.5: there is nothing in a vertebra that tells them.

Sham: the first model scores the normal vertebrae of the simulated scans, each of which went through the simulation with
amplitude 0, and the same vertebrae of the source scans (--source), which did not. It must not tell them apart.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from common import DATA, provenance, roots, score_text, spinecls

from spinecls import files
from spinecls.anatomy import RANK
from spinecls.evaluation import intervals, metrics
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.images import read_image, read_label_map
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import Region, region_from_mask

ARMS = {"true": "Dataset021_TrueLabels", "permuted": "Dataset022_Permuted", "shifted": "Dataset023_Neighbour"}
TRAINER = f"{Path(__file__).with_name('class_only.py')}:ClassOnlyTrainer"


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    environment = roots(options.folder)
    for arm in options.arms:
        build(options, arm)
        plan = ["--time_budget", "60", "--set", "spacing_mm=4,2,2"]
        spinecls("plan_and_preprocess", "-d", ARMS[arm], "-c", "3d_fullres", *plan, environment=environment)
        if arm == "true":
            splits = options.folder / "preprocessed" / ARMS[arm] / "splits_final.json"
            (options.folder / "splits_final.json").write_bytes(splits.read_bytes())
        for fold in options.folds:
            if not (model_folder(options, arm) / f"fold_{fold}/checkpoint_final.pt").exists():
                words = ["train", ARMS[arm], "3d_fullres", fold, "-tr", TRAINER, "--set", f"steps={options.steps}"]
                spinecls(*words, environment=environment)
    print(f"\n{options.steps} steps, folds {' '.join(options.folds)}; {provenance()}\n")
    print("| control | vertebrae | AUC [95 % interval] |\n|---|---|---|")
    for arm in options.arms:
        rows = [row for fold in options.folds for row in scored(options, arm, fold, raw(options, arm))]
        print(f"| {arm} labels | {len(rows)} | {macro_auc(rows)} |")
    if "true" in options.arms:
        sham, untouched = (
            [row for fold in options.folds for row in scored(options, "true", fold, where) if row["truth"] == 0]
            for where in (raw(options, "true"), options.source)
        )
        rows = [{**row, "truth": int(i)} for i, part in enumerate((untouched, sham)) for row in part]
        print(f"| sham against untouched | {len(sham)} twice | {sham_auc(rows)} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset made by spinecls_simulate")
    parser.add_argument("--source", type=Path, default=DATA / "Dataset002_LumbarMRI", help="what it was made from")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def raw(options: argparse.Namespace, arm: str) -> Path:
    return options.folder / "raw" / ARMS[arm]


def model_folder(options: argparse.Namespace, arm: str) -> Path:
    return options.folder / "results" / ARMS[arm] / "ClassOnlyTrainer__spineclsPlans__3d_fullres"


def build(options: argparse.Namespace, arm: str) -> None:
    """The dataset with the class table of an arm, everything else linked; the folds are those of the true labels."""
    target = raw(options, arm)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("imagesTr", "labelsTr", "structuresTr"):
        if not (target / name).exists():
            (target / name).symlink_to((options.dataset / name).resolve())
    description = files.read_json(options.dataset / "dataset.json")
    files.write_json(target / "dataset.json", description | {"name": ARMS[arm]})
    with (options.dataset / "vertebraeTr.csv").open() as file:
        rows = list(csv.DictReader(file))
    if arm == "permuted":
        classes = np.random.default_rng(0).permutation([row["class"] for row in rows])
        rows = [row | {"class": str(c)} for row, c in zip(rows, classes, strict=True)]
    elif arm == "shifted":
        rows = neighbours(rows)
    files.write_csv(target / "vertebraeTr.csv", list(rows[0]), rows)
    if arm != "true" and (options.folder / "splits_final.json").exists():
        (target / "splits_final.json").write_bytes((options.folder / "splits_final.json").read_bytes())


def neighbours(rows: list[dict]) -> list[dict]:
    """Each vertebra with the class of the next one below; the lowest of a case with that of its highest."""
    moved = []
    for case in dict.fromkeys(row["case"] for row in rows):
        column = sorted((row for row in rows if row["case"] == case), key=lambda row: RANK[row["vertebra"]])
        classes = [row["class"] for row in column]
        moved += [row | {"class": c} for row, c in zip(column, classes[1:] + classes[:1], strict=True)]
    return moved


def scored(options: argparse.Namespace, arm: str, fold: str, images: Path) -> list[dict]:
    """Held-out vertebrae in regions from the drawn maps: class of the arm's table, probabilities, patient."""
    choice = ModelChoice(folder=model_folder(options, arm), folds=(fold,))
    predictor = load_predictor(choose_model(choice), torch.device("cpu"), mirror=False)
    names, codes = predictor.plan.class_names, predictor.plan.levels
    splits = json.loads((options.folder / "preprocessed" / ARMS[arm] / "splits_final.json").read_text())
    with (raw(options, arm) / "vertebraeTr.csv").open() as file:
        table = list(csv.DictReader(file))
    rows = []
    for case in splits[int(fold)]["val"]:
        volume = read_image([images / "imagesTr" / f"{case}_0000.nii.gz"])
        levels, _ = read_label_map(images / "labelsTr" / f"{case}.nii.gz")
        here = [row for row in table if row["case"] == case and row["class"] in names]
        masks = [levels == codes[row["vertebra"]] for row in here]
        margin = predictor.configuration.sealing_margin_mm
        regions = [region_from_mask(mask, volume.geometry, margin) for mask in masks]
        image = np.asarray(volume.array, np.float32)
        marrow = marrow_reference(image, [Region(mask, (0, 0, 0), volume.geometry, "mask") for mask in masks])
        found = predictor.classify_regions(image, volume.geometry, regions, marrow).probabilities
        for row, p in zip(here, found, strict=True):
            rows.append({"truth": names.index(row["class"]), "p": p, "patient": row["patient"]})
    return rows


def macro_auc(rows: list[dict]) -> str:
    truth, p = np.array([row["truth"] for row in rows]), np.stack([row["p"] for row in rows])
    return over_patients(
        rows, lambda w: np.mean([metrics.auc_draws(truth == k, p[:, k], w) for k in range(p.shape[1])], axis=0)
    )


def sham_auc(rows: list[dict]) -> str:
    """Of the probability of any lesion."""
    truth = np.array([row["truth"] == 1 for row in rows])
    score = np.array([1 - row["p"][0] for row in rows])
    return over_patients(rows, lambda w: metrics.auc_draws(truth, score, w))


def over_patients(rows: list[dict], statistic) -> str:
    patients = [row["patient"] for row in rows]
    return score_text(intervals.interval(statistic, patients, intervals.draw_patients(patients)).as_dict())


if __name__ == "__main__":
    main()
