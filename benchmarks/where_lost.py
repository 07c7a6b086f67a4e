"""Where the accuracy of classes is lost: names, regions or reading, in held-out scans with many draws of lesions.

    python benchmarks/where_lost.py --source RAW/Dataset002_LumbarMRI --folds 1 2 --models SEED0 SEED1 SEED2

Every held-out scan of a fold (of the model's dataset, by the same identifiers) is taken from `--source`, a raw dataset
of scans without lesions and with outlined bodies, and gets `--draws` different draws of lesions. Models are trainings
of one thing by other seeds; they are asked without mirrored views. Macro AUC, pooled over draws:
end to end: a vertebra that is missed or misnamed has the prior of training.
found: the class of what lies within 10 mm of the annotated centre, whatever its name; missed has the prior.
exact: the same model in regions of the true outlines, cut with its margin.
observer: logistic regression, out of patient, on the mean contrast of the place where the lesion is or would be, to the
marrow of the scan, its sign known. The ceiling of the simulation.
The interval is of patients and seeds together: a draw takes patients and models with replacement. T1 is told apart, for
there the simulated lesions have the reverse contrast, and so are scans whose identifier begins with `--elsewhere`.
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
from held_out import training_prior
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from spinecls import files
from spinecls.evaluation import intervals, matching, metrics
from spinecls.inference.case_results import case_prediction
from spinecls.inference.models import ModelChoice, TrainedModel, choose_model, load_predictor
from spinecls.inference.predictor import Predictor
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_image, read_label_map
from spinecls.paths import preprocessed_folder
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import region_from_mask
from spinecls.simulation.bodies import find_bodies
from spinecls.simulation.case import simulate_case
from spinecls.simulation.lesions import draw_candidates
from spinecls.simulation.options import SIGN, SimulationOptions
from spinecls.simulation.sources import Job, find_jobs
from spinecls.simulation.streams import case_stream
from spinecls.simulation.tissue import measure_channel
from spinecls.trainers.validation import plan_description
from spinecls.verification.cohort import levels_at
from spinecls.verification.instrument import Instrument, Question

COLUMNS = ("end to end", "found", "exact", "observer")


@dataclass(frozen=True)
class Seen:
    """One vertebra of one draw: (K,) probabilities as the columns ask for them, and what an observer is told."""

    case: str
    patient: str
    sequence: str
    truth: int
    named: bool
    probabilities: tuple[np.ndarray, np.ndarray, np.ndarray]
    contrast: tuple[float, float]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    logging.getLogger("spinecls").setLevel(logging.ERROR)
    print(f"folds {' '.join(options.folds)}, {options.draws} draws; {provenance()}\n", flush=True)
    jobs = {job.case.identifier: job for job in find_jobs(load_dataset(options.source), SimulationOptions())[0]}
    every = [[one for fold in options.folds for one in seen_by(model, fold, jobs, options)] for model in options.models]
    print("| scans | patients | vertebrae | identified | " + " | ".join(COLUMNS) + " | seeds, end to end |")
    print("|---" * (5 + len(COLUMNS)) + "|")
    for name, chosen in groups(every[0], options.elsewhere).items():
        if chosen.any():
            print(f"| {name} | {row(every, chosen)} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="raw dataset of scans without lesions")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model folders, one a seed")
    parser.add_argument("--finder", type=Path, help="model folder that locates instead of the models themselves")
    parser.add_argument("--folds", nargs="+", default=["1", "2"])
    parser.add_argument("--draws", type=int, default=4, help="draws of lesions in every scan")
    parser.add_argument("--first_seed", type=int, default=1000, help="of the draws; not that of the training dataset")
    parser.add_argument("--elsewhere", default="VB1", help="how scans of another hospital begin")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def seen_by(folder: Path, fold: str, jobs: dict[str, Job], options: argparse.Namespace) -> Iterator[Seen]:
    """All vertebrae of the held-out scans of a fold, in all draws."""
    model = choose_model(ModelChoice(folder=folder, folds=(fold,)))
    predictor = predictor_of(folder, fold)
    if options.finder is not None:
        predictor.locate = predictor_of(options.finder, fold).locate
    instrument = Instrument(predictor)
    prior = training_prior(instrument.predictor.plan)
    for name in held_out(model, fold):
        if name in jobs:
            for seed in range(options.first_seed, options.first_seed + options.draws):
                yield from seen_in(instrument, jobs[name], SimulationOptions(seed=seed), prior)


def predictor_of(folder: Path, fold: str) -> Predictor:
    model = choose_model(ModelChoice(folder=folder, folds=(fold,)))
    return load_predictor(model, torch.device("cpu"), augment=False, calibrated=False)


def held_out(model: TrainedModel, fold: str) -> list[str]:
    return files.read_json(preprocessed_folder(model.dataset) / "splits_final.json")[int(fold)]["val"]


def seen_in(instrument: Instrument, job: Job, options: SimulationOptions, prior: np.ndarray) -> Iterator[Seen]:
    """The vertebrae of one scan in one draw."""
    predictor = instrument.predictor
    plan, description = predictor.plan, plan_description(predictor.plan)
    volume = read_image(job.case.images)
    grid = volume.geometry
    drawn_map, _ = read_label_map(job.case.vertebra_maps[sorted(job.case.vertebra_maps)[0]])
    known = {"codes": plan.levels, "sequences": job.sequences, "channel_names": plan.channel_names}
    stream = case_stream(options.seed, job.case.identifier)
    drawn = simulate_case(
        volume.array, drawn_map, grid, **known, class_list=plan.class_names, options=options, stream=stream
    )
    contrasts = observed(drawn.image[0], drawn_map, grid, plan.levels, job.sequences[0], options, stream)
    result = predictor.predict_volume(drawn.image, grid)
    classes = {level: plan.class_names.index(name) for level, name in drawn.classes.items()}
    present = [level for level, code in plan.levels.items() if np.any(drawn_map == code)]
    centres = {n: tuple(grid.to_world(np.argwhere(drawn_map == plan.levels[n]).mean(axis=0))) for n in present}
    truth = matching.CaseTruth(
        identifier=job.case.identifier, patient=job.case.patient, centres_lps=centres, classes=classes
    )
    prediction = case_prediction(job.case.identifier, result, plan, {})
    outcome = matching.judge([prediction], [truth], description, None)[0]
    named = {v.level: v.prediction for v in outcome.vertebrae}
    found = dict(zip(levels_at(result.located, truth), result.vertebrae, strict=True))
    levels = list(classes)
    margin_mm = predictor.configuration.sealing_margin_mm
    regions = [region_from_mask(drawn_map == plan.levels[level], grid, margin_mm) for level in levels]
    marrow = result.located.marrow if result.located.regions else marrow_reference(drawn.image, regions)
    questions = [Question(image=drawn.image, grid=grid, region=region, marrow=marrow) for region in regions]
    exact = instrument.ask(questions).probabilities if questions else ()
    for level, in_outline in zip(levels, exact, strict=True):
        yield Seen(
            case=job.case.identifier,
            patient=job.case.patient,
            sequence=job.sequences[0],
            truth=classes[level],
            named=named[level] is not None,
            probabilities=(told(named[level], prior), told(found.get(level), prior), in_outline),
            contrast=contrasts[level],
        )


def told(vertebra, prior: np.ndarray) -> np.ndarray:
    return prior if vertebra is None else np.asarray(vertebra.class_probabilities)


def observed(image, drawn_map, grid, codes, sequence, options, stream) -> dict[str, tuple[float, float]]:
    """By level the contrast of the lesion's place to the scan's marrow, as a bright or as a dark one."""
    bodies = find_bodies(drawn_map, grid, codes)
    channel = measure_channel(image, sequence, bodies)
    found = {}
    for level, candidate in draw_candidates(bodies, sequence, options, stream).items():
        place = image[candidate.body.slices][candidate.shape.outline]
        value = (float(place.mean()) - channel.median) / channel.deviation
        found[level] = (value, 0.0) if SIGN[candidate.kind][sequence] > 0 else (0.0, value)
    return found


def groups(seen: Sequence[Seen], elsewhere: str) -> dict[str, np.ndarray]:
    """Which vertebrae each row of the table is of."""
    t1 = np.array([one.sequence == "T1" for one in seen])
    other = np.array([one.case.startswith(elsewhere) for one in seen])
    return {
        "T2 and STIR": ~t1,
        "T2 and STIR, home": ~t1 & ~other,
        f"T2 and STIR, elsewhere ({elsewhere})": ~t1 & other,
        "T1": t1,
    }


def row(every: Sequence[Sequence[Seen]], chosen: np.ndarray) -> str:
    """Cells of a group of vertebrae, which are the same for each model."""
    models = [[one for one, take in zip(seen, chosen, strict=True) if take] for seen in every]
    first = models[0]
    patients = tuple(one.patient for one in first)
    truth = np.array([one.truth for one in first])
    draws = intervals.draw_patients(patients)
    statistics = [
        [metrics.macro_auc(truth, np.stack([one.probabilities[column] for one in seen])) for seen in models]
        for column in range(3)
    ]
    identified = [_mean(np.array([one.named for one in seen], float)) for seen in models]
    observer = metrics.macro_auc(truth, observer_probabilities(first, truth, patients))
    cells = [text(seeds_and_patients(found), patients, draws) for found in (identified, *statistics)]
    cells.append(text(observer, patients, draws))
    ones = np.ones((1, len(first)))
    by_seed = [float(statistic(ones)[0]) for statistic in statistics[0]]
    spread = f" (sd {np.std(by_seed, ddof=1):.3f})" if len(by_seed) > 1 else ""
    seeds = ", ".join(f"{value:.3f}" for value in by_seed) + spread
    return " | ".join([str(len(set(patients))), str(len(first)), *cells, seeds])


def _mean(values: np.ndarray):
    return lambda weights: metrics.mean(values, weights)


def seeds_and_patients(statistics: Sequence[intervals.Statistic]) -> intervals.Statistic:
    """Mean over models, each draw over as many of them drawn with replacement; the estimate over all of them once."""
    rng = np.random.default_rng(0)

    def statistic(weights: np.ndarray) -> np.ndarray:
        values = np.stack([found(weights) for found in statistics], axis=1)
        if len(weights) == 1 or len(statistics) == 1:
            return values.mean(axis=1)
        drawn = rng.integers(len(statistics), size=values.shape)
        return np.take_along_axis(values, drawn, axis=1).mean(axis=1)

    return statistic


def observer_probabilities(seen: Sequence[Seen], truth: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """(N, K) probabilities by the contrast of the place, from a regression on the other patients."""
    features = np.array([one.contrast for one in seen])
    classes = len(seen[0].probabilities[0])
    table = np.zeros((len(seen), classes))
    folds = GroupKFold(min(5, len(set(patients))))
    for fit, rest in folds.split(features, truth, patients) if len(set(patients)) > 1 else [(slice(None), slice(None))]:
        regression = LogisticRegression(max_iter=1000).fit(features[fit], truth[fit])
        table[np.ix_(np.arange(len(seen))[rest], regression.classes_)] = regression.predict_proba(features[rest])
    return table


def text(statistic: intervals.Statistic, patients: Sequence[str], draws: intervals.PatientDraws) -> str:
    found = intervals.interval(statistic, patients, draws)
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
