"""The guarantee, for every trainer: what lies outside a vertebra's region changes no bit of its class."""

import dataclasses

import numpy as np
import pytest
import torch

from spinecls.inference.predictor import Predictor
from spinecls.io.images import read_image, read_label_map
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import load_plan
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import region_from_mask
from spinecls.sealing.sealing_levels import is_guaranteed
from spinecls.tasks.checkpoint import build_model, load_checkpoint
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.trainer import PREDICTING, TRAINERS, RunSettings
from spinecls.trainers.training_data import load_training_data

VERTEBRAE, DONORS = 50, 8


def sealed_trainers():
    found = [TRAINERS.find(name) for name in TRAINERS.names()]
    return [t for t in found if t.final_name == PREDICTING and (t.seal is None or is_guaranteed(t.seal))]


@pytest.fixture(scope="module")
def scans(phantom):
    """Images of all phantoms with the regions of their vertebrae, which do not depend on what a model finds."""
    raw = phantom / "raw/Dataset001_Phantom"
    found = []
    for path in [*sorted((raw / "imagesTr").iterdir()), *sorted((raw / "imagesTs").iterdir())]:
        volume = read_image([path])
        labels, geometry = read_label_map(next(raw.glob(f"labels*/{path.name.replace('_0000', '')}")))
        codes = [code for code in np.unique(labels) if code not in (0, 255)]
        regions = [region_from_mask(labels == code, geometry, 3.0) for code in codes]
        found.append((volume.array, geometry, regions, marrow_reference(volume.array, regions)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", sealed_trainers(), ids=lambda t: t.__name__)
def test_eight_other_patients_around_fifty_vertebrae_change_no_bit(trainer_class, phantom, scans, tmp_path):
    folder = phantom / "preprocessed/Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    configuration = dataclasses.replace(plan.configuration("3d_fullres"), steps=2, reader_steps=2)
    assert configuration.members == 2
    trainer = trainer_class(plan, configuration, RunSettings(tmp_path, torch.device("cpu"), show_progress=False))
    cases = fold_cases(folder, "0")[0][:2]
    plans_config = "spineclsPlans_3d_fullres"
    trainer.fit(
        load_training_data(
            StoredCases(folder, plans_config, cases),
            plan,
            configuration,
            masks=trainer.regions_from_masks,
            beliefs=trainer.learns_beliefs,
            images=StoredCases(folder, plans_config, ()),
        )
    )
    model = build_model(load_checkpoint(trainer.final_path), trainer.final_path)
    predictor = Predictor([model], plan, configuration, augment=False)
    asked = 0
    for number, (image, grid, regions, marrow) in enumerate(scans):
        for region in regions:
            before = predictor.classify_regions(image, grid, [region], marrow)
            view = (slice(None), *region.slices)
            for turn in range(1, DONORS + 1):
                swapped = np.array(scans[(number + turn) % len(scans)][0])
                swapped[view][:, region.mask] = image[view][:, region.mask]
                after = predictor.classify_regions(swapped, grid, [region], marrow)
                assert np.array_equal(before.members, after.members)
                assert np.array_equal(before.evidence, after.evidence)
                assert np.array_equal(before.contributions, after.contributions)
            asked += 1
            if asked == VERTEBRAE:
                return
    pytest.fail(f"only {asked} vertebrae")


def test_there_are_sealed_trainers_to_test():
    assert {"BaselineTrainer", "AuxSegTrainer", "AuxAETrainer", "AuxSegAETrainer"} <= {
        t.__name__ for t in sealed_trainers()
    }
