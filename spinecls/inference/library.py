"""Prediction from Python, without files and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.inference.predictor import Predictor
from spinecls.networks.device import pick_device


def load_model(
    folder: str | Path | None = None,
    *,
    dataset: str | int | None = None,
    configuration: str | None = None,
    trainer: str | None = None,
    plans: str | None = None,
    folds: Sequence[str | int] = (),
    device: str | None = None,
    augment: bool = True,
    prevalence: Mapping[str, float] | None = None,
) -> Predictor:
    """A trained model, ready to predict; what is not said is chosen as `spinecls_predict` does.

    Parameters
    ----------
    folder : model folder `<Trainer>__<Plans>__<configuration>`, instead of the names
    dataset, configuration, trainer, plans : names below the results folder
    folds : folds to average; by default every finished one
    device : cpu, cuda, cuda:1 or mps; by default a GPU if there is one
    augment : average over several views of every crop; about six times the work of the sealed pass
    prevalence : class -> share where the model is used; by default as in training

    Raises
    ------
    ModelError
        When no model fits, several datasets have one, or the best configuration is a mean of models.

    Examples
    --------
    >>> model = spinecls.load_model(dataset=1)                                   # doctest: +SKIP
    >>> found = model.predict_image(SimpleITK.ReadImage("spine.nii.gz"))          # doctest: +SKIP
    >>> [(v.level, v.class_probabilities) for v in found.vertebrae]               # doctest: +SKIP
    """
    choice = ModelChoice(
        folder=None if folder is None else Path(folder),
        dataset=None if dataset is None else str(dataset),
        configuration=configuration,
        trainer=trainer,
        plans=plans,
        folds=tuple(str(fold) for fold in folds),
    )
    return load_predictor(choose_model(choice), pick_device(device), augment, prevalence)
