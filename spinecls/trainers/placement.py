"""Vertebrae with a class and no position: where they are is predicted by the finder, before the readers are trained.

The founding case of this kind of data: a class for each vertebra of each scan, and positions in a few scans only. The
finder learns to find and name vertebrae from these; in the others it then looks for each vertebra that has a class, and
the readers learn from what lies there. It never learnt to find vertebrae in those scans, so its predictions there are
as good as on new patients.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spinecls import files
from spinecls.anatomy import LEVELS
from spinecls.beliefs.readers import Readers
from spinecls.dataloading.cases import SealedSource, sealed_sources
from spinecls.dataloading.loader import TrainingData
from spinecls.dataloading.placed import placed
from spinecls.hard_cases import HardCases
from spinecls.inference.predictor import Located, Predictor
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.networks.model import SpineModel
from spinecls.planning.plan import Configuration, Plan
from spinecls.trainers.refinement import expected_of
from spinecls.types import Point, triple

logger = logging.getLogger(__name__)

PLACES = "places.npz"
"""File of the predicted places, beside the checkpoints; a resumed run learns from the same ones."""

LEAST_CERTAINTY = 0.5
"""Probability of a name below which its place is not learnt from."""


@dataclass(frozen=True)
class Places:
    """Predicted places of one scan.

    Attributes
    ----------
    centres_lps : level -> world mm; certainties : level -> probability of the name
    level_map : (S, R, A) uint8 codes of the levels on the native grid; None when the model does not segment
    """

    centres_lps: Mapping[str, Point]
    certainties: Mapping[str, float]
    level_map: np.ndarray | None


def lacks_places(case: PreprocessedCase) -> bool:
    """Whether a vertebra of the case has a class and no position."""
    return any(v.centre_lps is None and v.readings for v in case.vertebrae)


def predict_places(
    model: SpineModel,
    plan: Plan,
    configuration: Configuration,
    cases: Sequence[PreprocessedCase],
    device: torch.device,
    log_folder: Path,
) -> dict[str, Places]:
    """Look for the vertebrae of scans; the model is left in the mode it was in.

    A scan that cannot be looked through is left out with a warning.

    Parameters
    ----------
    log_folder : where the traceback of a defect is kept, see `HardCases`

    Raises
    ------
    DefectiveCases
        When every scan failed, some of them by a defect.
    """
    training = model.training
    predictor = Predictor([model], plan, configuration, device, augment=False)
    places, hard = {}, HardCases(log_folder)
    try:
        for case in cases:
            with hard.case(case.identifier):
                volume = predictor.locate(case.native.astype(np.float32), case.native_geometry)
                places[case.identifier] = _places(volume, plan)
            if case.identifier in hard.failed:
                logger.warning("%s: no vertebra could be placed (%s)", case.identifier, hard.failed[case.identifier])
    finally:
        model.train(training)
    if hard.defects and not places:
        hard.raise_if_any(len(cases))
    return places


def _places(volume: Located, plan: Plan) -> Places:
    decoding = volume.decoding
    codes = np.zeros(len(decoding.labels) + 1, np.uint8)
    codes[1:] = [plan.levels.get(level, 0) for level in decoding.labels]
    return Places(
        {n: triple(map(float, c)) for n, c in zip(decoding.labels, volume.centres_lps, strict=True)},
        {n: float(p[LEVELS.index(n)]) for n, p in zip(decoding.labels, decoding.posterior, strict=True)},
        None if volume.masks is None else codes[volume.masks],
    )


def placed_sources(
    case: PreprocessedCase,
    places: Places,
    plan: Plan,
    configuration: Configuration,
    use_masks: bool,
    readers: Readers | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
) -> list[SealedSource]:
    """Crops of the vertebrae of a case that had no position; the less sure the name, the less is believed of the class.

    Vertebrae that had a position serve for the bend of the column and the marrow, and give no crop a second time.
    """
    vertebrae = []
    for vertebra in case.vertebrae:
        level = vertebra.level
        if vertebra.centre_lps is not None:
            vertebrae.append(placed(vertebra, readings=()))
        elif vertebra.readings and (certainty := places.certainties.get(level, 0.0)) >= LEAST_CERTAINTY:
            vertebrae.append(placed(vertebra, centre_lps=places.centres_lps[level], certainty=certainty))
    if not any(vertebra.readings for vertebra in vertebrae):
        return []
    native_map = case.native_map
    if places.level_map is not None:
        native_map = places.level_map if native_map is None else np.where(native_map > 0, native_map, places.level_map)
    placed_case = dataclasses.replace(case, vertebrae=tuple(vertebrae), native_map=native_map)
    return sealed_sources(placed_case, plan, configuration, use_masks, readers, expected)


def with_places(
    data: TrainingData, places_of: Mapping[str, Places], plan: Plan, configuration: Configuration, use_masks: bool
) -> TrainingData:
    """Training data with crops of the vertebrae that have no position, where they were found."""
    sources = []
    for case in data.unplaced:
        if case.identifier in places_of:
            places = places_of[case.identifier]
            expected = expected_of(data.expected, case.identifier)
            sources += placed_sources(case, places, plan, configuration, use_masks, data.readers, expected)
    logger.info("%d vertebrae without a position are learnt from where they were found.", len(sources))
    return dataclasses.replace(data, sealed=[*data.sealed, *sources])


def save_places(path: Path, places_of: Mapping[str, Places]) -> None:
    """Write predicted places, whole or not at all; no pickled objects."""
    words = {
        case: {"centres_lps": dict(places.centres_lps), "certainties": dict(places.certainties)}
        for case, places in places_of.items()
    }
    maps = {f"map_{case}": p.level_map for case, p in places_of.items() if p.level_map is not None}
    with files.atomic_path(path) as temporary, open(temporary, "wb") as stream:
        told = np.frombuffer(json.dumps(words).encode(), np.uint8)
        np.savez_compressed(stream, words=told, **maps)  # type: ignore[arg-type]  # taken for allow_pickle


def load_places(path: Path) -> dict[str, Places]:
    """Inverse of `save_places`."""
    with np.load(path) as content:
        words = json.loads(content["words"].tobytes())
        return {
            case: Places(
                {level: tuple(centre) for level, centre in row["centres_lps"].items()},
                row["certainties"],
                content.get(f"map_{case}"),
            )
            for case, row in words.items()
        }
