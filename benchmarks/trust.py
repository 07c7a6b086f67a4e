"""Do probabilities, sets and doubts of a model hold what they say, and what do five folds and several views bring?

    python benchmarks/trust.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600
    python benchmarks/trust.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600 --test RAW/Dataset900_Others
    python benchmarks/trust.py --dataset RAW/Dataset011_Clean --folder FOLDER --steps 1600 --set_aside 14
    python benchmarks/trust.py --model RESULTS/.../AuxSegTrainer__spineclsPlans__3d_fullres --folder FOLDER

Trains five folds, or takes a trained model, and looks at every vertebra by the fold that did not see its patient:

ECE: debiased, 15 equal-mass bins, every patient with the same weight, before and after the temperature that was fitted
    on the other folds.
Coverage: of the 90 % sets, from the scores of other patients, for each class; a class of at least 30 patients holds
    the promise when the upper end of its interval reaches 0.90. As in `spinecls_evaluate` all vertebrae weigh the
    same; beside it with every patient weighing the same, which is what the sets promise.
Referral: the error rate of the 20 % of vertebrae with the least confidence over that of the others.

With --test the folds are averaged, with and without test-time augmentation (several views), on a held-out dataset (its
imagesTs where it has some, else its imagesTr) and compared with single folds. --set_aside N makes such a dataset: N
patients, drawn by chance, are taken from the training cases before anything is planned, and become the imagesTs.
Nothing is calibrated there, so that all are compared alike. Times: paired runs of `spinecls_predict` on a few cases,
whole processes, ratio to one fold and one view. A run that was stopped goes on when it is started anew.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import held_out
import numpy as np
import torch
from common import link_dataset, provenance, spinecls
from held_out import Score, text
from trainings import Run, Trainings, link

from spinecls import files
from spinecls.calibration import conformal
from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.calibration.record import CALIBRATION, pool_names
from spinecls.calibration.temperature import cross_fitted
from spinecls.evaluation import intervals, matching, metrics
from spinecls.evaluation.summary import COVERAGE_MIN_PATIENTS, TARGET_COVERAGE
from spinecls.evaluation.truth import truth_of
from spinecls.inference.model_calibration import out_of_fold
from spinecls.inference.models import ModelChoice, TrainedModel, choose_model
from spinecls.io import predictions as prediction_files
from spinecls.io.dataset import load_dataset
from spinecls.io.preprocessed_records import native_cases, read_native
from spinecls.planning.plan import Plan, load_plan
from spinecls.records import RawDataset

LESIONS = "lesions.csv"
TIMED_CASES, TIMED_ROUNDS = 3, 3
VIEWS = {"one view": ("--disable_tta",), "several views": ()}
SINGLE, ENSEMBLE = "single folds, mean", "ensemble of folds"


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    bench = Trainings(options.folder, options.steps, options.threads)
    if options.dataset is not None:
        bench.remember(options.dataset)
    if options.set_aside:
        options.dataset = options.test = set_aside(bench, options.dataset, options.set_aside)
    model = trained(bench, options) if options.model is None else choose_model(ModelChoice(folder=options.model))
    plan = load_plan(model.plan)
    if len(plan.class_names) < 2 or len(model.folds) < 2:
        raise SystemExit(f"{model.path}: needs classes and at least two folds; has folds {', '.join(model.folds)}.")
    print(f"\n{model.name}, folds {' '.join(model.folds)}; {provenance()}")
    report_out_of_fold(out_of_fold(model, model.folds), plan)
    if options.dataset is not None and (options.dataset / LESIONS).exists():
        report_lesions(model, options.dataset / LESIONS)
    if options.test is not None:
        report_test(bench, model, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="raw dataset to train on, without --model")
    parser.add_argument("--model", type=Path, help="folder of a trained model with two validated folds or more")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--trainer", default="AuxSegTrainer")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3", "4"], help="to train")
    parser.add_argument("--steps", type=int, default=1600)
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test", type=Path, help="raw dataset of patients that no fold has seen")
    test.add_argument("--set_aside", type=int, default=0, help="patients of --dataset that are tested on instead")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if (options.dataset is None) == (options.model is None):
        parser.error("give --dataset or --model")
    if options.set_aside and options.dataset is None:
        parser.error("--set_aside needs --dataset: a trained model has seen its patients")
    return options


def set_aside(bench: Trainings, source: Path, count: int) -> Path:
    """The raw dataset with some patients, seed 0, in imagesTs, labelsTs, structuresTs and vertebraeTs.csv instead."""
    target = bench.raw(f"{source.name}Less{count}")
    if (target / "dataset.json").exists():
        return target
    cases = load_dataset(source, verify_voxels=False).cases
    patients = sorted({case.patient for case in cases})
    aside = {patients[i] for i in np.random.default_rng(0).permutation(len(patients))[:count]}
    split = {case.identifier: "Ts" if case.patient in aside else "Tr" for case in cases}
    for case in cases:
        maps = [*case.vertebra_maps.values(), *filter(None, [case.structure_map])]
        for path in (*case.images, *maps):
            folder = path.parent.name.removesuffix("Tr") + split[case.identifier]
            link(target / folder / path.name, path)
    rows = files.read_csv(source / "vertebraeTr.csv")
    for part in ("Tr", "Ts"):
        own = [row for row in rows if split[row["case"]] == part]
        files.write_csv(target / f"vertebrae{part}.csv", list(rows[0]), own)
    content = files.read_json(source / "dataset.json") | {"name": target.name}
    content["numTraining"] = sum(part == "Tr" for part in split.values())
    files.write_json(target / "dataset.json", content)
    return target


def trained(bench: Trainings, options: argparse.Namespace) -> TrainedModel:
    """The model of all folds, trained as far as it is not."""
    link_dataset(options.dataset, bench.folder)
    bench.prepare(options.dataset.name)
    runs = [Run(options.dataset.name, options.trainer, fold) for fold in options.folds]
    bench.forecast(runs)
    for run in runs:
        bench.train(run)
    return choose_model(ModelChoice(folder=bench.model(runs[0]), folds=tuple(options.folds)))


def report_out_of_fold(oof: OutOfFold, plan: Plan) -> None:
    """ECE, referral and coverage of vertebrae that were identified, by the fold that did not see them."""
    after, patients = cross_fitted(oof), tuple(oof.patients)
    draws = intervals.draw_patients(patients)
    before_error, after_error = (Score(calibration_error(part), patients) for part in (oof, after))
    sure, wrong = metrics.confidence_of(after.probabilities), metrics.decide(after.probabilities) != after.truth
    referred = {
        "error, least certain 20 %": lambda w: metrics.referral_errors(sure, wrong, w)[0],
        "error, the others": lambda w: metrics.referral_errors(sure, wrong, w)[1],
        "error ratio": lambda w: np.divide(*metrics.referral_errors(sure, wrong, w)),
    }
    print(f"\nout of fold, {len(patients)} identified vertebrae of {len(set(patients))} patients\n")
    print("| what | value [95 % interval] |\n|---|---|")
    for words, error in (("before", before_error), ("after, temperature of the other folds", after_error)):
        found = intervals.interval(error.statistic, error.patients, draws, centred=True, least=0.0)
        print(f"| ECE {words} | {text(found)} |")
    print(f"| after - before | {text(after_error.less(before_error, draws))} |")
    for words, statistic in referred.items():
        print(f"| {words} | {text(Score(statistic, patients).interval(draws))} |")
    report_coverage(after, plan, draws)


def calibration_error(oof: OutOfFold):
    """Statistic of bootstrap weights: the ECE with every patient weighing the same."""
    confidence, share = oof.probabilities.max(axis=1), metrics.patient_shares(oof.patients)
    right = metrics.decide(oof.probabilities) == oof.truth
    return lambda weights: metrics.expected_calibration_error(confidence, right, weights * share)


def report_coverage(oof: OutOfFold, plan: Plan, draws: intervals.PatientDraws) -> None:
    """How often the 90 % sets hold the true class, and how many classes they hold."""
    sets = conformal.out_of_fold_sets(oof, ordered=plan.class_order)
    held = sets[np.arange(len(oof.truth)), oof.truth]
    groups = {"all": np.ones(len(held), bool)}
    groups |= {name: oof.truth == k for k, name in enumerate(plan.class_names)}
    print("\n| class | vertebrae | patients | coverage | every patient the same | at least 0.90 |")
    print("|---|---|---|---|---|---|")
    for name, rows in groups.items():
        patients, values = tuple(oof.patients[rows]), held[rows]
        share = metrics.patient_shares(patients) if len(patients) else np.ones(0)
        coverage = Score(lambda w, v=values: metrics.mean(v, w), patients).interval(draws)
        weighted = Score(lambda w, v=values, s=share: metrics.mean(v, w * s), patients).interval(draws)
        enough = coverage.patients >= COVERAGE_MIN_PATIENTS
        verdict = ("yes" if coverage.high >= TARGET_COVERAGE else "no") if enough else "too few patients"
        counts = f"{coverage.items} | {coverage.patients}"
        print(f"| {name} | {counts} | {text(coverage)} | {text(weighted)} | {verdict} |")
    sizes = sets.sum(axis=1)
    size = Score(lambda w: metrics.mean(sizes, w), tuple(oof.patients)).interval(draws)
    print(f"\nmean size of a set {text(size)} of {len(plan.class_names)} classes")
    pools = conformal.make_pools(conformal.calibration_scores(oof), len(plan.class_names), plan.class_order)
    for name, pool in pool_names(pools, plan.class_names).items():
        print(f"{name} has too few patients and is judged together: {', '.join(pool)}")


def report_lesions(model: TrainedModel, path: Path) -> None:
    """Which simulated lesions are taken for another class: how often, by their contrast and their size."""
    lesions = {(r["case"], r["vertebra"]): r for r in files.read_csv(path) if r["role"] == "lesion"}
    wrong: dict[str, list[bool]] = {}
    for fold in model.folds:
        for row in files.read_csv(model.fold(fold).vertebrae):
            if row["found"] != "identified" or not row["class"]:
                continue
            lesion = lesions.get((row["case"], row["level"]))
            groups = ["no lesion"] if lesion is None else [lesion["stratum"], f"size {lesion['size_grade']}"]
            for group in groups:
                wrong.setdefault(group, []).append(row["predicted_class"] != row["class"])
    print("\n| lesion | vertebrae | wrong |\n|---|---|---|")
    for group, found in sorted(wrong.items()):
        print(f"| {group} | {len(found)} | {np.mean(found):.3f} |")


def report_test(bench: Trainings, model: TrainedModel, options: argparse.Namespace) -> None:
    """Ensemble against single folds, with one and several views, on patients that no fold has seen."""
    split = "Ts" if (options.test / "imagesTs").is_dir() else "Tr"
    raw = load_dataset(options.test, verify_voxels=False, split=split)
    seen = {case for fold in model.fold_folders() for case in fold.record()["cases"]}
    if known := sorted(seen & {case.identifier for case in raw.cases}):
        raise SystemExit(f"{options.test}: {known[0]} was trained on. Give a dataset of other patients.")
    preprocessed = bench.preprocessed(model.dataset)
    patients = {read_native(preprocessed, case).patient for case in seen.intersection(native_cases(preprocessed))}
    if not patients:
        print("Whose the trained cases are is not known here: see to it that the test set holds other patients.")
    if known := sorted(patients & {case.patient for case in raw.cases}):
        raise SystemExit(f"{options.test}: patient {known[0]} was trained on. Give a dataset of other patients.")
    plain = uncalibrated(model, bench.folder / "uncalibrated")
    folder = bench.folder / "test" / model.dataset / model.path.name / options.test.name
    times = timed(bench, plain, raw, folder)
    single, ensemble = (sum(np.mean([r[f"{who}, {v}"] for r in times]) for v in VIEWS) for who in (SINGLE, ENSEMBLE))
    left = (single * len(model.folds) + ensemble) * len(raw.cases) / min(TIMED_CASES, len(raw.cases))
    print(f"\npredictions of {len(raw.cases)} cases take about {left / 60:.0f} minutes, less what is there", flush=True)
    outcomes = {}
    for words, view in VIEWS.items():
        for folds in ((fold,) for fold in model.folds):
            outcomes.setdefault((SINGLE, words), []).append(judged(bench, plain, folds, view, raw, folder, split))
        outcomes[ENSEMBLE, words] = [judged(bench, plain, model.folds, view, raw, folder, split)]
    # One prior for all ways to predict, of what the folds were trained on.
    priors = [held_out.training_prior(held_out.fold_plan(model.path, fold)) for fold in model.folds]
    print_test(outcomes, np.mean(priors, axis=0), times)


def uncalibrated(model: TrainedModel, folder: Path) -> TrainedModel:
    """The same model without its calibration, which exists for one way of predicting alone."""
    target = folder / model.dataset / model.path.name
    for path in model.path.iterdir():
        if path.name != CALIBRATION:
            link(target / path.name, path)
    return choose_model(ModelChoice(folder=target, folds=model.folds))


def predict(bench: Trainings, model: TrainedModel, folds, view, images: Path, target: Path) -> float:
    """Predict a folder by the command of a user; returns its wall time in seconds."""
    words = ["predict", "-i", images, "-o", target, "-m", model.path, "-f", *folds, *view]
    return spinecls(*words, "--continue_prediction", environment=bench.environment)


def judged(
    bench: Trainings, model: TrainedModel, folds, view, raw: RawDataset, folder: Path, split: str
) -> list[matching.CaseOutcome]:
    """Cases of the test set, predicted unless they are, and judged."""
    target = folder / ("_".join(folds) + "".join(view))
    if not (target / "model.json").exists():
        predict(bench, model, folds, view, raw.folder / f"images{split}", target)
    annotated = {case.identifier for case in raw.cases}
    predicted = [p for p in prediction_files.read_folder(target) if p.identifier in annotated]
    truth = [truth_of(case, raw.description) for case in raw.cases]
    return matching.judge(predicted, truth, raw.description, None)


def timed(bench: Trainings, model: TrainedModel, raw: RawDataset, folder: Path) -> list[dict[str, float]]:
    """Seconds of the four ways to predict a few cases, one after the other, in several rounds."""
    path = folder / "times.json"
    rounds = files.read_json(path) if path.exists() else []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(rounds), TIMED_ROUNDS):
        own = {SINGLE: (model.folds[number % len(model.folds)],), ENSEMBLE: model.folds}
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            images = Path(scratch) / "images"
            for file in itertools.chain.from_iterable(case.images for case in raw.cases[:TIMED_CASES]):
                link(images / file.name, file)
            took = {
                f"{who}, {words}": predict(bench, model, folds, view, images, Path(scratch) / f"{who}, {words}")
                for who, folds in own.items()
                for words, view in VIEWS.items()
            }
        rounds.append(took)
        files.write_json(path, rounds)
    return rounds


def print_test(outcomes: dict, prior: np.ndarray, times: list[dict[str, float]]) -> None:
    """Scores and times of the four ways to predict, and paired gains."""
    one, several = VIEWS
    draws = held_out.draws_of(outcomes[ENSEMBLE, one][0])
    kinds = {
        "macro AUC, end to end": lambda found: held_out.macro_auc(found, prior),
        "identification rate": held_out.identification,
        "NLL, end to end": lambda found: held_out.log_loss(found, prior),
    }
    scores = {
        way: [held_out.mean_score([kind(found) for found in of_fold]) for kind in kinds.values()]
        for way, of_fold in outcomes.items()
    }
    print(f"\n{len(draws.index)} held-out patients, {len(outcomes[ENSEMBLE, one][0])} cases\n")
    print(f"| predicted by | {' | '.join(kinds)} | times the time, median (range) |\n|---|---|---|---|---|")
    for (who, words), found in scores.items():
        ratios = [r[f"{who}, {words}"] / r[f"{SINGLE}, {one}"] for r in times]
        spread = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {who}, {words} | {' | '.join(text(s.interval(draws)) for s in found)} | {spread} |")
    print(f"\n| gain | {' | '.join(kinds)} |\n|---|---|---|---|")
    gains = {
        f"ensemble - single, {one}": ((ENSEMBLE, one), (SINGLE, one)),
        f"ensemble - single, {several}": ((ENSEMBLE, several), (SINGLE, several)),
        f"{several} - {one}, single": ((SINGLE, several), (SINGLE, one)),
        f"{several} - {one}, ensemble": ((ENSEMBLE, several), (ENSEMBLE, one)),
    }
    for words, (first, second) in gains.items():
        pairs = zip(scores[first], scores[second], strict=True)
        print(f"| {words} | {' | '.join(text(a.less(b, draws)) for a, b in pairs)} |")


if __name__ == "__main__":
    main()
