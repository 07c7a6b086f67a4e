"""Levels that real lumbar scans cannot show: C1 to T9, T13, L6 and missing T12 or L5, on phantoms.

    python benchmarks/phantom_levels.py --folder /tmp/phantom_levels --minutes 15

Draws whole columns and parts of columns, a third of them with one vertebra more or less than usual, trains
AuxSegTrainer by the commands of a user and names test phantoms that training has not seen. A phantom is no patient:
this shows that naming, decoding and variants work together, not how well real thoracic scans are named.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

from common import provenance, roots, score_text, spinecls

from spinecls import files
from spinecls.testing.phantom import PhantomOptions, write_dataset

DATASET = "Dataset998_PhantomColumns"
OPTIONS = PhantomOptions(
    shape=(12, 300, 72),
    spacing_mm=(5.0, 2.2, 2.5),
    fields=("whole", "whole", "cervical", "thoracic", "lumbosacral"),
    variants=("none", "none", "none", "none", "T13", "L6", "no_T12", "no_L5"),
    lesion_probability=0.0,
    distractors_per_vertebra=0.0,
)
VARIANT_LEVELS = ("T13", "L6")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument("--test_cases", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=15, help="time budget that the plan is made for")
    parser.add_argument("--steps", type=int, help="steps of training, instead of the plan's")
    options = parser.parse_args()
    raw = options.folder / "raw" / DATASET
    if not (raw / "dataset.json").exists():
        write_dataset(raw, options.cases, 3, OPTIONS, num_test=options.test_cases)
    leave_out_classes(raw)
    environment = roots(options.folder)
    budget = ["--time_budget", str(options.minutes)]
    spinecls("plan_and_preprocess", "-d", DATASET, "-c", "3d_fullres", *budget, environment=environment)
    steps = ["--set", f"steps={options.steps}"] if options.steps else []
    trained = spinecls("train", DATASET, "3d_fullres", "all", "-tr", "AuxSegTrainer", *steps, environment=environment)
    output = options.folder / "predictions"
    spinecls("predict", "-i", raw / "imagesTs", "-o", output, "--disable_tta", environment=environment)
    spinecls("evaluate", "-i", output, "-gt", DATASET, "--split", "Ts", environment=environment)
    report(output, trained)


def leave_out_classes(raw: Path) -> None:
    """Names alone are learnt here."""
    description = files.read_json(raw / "dataset.json")
    files.write_json(raw / "dataset.json", description | {"classes": {}, "lesion_structures": {}})
    for name in ("vertebraeTr.csv", "vertebraeTs.csv"):
        rows = [row | {"class": ""} for row in files.read_csv(raw / name)]
        files.write_csv(raw / name, list(rows[0]), rows)


def report(output: Path, trained: float) -> None:
    location = json.loads((output / "summary.json").read_text())["location"]
    print(f"\n{DATASET}, training {trained / 60:.0f} min; {provenance()}\n")
    print("| what | value [95 % interval] |\n|---|---|")
    for name in (
        "identification_rate",
        "trivial_counter_identification_rate",
        "whole_case_right",
        "centre_error_mm",
        "dice",
    ):
        print(f"| {name} | {score_text(location[name])} |")
    for region, score in location["identification_rate_by_region"].items():
        print(f"| identification, {region} | {score_text(score)} |")
    for level in VARIANT_LEVELS:
        if level in location["identification_rate_by_level"]:
            print(f"| identification of {level} | {score_text(location['identification_rate_by_level'][level])} |")
    for name, score in location["numbering_doubt"].items():
        print(f"| {name} | {score_text(score)} |")
    by_case = defaultdict(list)
    with (output / "vertebrae.csv").open() as file:
        for row in csv.DictReader(file):
            by_case[row["case"]].append(row)
    for case, rows in by_case.items():
        wrong = [f"{r['level']} {r['found']} {r['named'] or ''}".strip() for r in rows if r["found"] != "identified"]
        if wrong:
            print(f"- {case} ({rows[0]['level']} to {rows[-1]['level']}): {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
