"""Identification and classification on real lumbar MRI with simulated lesions, one fold, by the commands of a user.

    python benchmarks/lumbar.py --folder /tmp/lumbar --trainer AuxSegTrainer --fold 0

Plans, trains, predicts the validation images of the fold from their raw files (last checkpoint, no test-time
augmentation unless --tta), evaluates, and prints a table for documentation/reference/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common import (
    DATA,
    link_dataset,
    link_held_out,
    peak_memory_gb_of_children,
    provenance,
    roots,
    score_text,
    spinecls,
)

LOCATION = {
    "identification_rate": "identification rate, 20 mm",
    "trivial_counter_identification_rate": "the same of the trivial counter",
    "identification_rate_half_pitch": "identification rate, half the local pitch",
    "whole_case_right": "whole case right",
    "off_by_one_rate": "named one level off",
    "centre_error_mm": "centre error, mm",
    "f1_10mm": "F1 at 10 mm",
    "dice": "Dice of an instance",
}


def main() -> None:
    options = parse()
    dataset = link_dataset(options.dataset, options.folder)
    environment = roots(options.folder)
    times = {"plan_and_preprocess": spinecls("plan_and_preprocess", "-d", dataset.name, environment=environment)}
    fold = ["train", dataset.name, options.configuration, options.fold, "-tr", options.trainer]
    times["train"] = spinecls(*fold, *(["--c"] if options.resume else []), *options.extra, environment=environment)
    model = options.folder / f"results/{dataset.name}/{options.trainer}__spineclsPlans__{options.configuration}"
    preprocessed = options.folder / "preprocessed" / dataset.name
    images = link_held_out(preprocessed, dataset, options.fold, options.folder / f"in_{options.fold}")
    output = options.folder / f"out_{options.trainer}_{options.fold}"
    tta = [] if options.tta else ["--disable_tta"]
    times["predict"] = spinecls(
        "predict", "-i", images, "-o", output, "-m", model, "-f", options.fold, *tta, environment=environment
    )
    spinecls("evaluate", "-i", output, "-gt", dataset.name, environment=environment)
    report(options, output, times, len(list(images.iterdir())))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="everything is written below it")
    parser.add_argument("--dataset", type=Path, default=DATA / "Dataset001_LumbarSpA")
    parser.add_argument("--trainer", default="AuxSegTrainer")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted or finished training")
    parser.add_argument("--tta", action="store_true", help="predict with mirrored views")
    parser.add_argument("extra", nargs="*", help="further words for spinecls_train, after --")
    return parser.parse_args()


def report(options: argparse.Namespace, output: Path, times: dict[str, float], num_images: int) -> None:
    summary = json.loads((output / "summary.json").read_text())
    rows = [(words, score_text(summary["location"][key])) for key, words in LOCATION.items()]
    for group, words in (("end_to_end", "end to end"), ("identified", "identified vertebrae")):
        classes = summary["classification"][group]
        rows.append((f"macro AUC, {words}", score_text(classes["auc_macro"])))
        rows += [(f"AUC {name}, {words}", score_text(score)) for name, score in classes["auc_by_class"].items()]
        rows.append((f"balanced accuracy, {words}", score_text(classes["balanced_accuracy"])))
    rows += [(f"time of {word}, s", f"{seconds:.0f}") for word, seconds in times.items()]
    rows.append(("time of predict a case, s", f"{times['predict'] / num_images:.1f}"))
    rows.append(("largest memory of a process, GB", f"{peak_memory_gb_of_children():.2f}"))
    print(f"\n{options.trainer}, {options.configuration}, fold {options.fold}, {num_images} cases; {provenance()}\n")
    print("| what | value [95 % interval] |\n|---|---|")
    print("\n".join(f"| {words} | {value} |" for words, value in rows))


if __name__ == "__main__":
    main()
