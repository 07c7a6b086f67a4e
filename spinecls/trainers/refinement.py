"""A second round of training: labels refined by what the first round predicted of cases that it had held out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.beliefs import agreed_class
from spinecls.errors import UsageError, some_names
from spinecls.evaluation.audit import Noise, held_out_predictions, label_noise
from spinecls.evaluation.score_files import SUMMARY
from spinecls.evaluation.vertebra_table import VERTEBRAE
from spinecls.inference.models import checkpoint_hashes, model_at
from spinecls.io.preprocessed_records import read_native
from spinecls.planning.current import changed_since_validation
from spinecls.planning.splits import stored_folds

logger = logging.getLogger(__name__)

REFINED = "Refined"
"""What is added to a trainer's name in the model folder of a refined round."""


@dataclass(frozen=True)
class Refinement:
    """What an earlier round says of the training cases of a fold.

    Attributes
    ----------
    source : name of the model folder of that round; checkpoints : fold -> hash of the model that predicted
    sets : readings of the training cases that name several classes, not all; refined : those with a prediction
    noise_rate : share of their exact labels that seem wrong; None without any
    q : the `class_q` that it asks for
    expected : by case and level (K,) class probabilities, out of fold
    """

    source: str
    checkpoints: Mapping[str, str]
    sets: int
    refined: int
    noise_rate: float | None
    q: float | None
    expected: Mapping[str, Mapping[str, np.ndarray]]

    def described(self) -> dict:
        """All for run.json; of the probabilities a hash."""
        names = ("source", "checkpoints", "sets", "refined", "noise_rate", "q")
        plain = {case: {v: p.tolist() for v, p in levels.items()} for case, levels in self.expected.items()}
        return {name: getattr(self, name) for name in names} | {"probabilities": files.text_hash(plain)[:16]}


def refinement(folder: Path, preprocessed: Path, train: Sequence[str], class_names: Sequence[str]) -> Refinement:
    """Out-of-fold predictions of the training cases of a fold, and how often their labels seem wrong.

    Each case is judged by the fold that held it out, so never by a model that learnt its label. Still the labels of
    the fold that is trained now are not wholly without influence on it: the other folds' models, whose predictions
    are taken, learnt from the cases that this fold validates. The noise rate is of the training cases alone.

    Parameters
    ----------
    folder : model folder of the first round
    train : training cases of the fold

    Raises
    ------
    UsageError
        When there are no classes, or the round is not complete or of other folds.
    """
    if len(class_names) < 2:
        raise UsageError("--refine: the dataset has no classes to refine.")
    numbers = _complete_folds(folder, preprocessed)
    for number in numbers:
        if changed := changed_since_validation(preprocessed.name, folder / f"fold_{number}"):
            raise UsageError(
                f"--refine: fold {number} of {folder} was validated before these cases changed: {some_names(changed)}. "
                "Train the first round anew."
            )
    predictions, misnamed = held_out_predictions([folder / f"fold_{number}" / "validation" for number in numbers])
    expected: dict[str, dict[str, np.ndarray]] = {}
    for case in predictions:
        if case.class_names != tuple(class_names):
            raise UsageError(f"--refine: {folder} was trained on the classes {', '.join(case.class_names)}.")
        if case.identifier in train:
            expected[case.identifier] = {
                vertebra.level: np.array(vertebra.class_probabilities)
                for vertebra in case.vertebrae
                if (case.identifier, vertebra.level) not in misnamed and np.isfinite(vertebra.class_probabilities).all()
            }
    sets, refined, exact = 0, 0, []
    for case in train:
        for vertebra in read_native(preprocessed, case).vertebrae:
            found = expected.get(case, {}).get(vertebra.level)
            count = sum(1 < len(set(reading.classes)) < len(class_names) for reading in vertebra.readings)
            sets += count
            refined += 0 if found is None else count
            agreed = agreed_class((reading.classes, reading.confidence) for reading in vertebra.readings)
            exact += [] if agreed is None or found is None else [(class_names.index(agreed), found)]
    noise = _noise(exact)
    model = dataclasses.replace(model_at(folder), folds=tuple(numbers))
    made = Refinement(
        source=folder.name,
        checkpoints=checkpoint_hashes(model),
        sets=sets,
        refined=refined,
        noise_rate=None if noise is None else round(noise.rate, 6),
        q=None if noise is None else noise.q,
        expected=expected,
    )
    logger.info(
        "%d of %d sets of classes are refined by %s; %s.",
        refined,
        sets,
        folder.name,
        "no exact label was predicted" if noise is None else f"{noise.rate:.0%} of exact labels seem wrong",
    )
    return made


def expected_of(
    expected: Mapping[str, Mapping[str, np.ndarray]] | None, case: str
) -> Mapping[str, np.ndarray] | None:
    """By level what is expected of a case, nothing where it was not predicted; None when labels are not refined."""
    return None if expected is None else expected.get(case, {})


def _noise(exact: Sequence[tuple[int, np.ndarray]]) -> Noise | None:
    if not exact:
        return None
    given, probabilities = zip(*exact, strict=True)
    return label_noise(np.array(given), np.array(probabilities))


def _complete_folds(folder: Path, preprocessed: Path) -> list[str]:
    """Numbers of the folds of a round, all of them trained on the present split and validated."""
    splits = stored_folds(preprocessed)
    numbers = [str(number) for number in range(len(splits))]
    folders = {number: folder / f"fold_{number}" / "validation" for number in numbers}
    missing = [n for n, made in folders.items() if not ((made / SUMMARY).exists() and (made / VERTEBRAE).exists())]
    if missing:
        raise UsageError(
            f"--refine: needs a first round of all folds, but fold {', '.join(missing)} of {folder} is not validated. "
            "Train it without --refine first."
        )
    for number, split in zip(numbers, splits, strict=True):
        run = folder / f"fold_{number}" / "run.json"
        # An imported model has no such file, and no predictions of its validation cases either.
        if not run.exists() or set(files.read_json(run)["cases"]) != set(split["train"]):
            raise UsageError(
                f"--refine: {run.parent} was not trained on the present fold {number}, so its predictions may be of "
                "cases that it learnt. Train the first round anew."
            )
    return numbers
