import pytest

from spinecls.records import CasePrediction, DatasetDescription, VertebraPrediction


def make_vertebra(level, centre_lps, probabilities=(0.8, 0.2), prediction_set=("normal",)):
    return VertebraPrediction(
        level=level,
        level_probability=0.9,
        runner_up="",
        runner_up_probability=0.0,
        centre_lps=centre_lps,
        box_lps=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        score=1.0,
        class_probabilities=tuple(probabilities),
        prediction_set=tuple(prediction_set),
        entropy=0.0,
        visible_fraction=1.0,
        region={},
    )


def make_case(identifier, vertebrae, class_names=("normal", "oedema"), **more):
    return CasePrediction(
        identifier=identifier, class_names=class_names, vertebrae=tuple(vertebrae), **{"model": {}, **more}
    )


def make_description(complete=True, class_names=("normal", "oedema"), **more):
    return DatasetDescription(
        name="Dataset007_Test",
        channel_names=("T2",),
        class_names=class_names,
        file_ending=".nii.gz",
        vertebrae_complete=complete,
        **more,
    )


@pytest.fixture
def vertebra():
    """Maker of one predicted vertebra."""
    return make_vertebra


@pytest.fixture
def case():
    """Maker of one predicted case."""
    return make_case


@pytest.fixture
def description():
    """Maker of a description."""
    return make_description
