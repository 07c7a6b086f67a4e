"""What prediction says of images unlike those of training: in the log, in the JSON file and at every vertebra."""

import dataclasses
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from test_open_and_sealed import predictor_of

from spinecls.inference import predict_folder
from spinecls.inference.case_results import case_prediction
from spinecls.inference.predict_folder import FolderOptions
from spinecls.inference.predictor import Predictor
from spinecls.io.predictions import read_case_json
from spinecls.planning.appearance import appearance
from spinecls.planning.familiarity import familiar_images
from spinecls.planning.fingerprint_types import CaseFingerprint
from spinecls.records import VertebraPrediction
from spinecls.testing.phantom import PhantomOptions, make_case, to_image

OPTIONS = PhantomOptions(shape=(8, 64, 48))


def fingerprint_of(case, name):
    return CaseFingerprint(
        case=name, patient=name, shape=case.geometry.shape, spacing_mm=case.geometry.spacing_mm, channels=(),
        body_start=(0, 0, 0), body_stop=case.geometry.shape,
        appearance=appearance(case.image, case.geometry.spacing_mm),
    )  # fmt: skip


@pytest.fixture(scope="module")
def familiar():
    cases = [make_case(np.random.default_rng(seed), OPTIONS) for seed in range(12)]
    return familiar_images([fingerprint_of(case, f"p{i}") for i, case in enumerate(cases)])


@pytest.fixture
def predictor(familiar):
    made = predictor_of("S2")
    return dataclasses.replace(made, plan=dataclasses.replace(made.plan, familiar=familiar))


@pytest.fixture
def further():
    return make_case(np.random.default_rng(100), OPTIONS)


def written(case, folder, name="scan"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}_0000.nii.gz"
    sitk.WriteImage(to_image(case.image[0], case.geometry, "LAS"), str(path))
    return predict_folder.InputCase(name, (path,))


def predicted(predictor, case, tmp_path):
    source = written(case, tmp_path / "in")
    predict_folder._predict_case(predictor, source, tmp_path / "out", {}, FolderOptions())
    return read_case_json(tmp_path / "out" / "scan.json")


def short_of(case, rows=20):
    """The upper part of a scan, of rows of 2 mm."""
    geometry = case.geometry.cropped((0, 0, 0), (8, rows, 48))
    return dataclasses.replace(case, image=case.image[:, :, :rows], geometry=geometry)


def test_a_further_scan_of_the_same_kind_is_not_warned_of(predictor, further):
    assert predictor.image_warnings(further.image, further.geometry) == ()


def test_added_noise_is_warned_of(predictor, further):
    noise = np.random.default_rng(0).normal(0, 500, further.image.shape).astype(np.float32)
    said = predictor.image_warnings(np.abs(further.image + noise), further.geometry)
    assert any(text.startswith("T2: noise ") for text in said)


def test_a_constant_image_is_warned_of(predictor, further):
    said = predictor.image_warnings(np.zeros_like(further.image), further.geometry)
    assert said == ("T2: too small or too uniform an image to be judged",)


def test_a_short_scan_is_warned_of_in_the_log_and_in_its_file(predictor, further, tmp_path, caplog):
    (tmp_path / "out").mkdir()
    prediction = predicted(predictor, short_of(further), tmp_path)
    assert "field of view head-feet 40 mm; training scans 128 mm" in prediction.warnings
    assert "scan: unlike the training images: field of view head-feet 40 mm" in caplog.text


def test_whether_an_image_is_unlike_those_of_training_is_told_where_names_are_decoded(predictor, further, tmp_path):
    told = []
    predictor.locate = lambda image, geometry, unlike: (
        told.append(unlike) or Predictor.locate(predictor, image, geometry, unlike)
    )
    (tmp_path / "out").mkdir()
    predicted(predictor, short_of(further), tmp_path)
    predicted(predictor, further, tmp_path)
    assert told == [True, False]


def vertebra(level, flags):
    return VertebraPrediction(
        level=level, level_probability=0.9, runner_up="", runner_up_probability=0.0, centre_lps=(0.0, 0.0, 0.0),
        box_lps=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), score=1.0, class_probabilities=(), prediction_set=(), entropy=0.0,
        visible_fraction=1.0, region={}, flags=flags,
    )  # fmt: skip


def test_every_vertebra_of_an_unfamiliar_image_is_flagged_beside_its_other_flags(predictor):
    volume = SimpleNamespace(vertebrae=(vertebra("L1", ("truncated",)), vertebra("L2", ())))
    plain = case_prediction("c", volume, predictor.plan, {})
    flagged = case_prediction("c", volume, predictor.plan, {}, warnings=("slice distance 9 mm; training scans 4 mm",))
    assert [v.flags for v in plain.vertebrae] == [("truncated",), ()]
    assert [v.flags for v in flagged.vertebrae] == [("truncated", "unfamiliar_image"), ("unfamiliar_image",)]


def test_channels_are_measured_as_scanned_also_when_they_are_aligned(predictor, further, tmp_path, monkeypatch):
    calls, read = [], predict_folder.read_image

    def recorded(paths, register=False):
        calls.append(register)
        return read(paths)

    monkeypatch.setattr(predict_folder, "read_image", recorded)
    predictor.plan = dataclasses.replace(predictor.plan, register_channels=True)
    (tmp_path / "out").mkdir()
    predicted(predictor, further, tmp_path)
    assert calls == [True, False]


def test_a_plan_without_limits_is_said_once_and_nothing_is_compared(further, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(predict_folder, "model_description", lambda model, predictor: {"trainer": "T"})
    for name in ("one", "two"):
        written(short_of(further, rows=30), tmp_path / "in", name)
    with caplog.at_level(logging.WARNING):
        done = predict_folder.predict_folder(
            predictor_of("S2"), None, tmp_path / "in", tmp_path / "out", FolderOptions()
        )
    assert [case.warnings for case in done] == [(), ()]
    assert caplog.text.count("does not say what images it was trained on") == 1
