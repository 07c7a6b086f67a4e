"""The model card: what the files of a training tell of a model, and what is left for its makers to fill in.

Reporting items after TRIPOD+AI (Collins et al., BMJ 2024, e078378; numbers as there) and the sections of CLAIM 2024
(Tejani et al., Radiology: Artificial Intelligence 2024, e240300).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinecls import __version__, paths
from spinecls.anatomy import LEVELS
from spinecls.calibration.record import Calibration
from spinecls.errors import SpineclsError
from spinecls.inference.models import TrainedModel
from spinecls.io.annotation_forms import DRAFT
from spinecls.planning.fingerprint_types import CaseFingerprint, load_fingerprint
from spinecls.planning.plan import Configuration, NetworkPlan, Plan, load_plan
from spinecls.planning.stages import FINGERPRINT
from spinecls.sealing.sealing_levels import is_guaranteed
from spinecls.tasks.checkpoint import build_model, load_checkpoint

TO_FILL = "TO FILL"
UNKNOWN = "not recorded"

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#!|~&$:/@])")

SCORES = (
    ("vertebrae under their right name", ("location", "identification_rate")),
    ("the same by counting from the commonest lowest level", ("location", "trivial_counter_identification_rate")),
    ("cases with all names right", ("location", "whole_case_right")),
    ("distance of centres (mm)", ("location", "centre_error_mm")),
    ("F1 of detection at 10 mm", ("location", "f1_10mm")),
    ("Dice a vertebra", ("location", "dice")),
    ("macro AUC end to end", ("classification", "end_to_end", "auc_macro")),
    ("macro AUC of named vertebrae", ("classification", "identified", "auc_macro")),
    ("balanced accuracy end to end", ("classification", "end_to_end", "balanced_accuracy")),
    ("kappa end to end", ("classification", "end_to_end", "kappa")),
    ("quadratic kappa end to end", ("classification", "end_to_end", "kappa_quadratic")),
    ("Brier score end to end", ("classification", "end_to_end", "brier")),
    ("negative log-likelihood end to end", ("classification", "end_to_end", "nll")),
    ("expected calibration error end to end", ("classification", "end_to_end", "ece")),
    ("coverage of prediction sets", ("classification", "prediction_sets", "coverage")),
)
"""Scores of the card by their place in summary.json."""

SEALED_BY = {
    "S0": "none, the class may come from anywhere in an open crop",
    "S1": "none, evidence is pooled inside the vertebra's region but may have mixed in what lies outside",
    "S2": "the class comes from the vertebra's own region and two numbers a channel of the case's marrow",
    "S3": "the class comes from the vertebra's own region alone",
}


@dataclass(frozen=True)
class FoldFacts:
    """What is known of a fold.

    `parameters` are counted by network, as `SpineModel.parts` names them; `run` is the content of run.json and
    `summary` of the validation's summary.json, empty where there is none.
    """

    name: str
    plan: Plan
    configuration: Configuration
    checkpoint: Mapping[str, Any]
    parameters: Mapping[str, int]
    run: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def cases(self) -> set[str]:
        """Training and validation cases."""
        return {*self.run.get("cases", ()), *self.summary.get("predicted", ())}


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def weights_line(hashes: Mapping[str, str]) -> str:
    """Line of the card that says which weights it is about; predictions name their model by the same digits."""
    return "Weights: " + ", ".join(f"fold {fold} `{digits}`" for fold, digits in hashes.items()) + "."


def card_of(model: TrainedModel, hashes: Mapping[str, str], calibration: Calibration | None) -> str:
    """Model card of the chosen folds, in Markdown.

    Parameters
    ----------
    hashes : from `inference.models.checkpoint_hashes`
    calibration : that predictions with these folds use
    """
    folds = [_facts(model, fold) for fold in model.folds]
    known = _known_cases(model, folds)
    told = _calibration(calibration)
    title = ", ".join(map(escaped, (model.dataset, model.trainer, model.plans, model.configuration)))
    blocks = [
        f"# Model card: {title}",
        f"Written by spinecls {__version__} from the files of the training. `{TO_FILL}` marks what only the makers of "
        "the model know.",
        weights_line(hashes),
        _intended_use(folds),
        _data(folds, known),
        _splits(folds),
        _preprocessing(folds[0]),
        _networks(folds[0]),
        _training(folds),
        _scores(folds),
        f"## Calibration\n{told}",
        _reporting_items(folds),
    ]
    return "\n\n".join(blocks) + "\n"


def _facts(model: TrainedModel, fold: str) -> FoldFacts:
    folder = model.fold(fold)
    content = load_checkpoint(folder.final)
    plan = load_plan(folder.plan)
    return FoldFacts(
        name=fold,
        plan=plan,
        configuration=plan.configuration(model.configuration),
        checkpoint=content,
        parameters={
            name: sum(p.numel() for p in network.parameters())
            for name, network in build_model(content, folder.final).parts()
        },
        run=folder.record(),
        summary=folder.scores(),
    )


def _known_cases(model: TrainedModel, folds: Sequence[FoldFacts]) -> list[CaseFingerprint]:
    """The cases as they were measured in planning; none when they are not all known here any more."""
    path = paths.preprocessed_folder(model.dataset) / FINGERPRINT
    wanted = {case for fold in folds for case in fold.cases}
    try:
        measured = load_fingerprint(path).cases if path.is_file() else {}
    except SpineclsError:
        return []
    return [measured[case] for case in sorted(wanted)] if wanted <= set(measured) else []


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{escaped(name)} {count}" for name, count in counts.items()) or "none"


def _intended_use(folds: Sequence[FoldFacts]) -> str:
    by_level = ("location", "identification_rate_by_level")
    seen = {level for fold in folds for level in _at(fold.summary, by_level) or ()}
    unseen = [level for level in LEVELS if level not in seen]
    lines = [
        "## Intended use and limits",
        "- For research. Not a medical device; not for decisions about patients.",
        f"- Intended patients, question and reader: {TO_FILL}.",
        f"- Images of other channels than {_channels(folds[0].plan)} were not tested.",
        f"- Levels without a scored vertebra: {', '.join(unseen) or 'none'}.",
        f"- Not tested on data from outside the training dataset; external validation: {TO_FILL}.",
    ]
    if not is_guaranteed(folds[0].configuration.seal):
        lines.append("- A comparator: the class of a vertebra may come from outside the vertebra.")
    return "\n".join(lines)


def _channels(plan: Plan) -> str:
    return ", ".join(map(escaped, plan.channel_names))


def _data(folds: Sequence[FoldFacts], known: Sequence[CaseFingerprint]) -> str:
    plan = folds[0].plan
    total = {case for fold in folds for case in fold.cases}
    classes: dict[str, int] = dict.fromkeys(plan.class_names, 0)
    for case in known:
        for name, count in case.class_counts.items():
            classes[name] = classes.get(name, 0) + count
    drafts = sum(case.annotation_forms.get("vertebrae") == DRAFT for case in known)
    sites = len({case.site for case in known} - {""})
    rows = [
        ("dataset", escaped(plan.dataset_name)),
        ("source, ethics, licence, dates", TO_FILL),
        ("cases", len(total) or UNKNOWN),
        ("patients", len({case.patient for case in known}) or UNKNOWN),
        ("sites", (sites or "none named") if known else UNKNOWN),
        ("vertebrae a class", _counted(classes) if known else f"{UNKNOWN}; of each fold's training see Splits"),
        ("channels", _channels(plan)),
        ("cases whose vertebrae a model drafted, and nobody looked at", drafts if known else UNKNOWN),
        ("age, sex, scanners", TO_FILL),
    ]
    return "## Data\n" + _table(("", ""), rows)


def _splits(folds: Sequence[FoldFacts]) -> str:
    rows = [
        (
            fold.name,
            len(fold.run["cases"]) if "cases" in fold.run else UNKNOWN,
            _counted(fold.plan.class_counts),
            fold.summary.get("cases", "none"),
            fold.summary.get("patients", "none"),
            fold.summary.get("vertebrae", "none"),
        )
        for fold in folds
    ]
    header = ("fold", "training cases", "their vertebrae a class", "validation cases", "patients", "vertebrae")
    return f"## Splits\nPatients are never parted: all scans of one are on the same side.\n\n{_table(header, rows)}"


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _preprocessing(fold: FoldFacts) -> str:
    used = fold.configuration
    registered = "aligned onto the first" if fold.plan.register_channels else "taken as they lie"
    return "\n".join(
        (
            "## Preprocessing",
            "Axes are slice (left-right), head-feet, front-back.",
            f"- Locating and naming: spacing {_triple(used.spacing_mm)} mm, patch {_triple(used.patch_size)} voxels.",
            f"- Classifying: spacing {_triple(used.sealed_spacing_mm)} mm, crop {_triple(used.sealed_size)} voxels, "
            f"region {used.sealing_margin_mm:g} mm larger than the vertebra in plane.",
            f"- Intensities: {', '.join(map(escaped, used.normalisation))}. Channels are {registered}.",
        )
    )


def _networks(fold: FoldFacts) -> str:
    used = fold.configuration
    (_, finder), *readers = fold.parameters.items()
    lines = [
        "## Networks and sealing",
        f"- Finder, which locates, names and outlines: {_shape(used.network)}, {finder} parameters.",
    ]
    if readers:
        mean = f", {len(readers)} of them, whose mean it is" if len(readers) > 1 else ""
        lines += [
            f"- Reader, from which the class comes{mean}: {_shape(used.reader_network)}, {readers[0][1]} parameters"
            f"{' each' if len(readers) > 1 else ''}. It shares no weight with the finder.",
            f"- Sealing level {used.seal}: {SEALED_BY[used.seal]}. Evidence is pooled by {escaped(used.pooling)}.",
        ]
    else:
        lines.append("- No reader: the model tells no classes.")
    return "\n".join(lines)


def _shape(network: NetworkPlan) -> str:
    return f"{network.backbone}, {len(network.features)} stages of {_triple(network.features)} features"


def _training(folds: Sequence[FoldFacts]) -> str:
    rows = [
        (
            fold.name,
            escaped(str(fold.checkpoint.get("trainer", UNKNOWN))),
            _steps(fold),
            fold.checkpoint.get("seed", UNKNOWN),
            ", ".join(map(escaped, fold.run["tasks"])) if "tasks" in fold.run else UNKNOWN,
            _start(fold.run),
            escaped(str(fold.run.get("spinecls_version", fold.checkpoint.get("spinecls_version", UNKNOWN)))),
        )
        for fold in folds
    ]
    used = folds[0].configuration
    header = ("fold", "trainer", "steps", "seed", "tasks", "start", "spinecls")
    return (
        f"## Training\n{_table(header, rows)}\n\nOne network after the other, by AdamW. The finder: {used.batch_size} "
        f"patches a step, a learning rate of {used.learning_rate:g} that decays. A reader: {used.sealed_batch_size} "
        f"crops a step, a learning rate that rises to {used.reader_learning_rate:g} and falls again. The last weights "
        "are kept, chosen on no case."
    )


def _steps(fold: FoldFacts) -> str:
    """Steps of the whole training and of each network."""
    used, readers = fold.configuration, len(fold.parameters) - 1
    each = f", {'each ' if readers > 1 else ''}reader {used.reader_steps}" if readers else ""
    return f"{fold.checkpoint.get('steps', UNKNOWN)} (finder {used.steps}{each})"


def _start(run: Mapping[str, Any]) -> str:
    if not run:
        return UNKNOWN
    return "weights of another training" if run.get("pretrained") else "random weights"


def _scores(folds: Sequence[FoldFacts]) -> str:
    scored = [fold for fold in folds if fold.summary]
    if not scored:
        return "## Scores\nNo fold was validated, so nothing is known of the model's quality."
    # Of the two kappas a model has one, as its classes are ordered or not.
    places = [(label, place) for label, place in SCORES if any(_at(fold.summary, place) for fold in scored)]
    rows = [(label, *(_interval(_at(fold.summary, place)) for fold in scored)) for label, place in places]
    header = ("score", *(f"fold {fold.name}" for fold in scored))
    return (
        "## Scores\nOn the validation cases of each fold, which it did not learn from. In brackets 95 % intervals from "
        "a bootstrap over patients. End to end: a vertebra that is missed or misnamed has the class shares of training "
        f"as its probabilities.\n\n{_table(header, rows)}"
    )


def _at(content: Any, place: Sequence[str]) -> Any:
    """What lies at a place of nested objects, None where there is nothing."""
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _interval(score: Any) -> str:
    values = [_at(score, (key,)) for key in ("estimate", "low", "high")]
    if values[0] is None:
        return "not defined"
    if values[1] is None or values[2] is None:
        reason = _at(score, ("no_interval",))
        return f"{values[0]:.3f} " + (f"(no interval: {escaped(str(reason))})" if reason else "(no interval)")
    estimate, low, high = (f"{value:.3f}" for value in values)
    return f"{estimate} [{low}, {high}]"


def _calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return "Uncalibrated: probabilities may be too sure, and prediction sets hold all classes."
    quality = calibration.quality
    covered = (
        f"{escaped(name)} {'not measured' if share is None else format(share, '.2f')} "
        f"({calibration.counts[name].patients} patients)"
        for name, share in quality.coverage.items()
    )
    lines = (
        f"Temperature {calibration.temperature:.3f}, from out-of-fold predictions of folds "
        f"{', '.join(calibration.checkpoints)}. Out of fold, temperatures of the other folds: negative log-likelihood "
        f"{quality.nll_before:.3f} before and {quality.nll_after:.3f} after, expected calibration error "
        f"{quality.ece_before:.3f} and {quality.ece_after:.3f}.",
        f"Prediction sets at {1 - calibration.alpha:.0%} hold {quality.mean_set_size:.2f} classes on average; out of "
        f"fold they hold the true class in: {', '.join(covered)}.",
        *map(escaped, calibration.notes),
    )
    return "\n\n".join(lines)


def _reporting_items(folds: Sequence[FoldFacts]) -> str:
    """Which item of the two checklists stands where, or is for the makers."""
    scored = any(fold.summary for fold in folds)
    scores = "see Scores" if scored else "no validation was run"
    readers = max(len(fold.parameters) - 1 for fold in folds)
    over = [f"{number} {what}" for number, what in ((len(folds), "folds"), (readers, "readers")) if number > 1]
    ensembled = f"mean over {' of '.join(over)} each" if len(over) > 1 else f"mean over {over[0]}" if over else "none"
    initial = sorted({_start(fold.run) for fold in folds})
    voxels = f"voxels of {_channels(folds[0].plan)}; protocol {TO_FILL}"
    missing = f"vertebrae without a class train no classification; why missing: {TO_FILL}"
    known = (
        ("Kind of model", "1, 12c", "title; methods: model", "deep neural network; see Networks and sealing"),
        ("Clinical context and purpose", "3a, 3b, 3c, 4", "introduction", TO_FILL),
        ("Sources and dates of data", "5a, 5b", "methods: data", TO_FILL),
        ("Setting, eligibility, treatment", "6a, 6b, 6c", "methods: study design, data", TO_FILL),
        ("Preparation of data", "7", "methods: data (preprocessing)", "see Preprocessing"),
        ("De-identification", "", "methods: data", TO_FILL),
        ("Outcome and who assessed it", "8a, 8b, 8c", "methods: reference standard", TO_FILL),
        ("Agreement between readers", "8b", "methods: reference standard", TO_FILL),
        ("Predictors", "9a, 9b", "methods: data (acquisition)", voxels),
        ("Sample size", "10, 21", "methods: data partitions", f"see Data and Splits; rationale {TO_FILL}"),
        ("Missing data", "11", "methods: data", missing),
        ("Partitions and their level", "12a", "methods: data partitions", "by patient; see Splits"),
        ("Start and course of training", "12c", "methods: training", f"{', '.join(initial)}; see Training"),
        ("Selection of the final model", "12c", "methods: training", "last step of a fixed number"),
        ("Ensembling", "12c", "methods: training", ensembled),
        ("Clustered data", "12d, 23b", "methods: evaluation", "intervals draw patients; by site: " + TO_FILL),
        ("Measures of performance", "12e", "methods: evaluation", scores),
        ("Recalibration", "12f, 24", "methods: evaluation", "see Calibration"),
        ("Class imbalance", "13", "methods: training", _imbalance(folds[0].configuration)),
        ("Fairness", "3c, 14", "methods: evaluation", TO_FILL),
        ("Output of the model", "15", "methods: model", "level, class probabilities, prediction set, evidence map"),
        ("Explanation", "", "methods: evaluation", "evidence a voxel; test it with spinecls_verify_evidence"),
        ("Training and evaluation data differ in", "16, 20c", "results: data", TO_FILL),
        ("Ethics, funding, protocol, registration", "17, 18a to 18d", "other information", TO_FILL),
        ("Availability of data and code", "18e, 18f", "other information", f"code: spinecls; data: {TO_FILL}"),
        ("Patient and public involvement", "19", "", TO_FILL),
        ("Flow and characteristics of patients", "20a, 20b", "results: data", TO_FILL),
        ("Full model", "22", "methods: model", "weights, network and plan are in the bundle"),
        ("Performance with intervals", "23a", "results: model performance", scores),
        ("External data", "23a", "methods: testing on external data", TO_FILL),
        ("Analysis of failures", "", "results: model performance", TO_FILL),
        ("Interpretation and limitations", "25, 26", "discussion", f"see Intended use and limits; {TO_FILL}"),
        ("Poor input, user, next steps", "27a, 27b, 27c", "discussion", f"faulty images are refused; {TO_FILL}"),
    )  # fmt: skip
    header = ("item", "TRIPOD+AI", "CLAIM 2024", "what is known")
    return f"## Reporting items\n{_table(header, known)}"


def _imbalance(used: Configuration) -> str:
    return (
        f"logit adjustment {used.logit_adjustment:g}, {used.balanced_crop_share:.0%} of crops drawn by class; "
        "probabilities are at the class shares of training"
    )
