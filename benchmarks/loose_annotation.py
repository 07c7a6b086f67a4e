"""How much of the outlines' worth looser annotation keeps: Dice of an instance against the time to draw.

    python benchmarks/loose_annotation.py --dataset RAW/Dataset002_LumbarMRI --folder FOLDER --steps 1500

For every form three trainings of the same fold, steps and seed: `dense` learns from the exact maps (AuxSegTrainer),
`naive` from the loose form as if it were a mask (AuxSegTrainer on boxes filled, points as ellipsoids of the median size
of a vertebra, strokes and coarse outlines as they are), `method` from the form as what it is (UncertainLabelsTrainer).
Validation cases are scored against the exact maps. Finished trainings are kept in the folder, so the table can grow.
Gap-closing ratio: (method - naive) / (dense - naive), where the interval of dense - naive excludes 0.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import provenance, roots, spinecls
from drawn_regions import PLAN

from spinecls.curve import image_tangents_lps
from spinecls.dataloading.forms import inside_box
from spinecls.evaluation import intervals, matching, summary
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.inference.results import case_prediction
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_image, read_label_map, write_map
from spinecls.io.preprocessed import load_case
from spinecls.sealing.region import ellipsoid_distance, vertebra_axes
from spinecls.trainers.validation import plan_description

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


@dataclasses.dataclass
class Bench:
    """Folder and settings of the experiment."""

    folder: Path
    fold: str
    steps: int

    @property
    def environment(self) -> dict[str, str]:
        return roots(self.folder)

    def raw(self, name: str) -> Path:
        return self.folder / "raw" / name

    def preprocessed(self, name: str) -> Path:
        return self.folder / "preprocessed" / name

    def prepare(self, name: str) -> None:
        """Plan and preprocess; folds are those of the exact dataset."""
        if not (self.preprocessed(name) / "splits_final.json").exists():
            spinecls("plan_and_preprocess", "-d", name, "-c", "3d_fullres", *PLAN, environment=self.environment)
        if name != EXACT:
            shutil.copy(self.preprocessed(EXACT) / "splits_final.json", self.preprocessed(name))

    def train(self, name: str, trainer: str) -> Path:
        """Model folder of a finished training; classes, where there are any, are left out."""
        model = self.folder / "results" / name / f"{trainer}__spineclsPlans__3d_fullres"
        if not (model / f"fold_{self.fold}" / "checkpoint_final.pt").exists():
            going_on = (model / f"fold_{self.fold}" / "checkpoint_latest.pt").exists()
            words = ["train", name, "3d_fullres", self.fold, "-tr", trainer]
            words += ["--c"] if going_on else ["--set", f"steps={self.steps}"]
            spinecls(*words, environment=self.environment)
        return model

    def dice(self, model: Path) -> list[tuple[str, float]]:
        """Patient and Dice of every annotated vertebra of the validation cases, against the exact maps."""
        predictor = load_predictor(
            choose_model(ModelChoice(folder=model, folds=(self.fold,))), torch.device("cpu"), augment=False
        )
        plain = dataclasses.replace(plan_description(predictor.plan), class_names=())
        folder = self.preprocessed(EXACT)
        rows = []
        for name in json.loads((folder / "splits_final.json").read_text())[int(self.fold)]["val"]:
            case = load_case(folder, "spineclsPlans_3d_fullres", name)
            volume = predictor.predict_volume(case.native.astype(np.float32), case.native_geometry)
            found = summary.dice_by_level(case.native_map, volume.level_map, plain)
            centres = {v["level"]: v["centre_lps"] for v in case.vertebrae if v.get("centre_lps") is not None}
            truth = matching.CaseTruth(identifier=name, patient=case.patient, centres_lps=centres, dice=found)
            predicted = dataclasses.replace(
                case_prediction(name, volume, predictor.plan, {}), class_names=()
            )
            judged = matching.judge([predicted], [truth], plain, None)[0]
            rows += [(case.patient, found.get(v.level, 0.0)) for v in judged.vertebrae if v.level in centres]
        return rows


def make_naive(bench: Bench, loose: str, naive: str) -> None:
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
            if case.annotation_form["vertebrae"]["form"] == "scribble":
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


def mean_of(rows):
    """Statistic of bootstrap weights: weighted mean of the values."""
    values = np.array([value for _, value in rows])
    return lambda weights: (weights @ values) / weights.sum(axis=-1)


def ratio_of(dense, naive, method):
    """Statistic of bootstrap weights: the gap-closing ratio."""
    low, high, reached = mean_of(naive), mean_of(dense), mean_of(method)
    return lambda weights: (reached(weights) - low(weights)) / (high(weights) - low(weights))


def text(interval) -> str:
    found = interval.as_dict()
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="raw dataset with exact maps")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options.folder, options.fold, options.steps)
    bench.raw("").mkdir(parents=True, exist_ok=True)
    if not bench.raw(EXACT).exists():
        bench.raw(EXACT).symlink_to(options.dataset.resolve())
    bench.prepare(EXACT)
    dense = bench.dice(bench.train(EXACT, NAIVE))
    patients = [patient for patient, _ in dense]
    draws = intervals.draw_patients(patients)
    told, points = [], []
    for number, form in enumerate(options.forms):
        stem = f"Dataset{101 + 2 * list(FORMS).index(form)}_{form.title().replace(' ', '')}"
        naive_name = f"Dataset{102 + 2 * list(FORMS).index(form)}_{form.title().replace(' ', '')}Naive"
        if not bench.raw(stem).exists():
            spinecls("loosen", "-d", bench.raw(EXACT), "-o", bench.raw(stem), "--seed", "1", *FORMS[form])
        make_naive(bench, stem, naive_name)
        for name in (stem, naive_name):
            bench.prepare(name)
        naive = bench.dice(bench.train(naive_name, NAIVE))
        method = bench.dice(bench.train(stem, METHOD))
        own, gap = (
            intervals.paired_interval(mean_of(first), patients, mean_of(second), patients, draws)
            for first, second in ((naive, method), (naive, dense))
        )
        closed = "no gap to close"
        if not gap.low <= 0 <= gap.high:
            closed = text(intervals.interval(ratio_of(dense, naive, method), patients, draws))
        scores = [intervals.interval(mean_of(rows), patients, draws) for rows in (naive, method)]
        told.append(f"| {form} | {text(scores[0])} | {text(scores[1])} | {text(own)} | {text(gap)} | {closed} |")
        with (bench.raw(stem) / "loosening.csv").open() as file:
            times = [float(row["seconds"]) for row in csv.DictReader(file)]
        points.append((form, float(np.mean(times)), scores[0], scores[1]))
        print(f"{number + 1} of {len(options.forms)} forms done", flush=True)
    whole = intervals.interval(mean_of(dense), patients, draws)
    print(f"\nfold {options.fold}, {options.steps} steps; {provenance()}\n\ndense: {text(whole)}\n")
    print("| form | naive | method | method - naive | dense - naive | gap closed |\n|---|---|---|---|---|---|")
    print("\n".join(told))
    draw(bench.folder / "dice_against_time.png", points, whole)


def draw(path: Path, points, dense) -> None:
    """Figure: Dice of every form against the seconds to draw a vertebra."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.axhspan(dense.low, dense.high, color="0.9")
    axes.axhline(dense.estimate, color="0.4", label="exact outlines")
    for offset, (label, colour, column) in enumerate((("as if exact", "tab:orange", 2), ("as drawn", "tab:blue", 3))):
        for row in points:
            score = row[column]
            error = [[score.estimate - score.low], [score.high - score.estimate]]
            # Apart from each other, so that both intervals can be read.
            axes.errorbar(row[1] * (1 + 0.06 * offset), score.estimate, error, fmt="o", color=colour, capsize=3,
                          label=label if row is points[0] else None)
    for form, seconds, _, score in points:
        axes.annotate(form, (seconds, score.high), xytext=(0, 4), textcoords="offset points", ha="center")
    axes.set(xscale="log", xlabel="seconds to draw a vertebra", ylabel="Dice of an instance")
    axes.legend(loc="best")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
