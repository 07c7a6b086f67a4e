"""What the regions hold that a class is decided by, and what the class would be in regions of exact outlines.

    python benchmarks/region_contents.py --exact FOLDER/preprocessed/Dataset100_Exact --folds 0 2 --models MODEL ...

Validation cases of the folds, by models that did not see them, without mirrored views; models of looser annotation of
the same cases are judged by the same exact maps. A vertebra counts where one was found within 10 mm of its centre.
Lesion: share of the voxels of its lesion that lie in its region, mean over vertebrae with an outlined lesion.
Vertebra: share of the region that is of the vertebra (of its outline's hull). The row `trained in` is of the regions
that the readers of the model were trained with, `--draws` of each training vertebra. AUC: macro AUC in the regions that
the model finds, and in those of the exact outlines, cut with the same margin; marrow numbers are those that the model
finds.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import provenance
from held_out import GRID, Score, mean_of, text

from spinecls import files
from spinecls.dataloading.cases import sealed_sources
from spinecls.dataloading.sealed_crops import rough_region
from spinecls.evaluation import intervals, metrics
from spinecls.inference.folds import fold_plan
from spinecls.inference.models import ModelChoice, TrainedModel, choose_model, load_predictor
from spinecls.io.preprocessed import PreprocessedCase, load_case
from spinecls.paths import preprocessed_folder
from spinecls.sealing.region import region_from_mask
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.validation import plan_description, preprocessed_truth
from spinecls.verification.cohort import levels_at
from spinecls.verification.instrument import Instrument, Question
from spinecls.verification.swaps import whole_mask


@dataclass(frozen=True)
class Seen:
    """One vertebra: its class, probabilities in both regions, and what its own region holds (None = no lesion)."""

    patient: str
    truth: int
    own: np.ndarray
    exact: np.ndarray
    lesion_share: float | None
    vertebra_share: float


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    logging.getLogger("spinecls").setLevel(logging.ERROR)
    print(f"folds {' '.join(options.folds)}; {provenance()}\n")
    print("| model | margin, mm | lesion | vertebra | AUC | AUC, exact regions | difference |")
    print("|---|---|---|---|---|---|---|")
    for model in options.models:
        margins, seen, trained = set(), [], []
        for fold in options.folds:
            choice = choose_model(ModelChoice(folder=model, folds=(fold,)))
            instrument = Instrument(load_predictor(choice, torch.device("cpu"), augment=False))
            margins.add(instrument.predictor.configuration.sealing_margin_mm)
            for name in files.read_json(options.exact / "splits_final.json")[int(fold)]["val"]:
                seen += examined(instrument, load_case(options.exact, GRID, name))
            trained += trained_in(choice, fold, options.draws)
        words = "/".join(f"{margin:.2f}" for margin in sorted(margins))
        print(f"| {model.parent.name} | {words} | {' | '.join(cells(seen))} |", flush=True)
        draws = intervals.draw_patients(tuple(one.patient for one in trained))
        shares = " | ".join(text(score.interval(draws)) for score in share_scores(trained))
        print(f"| trained in | {words} | {shares} | | | |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", type=Path, required=True, help="preprocessed dataset with exact maps")
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--folds", nargs="+", default=["0"], help="judged together")
    parser.add_argument("--draws", type=int, default=4, help="regions of each training vertebra")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def examined(instrument: Instrument, case: PreprocessedCase) -> Iterator[Seen]:
    """The vertebrae of a case that are found, drawn and of known class."""
    predictor, grid = instrument.predictor, case.native_geometry
    image = case.native.astype(np.float32)
    located = predictor.locate(image, grid)
    if not located.regions:
        return
    description = plan_description(predictor.plan)
    truth = preprocessed_truth(case, np.zeros(grid.shape, np.uint8), description)
    outlined = np.isin(case.native_structures, [description.structures[name] for name in description.lesion_structures])
    for region, level in zip(located.regions, levels_at(located, truth), strict=True):
        index = truth.classes.get(level)
        if index is None:
            continue
        drawn = case.native_map == predictor.plan.levels[level]
        if not drawn.any():
            continue
        exact = region_from_mask(drawn, grid, predictor.configuration.sealing_margin_mm)
        both = [Question(image=image, grid=grid, region=shown, marrow=located.marrow) for shown in (region, exact)]
        own_p, exact_p = instrument.ask(both).probabilities
        inside, whole = whole_mask(region, grid), whole_mask(region_from_mask(drawn, grid, 0.0), grid)
        lesion = drawn & outlined if index else np.zeros_like(drawn)
        yield Seen(
            patient=truth.patient,
            truth=index,
            own=own_p,
            exact=exact_p,
            lesion_share=float((inside & lesion).sum() / lesion.sum()) if lesion.any() else None,
            vertebra_share=float((inside & whole).sum() / inside.sum()),
        )


def trained_in(model: TrainedModel, fold: str, draws: int) -> Iterator[Seen]:
    """Shares of regions as the readers of a fold were given them; nothing is classified."""
    plan = fold_plan(model.fold(fold))
    configuration = plan.configuration(model.configuration)
    preprocessed = preprocessed_folder(model.dataset)
    codes = [plan.structures[name] for name in plan.lesion_structures]
    masks = find_trainer(model.trainer).regions_from_masks
    rng = np.random.default_rng(0)
    for name in files.read_json(preprocessed / "splits_final.json")[int(fold)]["train"]:
        case = load_case(preprocessed, f"{model.plans}_{model.configuration}", name)
        for source in sealed_sources(case, plan, configuration, masks):
            if source.distance is None:
                continue
            vertebra = source.distance <= 0
            lesion = vertebra & np.isin(0 if source.lesions is None else source.lesions, codes)
            for _ in range(draws):
                region = rough_region(source, configuration, rng).mask
                yield Seen(
                    patient=case.patient,
                    truth=0,
                    own=np.zeros(0),
                    exact=np.zeros(0),
                    lesion_share=float((region & lesion).sum() / lesion.sum()) if lesion.any() else None,
                    vertebra_share=float((region & vertebra).sum() / region.sum()),
                )


def cells(seen: Sequence[Seen]) -> list[str]:
    """Shares and AUCs with intervals over patients."""
    patients = tuple(one.patient for one in seen)
    draws = intervals.draw_patients(patients)
    truth = np.array([one.truth for one in seen])
    own, exact = (
        Score(metrics.macro_auc(truth, np.stack([getattr(one, name) for one in seen])), patients)
        for name in ("own", "exact")
    )
    told = [score.interval(draws) for score in (*share_scores(seen), own, exact)] + [exact.less(own, draws)]
    return [text(interval) for interval in told]


def share_scores(seen: Sequence[Seen]) -> tuple[Score, Score]:
    """Mean shares of the lesion in the region and of the region that is vertebra."""
    lesions = [one for one in seen if one.lesion_share is not None]
    if not lesions:
        raise SystemExit("no vertebra that was found has an outlined lesion; give a dataset with lesion structures")
    return (
        mean_of([one.lesion_share for one in lesions], [one.patient for one in lesions]),
        mean_of([one.vertebra_share for one in seen], [one.patient for one in seen]),
    )


if __name__ == "__main__":
    main()
