"""Which cases a score is of, so that it cannot be better than the truth without a word.

Scored is every annotated case of the split that the model has not learned from. One that was not predicted counts as
missed. Of the training split the model must be known for that, because it has learned from most of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spinecls.errors import DatasetError, counted, some_names
from spinecls.evaluation.acceptance import Accept
from spinecls.evaluation.learned_images import digests_of, digests_of_all, learned_images, learned_names
from spinecls.geometry import Geometry
from spinecls.io.images import read_header
from spinecls.io.kept_results import changed_since
from spinecls.io.source_grid import canonical_geometry
from spinecls.records import Case, CasePrediction, RawDataset

NOT_PREDICTED = "no prediction"
_SAME_PLACE_MM = 1.0
_NAMES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class ScoredCases:
    """Cases of a score, by name.

    Attributes
    ----------
    predicted : scored, with a prediction
    missed : scored without a prediction, and why there is none
    failed : those of the missed that failed.csv names
    not_predicted : annotated, neither predicted nor scored
    learned_from : predicted cases whose image the model has learned from; scored only if accepted
    training_known : whether it is known which images every model has learned from
    of_training_patients : scored cases of which another scan was in the training cases
    from_other_image : scored cases that were predicted from another image than that of the dataset
    changed : scored cases whose JSON or map is not as it was predicted
    repeated : scored cases with the same image as a scored case before
    without_annotation : predicted, but no annotated case
    models : how many models predicted them
    accepted : what the user accepted
    """

    predicted: tuple[str, ...]
    missed: Mapping[str, str]
    failed: tuple[str, ...]
    not_predicted: tuple[str, ...]
    learned_from: tuple[str, ...]
    training_known: bool
    of_training_patients: tuple[str, ...]
    from_other_image: tuple[str, ...]
    changed: tuple[str, ...]
    repeated: tuple[str, ...]
    without_annotation: tuple[str, ...]
    models: int
    accepted: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All scored cases."""
        return (*self.predicted, *self.missed)

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "failed_cases": list(self.failed),
            "missed_cases": dict(self.missed),
            "cases_not_predicted": list(self.not_predicted),
            "cases_learned_from": list(self.learned_from),
            "training_images_known": self.training_known,
            "cases_of_training_patients": list(self.of_training_patients),
            "cases_from_other_image": list(self.from_other_image),
            "cases_changed": list(self.changed),
            "cases_repeated": list(self.repeated),
            "cases_without_annotation": list(self.without_annotation),
            "models": self.models,
            "accepted": list(self.accepted),
            "remarks": self.remarks(),
        }

    @property
    def sentence(self) -> str:
        """What was scored, in a line below a figure."""
        parts = [counted(len(self.names), "case")]
        parts += [f"{len(self.missed)} of them without prediction, missed"] if self.missed else []
        learned = f"{len(self.learned_from)} whose images are training images"
        parts += [f"{learned} {'AMONG THEM' if self._scores_learned else 'left out'}"] if self.learned_from else []
        parts += [] if self.training_known else ["not known what the model learned from"]
        return "; ".join(parts)

    @property
    def _scores_learned(self) -> bool:
        return not set(self.learned_from).isdisjoint(self.predicted)

    def remarks(self) -> list[str]:
        """Sentences on everything by which the score is not plainly one of all cases that were meant."""
        sentences = []
        for name, reason in self.missed.items():
            sentences += [f"{name}: {reason}; all its vertebrae count as missed."] if name in self.failed else []
        if silent := [name for name in self.missed if name not in self.failed]:
            sentences.append(f"Without a prediction, all their vertebrae count as missed: {_listed(silent)}.")
        if self.not_predicted:
            sentences.append(f"Annotated but neither predicted nor scored: {_listed(self.not_predicted)}.")
        if self.learned_from and self._scores_learned:
            sentences.append(
                f"SCORED ALTHOUGH THEIR IMAGES ARE TRAINING IMAGES: {_listed(self.learned_from)}. The scores are "
                "better than on other scans."
            )
        elif self.learned_from:
            sentences.append(f"Left out, because their images are training images: {_listed(self.learned_from)}.")
        if not self.training_known:
            sentences.append(
                "NOT KNOWN WHICH IMAGES THE MODEL LEARNED FROM: neither the predictions nor a model on this computer "
                "say so. If cases of these were among them, the scores are better than on other scans."
            )
        if self.of_training_patients:
            sentences.append(f"Other scans of their patients were trained on: {_listed(self.of_training_patients)}.")
        if self.from_other_image:
            sentences.append(f"Predicted from another image than the dataset's: {_listed(self.from_other_image)}.")
        if self.changed:
            sentences.append(f"NOT AS THEY WERE PREDICTED, the JSON or map is another: {_listed(self.changed)}.")
        if self.repeated:
            sentences.append(f"With the image of a case before, counted again: {_listed(self.repeated)}.")
        if self.without_annotation:
            sentences.append(f"No annotated cases of the dataset, left out: {_listed(self.without_annotation)}.")
        if self.models > 1:
            sentences.append(f"The cases were predicted by {self.models} models; the scores are of all together.")
        return sentences


