"""A trained phantom model and a few of its vertebrae."""

import dataclasses

import pytest
import torch

from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.sealing.sealing_levels import is_guaranteed
from spinecls.trainers.open_baseline import with_context
from spinecls.verification.cohort import build_study, dataset_cohort
from spinecls.verification.instrument import Instrument

MODEL = "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"


@pytest.fixture(scope="session")
def phantom_model(trained_phantom):
    return choose_model(ModelChoice(folder=trained_phantom / MODEL))


@pytest.fixture(scope="session")
def instrument(phantom_model):
    return Instrument(load_predictor(phantom_model, torch.device("cpu"), augment=False))


@pytest.fixture(scope="session")
def study(instrument, phantom_model, trained_phantom):
    folder = trained_phantom / "raw/Dataset001_Phantom"
    # As if the model had learned from another dataset, so that all cases are taken, not only the one held out.
    stranger = dataclasses.replace(phantom_model, dataset="Dataset002_Another")
    cohort = dataset_cohort(folder, instrument.predictor.plan, stranger)
    return build_study(instrument, cohort, vertebrae=4, donors=2, seed=0)


@pytest.fixture
def at_level(instrument):
    """The same network asked at another sealing level."""

    def level(seal):
        predictor = instrument.predictor
        configuration = dataclasses.replace(predictor.configuration, seal=seal)
        if not is_guaranteed(seal):
            # As open trainers have it: a tight crop would not reach a neighbour.
            configuration = with_context(configuration)
        return Instrument(dataclasses.replace(predictor, configuration=configuration))

    return level


@pytest.fixture
def leak(monkeypatch):
    """A defect: what lies outside the region is no longer overwritten."""
    from spinecls.sealing import crop

    def unsealed(image, region, marrow):
        return crop.normalised(image[(slice(None), *region.slices)], marrow)

    monkeypatch.setattr(crop, "seal", unsealed)
    # Where the crop's voxels are larger than the image's, smoothing alone would keep the outside away.
    monkeypatch.setattr(crop, "smooth_inside", lambda sealed, mask, sigma_voxels: sealed)
