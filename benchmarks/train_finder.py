"""The finder that comes with spinecls: trained on all scans of a dataset, and measured on sources it has not seen.

    python benchmarks/train_finder.py --folder /tmp/finder --source RAW/Dataset002_LumbarMRI
    python benchmarks/levels.py --results /tmp/finder/results --preprocessed /tmp/finder/preprocessed --folds 0

Scans come from several sources, told by how their identifiers begin. Fold k holds out the k-th source whole, so its
scores are those on scanners and readers that training has not seen; fold `all` learns from every scan, its weights are
rounded to half precision and exported, with the model card beside this file, to where the package looks for it.
A run that was interrupted goes on; `--folds` trains some of them only.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from common import ROOT, link_dataset, provenance, roots, spinecls

from spinecls import files
from spinecls.inference.models import ModelChoice, TrainedModel, checkpoint_hashes, choose_model
from spinecls.sharing.export import export_model
from spinecls.sharing.model_card import weights_line
from spinecls.sharing.shipped import BUNDLE
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint

TRAINER = "AuxSegTrainer"
CARD = Path(__file__).with_name("finder_card.md")
ALL = "all"

SETTINGS = (
    "steps=2000",
    "contrast_curve_share=0.6",
    "contrast_inversion_share=0.3",
    "bias_field_share=0.6",
)
"""Contrast changes in most patches, for sequences and scanners that the scans do not show."""


def main() -> None:
    options = parse()
    os.environ |= roots(options.folder)
    dataset = link_dataset(options.source, options.folder)
    preprocessed = options.folder / "preprocessed" / dataset.name
    if not (preprocessed / "splits_final.json").exists():
        spinecls("plan_and_preprocess", "-d", dataset.name, "-c", "3d_fullres", "--set", *SETTINGS)
    sources = split_by_source(preprocessed)
    print(f"{', '.join(f'fold {k}: without {name}' for k, name in enumerate(sources))}; {provenance()}", flush=True)
    model = options.folder / "results" / dataset.name / f"{TRAINER}__spineclsPlans__3d_fullres"
    for fold in options.folds or [*map(str, range(len(sources))), ALL]:
        states = (model / f"fold_{fold}").glob("checkpoint_*.pt")
        spinecls("train", dataset.name, "3d_fullres", fold, "-tr", TRAINER, *(["--c"] if any(states) else []))
        if fold == ALL:
            ship(model)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="everything but the bundle is written below it")
    parser.add_argument("--source", type=Path, required=True, help="raw dataset of outlined scans")
    parser.add_argument("--folds", nargs="*", help=f"numbers of sources, or {ALL} [default: each, then {ALL}]")
    return parser.parse_args()


def split_by_source(preprocessed: Path) -> list[str]:
    """Make fold k hold out the k-th source; returns the sources."""
    path = preprocessed / "splits_final.json"
    splits = files.read_json(path)
    cases = sorted({case for fold in splits for case in fold["val"]})
    sources = sorted({re.match("[A-Za-z]+[0-9]*", case)[0] for case in cases})
    folds = [
        {
            "train": [case for case in cases if not case.startswith(source)],
            "val": [case for case in cases if case.startswith(source)],
        }
        for source in sources
    ]
    files.write_json(path, folds)
    return sources


def ship(folder: Path) -> None:
    """Round the weights of fold `all` to half precision, and write the bundle that comes with spinecls."""
    path = folder / f"fold_{ALL}" / "checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"] = {name: tensor.half().float() for name, tensor in content["weights"].items()}
    save_checkpoint(path, content)
    model: TrainedModel = choose_model(ModelChoice(folder=folder, folds=(ALL,)))
    card = CARD.read_text().rstrip() + f"\n\n{weights_line(checkpoint_hashes(model))}\n"
    (folder / "MODEL_CARD.md").write_text(card)
    export_model(model, BUNDLE)
    print(f"{BUNDLE.relative_to(ROOT)}: {BUNDLE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