def choose_cases(
    folder: Path,
    predictions: Sequence[CasePrediction],
    failures: Sequence[tuple[str, str]],
    raw: RawDataset,
    training: Sequence[Case] | None,
    accept: Collection[Accept],
) -> ScoredCases:
    """Cases that the score of a prediction folder is of.

    Parameters
    ----------
    folder : for messages
    failures : pairs of case and reason
    raw : the split that was predicted
    training : training cases of the same dataset when `raw` holds its test cases; None when it holds the training cases

    Raises
    ------
    DatasetError
        When no case is left to score, or cases were predicted from other images and that was not accepted.
    """
    annotated = {case.identifier: case for case in raw.cases}
    strangers = [p.identifier for p in predictions if p.identifier not in annotated]
    judged = [p for p in predictions if p.identifier in annotated]
    reasons = dict(failures)
    failed = [name for name in reasons if name in annotated and name not in {p.identifier for p in judged}]
    if not judged and not failed:
        _refuse_strangers(folder, strangers, raw, training)
    seen = _Seen(folder, judged, raw, training)
    learned = [p.identifier for p in judged if seen.by(p, annotated[p.identifier])]
    scored = [p for p in judged if Accept.learned in accept or p.identifier not in learned]
    missed = {name: f"failed: {reasons[name]}" for name in failed if not seen.by_all(annotated[name])}
    if not scored and not missed:
        source = "the model has learned from" if seen.known else "training cases of the dataset are"
        names = [*learned, *failed]
        raise DatasetError(
            f"{folder}: {source} the images of all {len(names)} predicted cases ({some_names(names)}), so their "
            "score would say nothing about other scans. Predict cases that the model has not seen, or score the folder "
            "validation of its fold; --accept learned scores them all the same."
        )
    others = [p.identifier for p in scored if _is_of_other_image(p, annotated[p.identifier])]
    if others and Accept.other_image not in accept:
        raise DatasetError(
            f"{folder}: {len(others)} of {len(scored)} cases were predicted from another image than the dataset has "
            f"under their name: {some_names(others)}. Predict the images of {raw.folder} again; if they show the "
            "same scan, processed in another way, give --accept other_image."
        )
    silent = [name for name in annotated if name not in {p.identifier for p in judged} and name not in failed]
    counted = [name for name in silent if seen.expects(annotated[name])] if Accept.missing not in accept else []
    missed |= dict.fromkeys(counted, NOT_PREDICTED)
    predicted = [p.identifier for p in scored]
    return ScoredCases(
        predicted=tuple(predicted),
        missed=missed,
        failed=tuple(name for name in failed if name in missed),
        not_predicted=tuple(name for name in silent if name not in missed and not seen.by_all(annotated[name])),
        learned_from=tuple(learned),
        training_known=seen.known,
        of_training_patients=tuple(
            name for name in (*predicted, *missed) if name not in learned and seen.patient(annotated[name])
        ),
        from_other_image=tuple(others),
        changed=tuple(p.identifier for p in scored if changed_since(folder, p)),
        repeated=_repeated([annotated[name] for name in (*predicted, *missed)]),
        without_annotation=tuple(strangers),
        models=len(seen.models),
        accepted=tuple(sorted(accept)),
    )


