"""Training and scoring of the sealed pass alone, in regions cut by drawn maps; shared by the experiments on it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import score_text, spinecls

from spinecls.evaluation import intervals, metrics
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.images import read_image, read_label_map
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import Region, region_from_mask

PLAN = ("--time_budget", "60", "--set", "spacing_mm=4,2,2")
SEALED, OPEN = "ClassOnlyTrainer", "OpenClassOnlyTrainer"


@dataclass(frozen=True)
class Bench:
    """Folder of an experiment, with its environment (`common.roots`)."""

    folder: Path
    environment: dict[str, str]

    def raw(self, dataset: str) -> Path:
        return self.folder / "raw" / dataset

    def splits(self, dataset: str) -> Path:
        return self.folder / "preprocessed" / dataset / "splits_final.json"

    def model(self, dataset: str, trainer: str) -> Path:
        return self.folder / "results" / dataset / f"{trainer}__spineclsPlans__3d_fullres"

    def plan(self, dataset: str) -> None:
        spinecls("plan_and_preprocess", "-d", dataset, "-c", "3d_fullres", *PLAN, environment=self.environment)

    def train(self, dataset: str, trainer: str, fold: str, steps: int) -> None:
        """Train a fold, each of its readers for so many steps, unless it is finished."""
        if not (self.model(dataset, trainer) / f"fold_{fold}" / "checkpoint_final.pt").exists():
            source = f"{Path(__file__).with_name('class_only.py')}:{trainer}"
            words = ["train", dataset, "3d_fullres", fold, "-tr", source, "--set", f"reader_steps={steps}"]
            spinecls(*words, environment=self.environment)

    def score(self, dataset: str, trainer: str, fold: str, shown: Path, counted: Path | None = None) -> list[dict]:
        """Held-out vertebrae of a fold: class in the table of `dataset`, probabilities, patient.

        Parameters
        ----------
        shown : raw dataset whose images and maps are looked at; those of `dataset`, or another version of them
        counted : raw dataset whose images give the marrow numbers, if not `shown`
        """
        choice = ModelChoice(folder=self.model(dataset, trainer), folds=(fold,))
        predictor = load_predictor(choose_model(choice), torch.device("cpu"), augment=False)
        names, codes = predictor.plan.class_names, predictor.plan.levels
        with (self.raw(dataset) / "vertebraeTr.csv").open() as file:
            table = list(csv.DictReader(file))
        rows = []
        for case in json.loads(self.splits(dataset).read_text())[int(fold)]["val"]:
            volume = read_image([shown / "imagesTr" / f"{case}_0000.nii.gz"])
            levels, _ = read_label_map(shown / "labelsTr" / f"{case}.nii.gz")
            here = [row for row in table if row["case"] == case and row["class"] in names]
            masks = [levels == codes[row["vertebra"]] for row in here]
            margin = predictor.configuration.sealing_margin_mm
            regions = [region_from_mask(mask, volume.geometry, margin) for mask in masks]
            image = np.asarray(volume.array, np.float32)
            known = read_image([(counted or shown) / "imagesTr" / f"{case}_0000.nii.gz"]).array
            marrow = marrow_reference(known, [Region(mask, (0, 0, 0), volume.geometry, "mask") for mask in masks])
            found = predictor.classify_regions(image, volume.geometry, regions, marrow).probabilities
            for row, p in zip(here, found, strict=True):
                name = (case, row["vertebra"])
                rows.append({"name": name, "truth": names.index(row["class"]), "p": p, "patient": row["patient"]})
        return rows


def macro_auc(rows: Sequence[dict]):
    """Statistic of bootstrap weights."""
    return metrics.macro_auc(np.array([row["truth"] for row in rows]), np.stack([row["p"] for row in rows]))


def balanced_accuracy(rows: Sequence[dict]):
    """Statistic of bootstrap weights, of the most probable class."""
    truth, p = np.array([row["truth"] for row in rows]), np.stack([row["p"] for row in rows])
    decided, count = p.argmax(axis=1), p.shape[1]
    return lambda weights: metrics.balanced_accuracy(
        metrics.confusion_draws(truth, decided, count, weights), np.arange(count)
    )


def over_patients(rows: Sequence[dict], statistic) -> str:
    """Value of a statistic with its interval."""
    patients = [row["patient"] for row in rows]
    return score_text(intervals.interval(statistic, patients, intervals.draw_patients(patients)).as_dict())


def difference(first: Sequence[dict], second: Sequence[dict], score) -> str:
    """Second less first, paired by patient."""
    if [row["name"] for row in first] != [row["name"] for row in second]:
        raise SystemExit("the two sets of predictions are not of the same vertebrae")
    patients = [row["patient"] for row in first]
    draws = intervals.draw_patients(patients)
    return score_text(intervals.paired_interval(score(first), patients, score(second), patients, draws).as_dict())