def _refuse_strangers(folder: Path, strangers: Sequence[str], raw: RawDataset, training: Sequence[Case] | None) -> None:
    split = "Tr" if training is None else "Ts"
    annotated = [case.identifier for case in raw.cases]
    raise DatasetError(
        f"{folder}: none of its {counted(len(strangers), 'case')} ({some_names(strangers)}) is an annotated {split} "
        f"case of {raw.description.name} ({some_names(annotated) or 'none'}). Check -gt and --split."
    )


class _Seen:
    """What the models of a folder have learned from."""

    def __init__(
        self, folder: Path, predictions: Sequence[CasePrediction], raw: RawDataset, training: Sequence[Case] | None
    ) -> None:
        self._raw, self._training = raw, training
        self.models: list[Mapping] = []
        self._images: list[frozenset[str]] = []
        self._names: list[frozenset[str]] = []
        self.known = bool(predictions)
        for prediction in predictions:
            if prediction.model not in self.models:
                images = learned_images(prediction.model, folder)
                self.known &= images is not None
                if images is None:
                    # The worst that test cases can meet: a model that knows all training cases of the dataset.
                    images = digests_of_all(training or ())
                self.models.append(prediction.model)
                self._images.append(images)
                # By name, too: an image that was changed after the training shows the same scan.
                names = learned_names(prediction.model, folder, raw.folder.name) if training is None else frozenset()
                self._names.append(names)

    def by(self, prediction: CasePrediction, case: Case) -> bool:
        """Whether the model of a prediction has learned from the image of a case."""
        return self._knows(self.models.index(prediction.model), case, prediction.input.get("voxels", ()))

    def _knows(self, model: int, case: Case, further: Sequence[str] = ()) -> bool:
        if case.identifier in self._names[model]:
            return True
        images = self._images[model]
        return bool(images) and not images.isdisjoint([*digests_of(case), *further])

    def by_all(self, case: Case) -> bool:
        """Whether every model has learned from the image of a case."""
        return bool(self.models) and all(self._knows(model, case) for model in range(len(self.models)))

    def expects(self, case: Case) -> bool:
        """Whether a prediction of the case is missing from the folder."""
        return (self._training is not None or self.known) and not self.by_all(case)

    def patient(self, case: Case) -> bool:
        """Whether another scan of the patient was in training; a case without a patient is a patient of its own."""
        return bool(self._trained_patients.get(case.patient, set()) - {case.identifier})

    @cached_property
    def _trained_patients(self) -> dict[str, set[str]]:
        """Cases that were trained on by patient; those of another dataset have patients of their own."""
        cases: Sequence[Case] = ()
        if self._training is None:
            cases = [case for case in self._raw.cases if self.by_all(case)]
        elif any(model.get("dataset", self._raw.folder.name) == self._raw.folder.name for model in self.models):
            cases = self._training
        by_patient: dict[str, set[str]] = {}
        for case in cases:
            by_patient.setdefault(case.patient, set()).add(case.identifier)
        return by_patient


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{len(names)} ({shown}{f' and {len(names) - _NAMES_SHOWN} more' if len(names) > _NAMES_SHOWN else ''})"


def _repeated(cases: Sequence[Case]) -> tuple[str, ...]:
    known: set[str] = set()
    repeated = []
    for case in cases:
        own = digests_of(case)
        repeated += [case.identifier] if known.intersection(own) else []
        known.update(own)
    return tuple(repeated)


def _is_of_other_image(prediction: CasePrediction, case: Case) -> bool:
    voxels = prediction.input.get("voxels")
    if voxels is not None:
        return tuple(voxels) != digests_of(case)
    if prediction.geometry is None:
        return False
    return not _same_grid(prediction.geometry, canonical_geometry(read_header(case.images[0])[0]))


def _same_grid(first: Geometry, second: Geometry) -> bool:
    corners = np.asarray([[0, 0, 0], np.asarray(first.shape) - 1])
    apart_mm = np.linalg.norm(first.to_world(corners) - second.to_world(corners), axis=1)
    return tuple(first.shape) == tuple(second.shape) and bool((apart_mm < _SAME_PLACE_MM).all())
