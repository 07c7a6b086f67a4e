"""Prediction from Python: the same results as from files, in the caller's own axes."""

import numpy as np
import pytest
import SimpleITK as sitk

import spinecls
from spinecls.errors import DatasetError, UsageError
from spinecls.inference.predict_folder import FolderOptions, predict_folder


@pytest.fixture(scope="module")
def folder(trained_phantom):
    return trained_phantom / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"


@pytest.fixture(scope="module")
def model(folder):
    return spinecls.load_model(folder, device="cpu", augment=False)


@pytest.fixture(scope="module")
def scan(trained_phantom):
    return sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").glob("*.nii.gz"))[0]


@pytest.fixture(scope="module")
def found(model, scan):
    return model.predict_image(sitk.ReadImage(str(scan)))


def test_an_image_in_memory_gives_what_its_file_gives(model, folder, scan, found, tmp_path):
    from spinecls.inference.models import ModelChoice, choose_model

    written = predict_folder(model, choose_model(ModelChoice(folder=folder)), scan, tmp_path, FolderOptions())
    assert written[0].vertebrae == found.vertebrae
    assert found.vertebrae
    level_map = sitk.ReadImage(str(tmp_path / f"{written[0].identifier}.nii.gz"))
    assert np.array_equal(sitk.GetArrayViewFromImage(level_map), sitk.GetArrayViewFromImage(found.level_map))
    assert found.level_map.GetOrigin() == pytest.approx(level_map.GetOrigin())


@pytest.mark.parametrize("order", ["PIR", "LAS", "SRP"])
def test_maps_of_an_array_lie_as_the_array_does(model, scan, found, order):
    image = sitk.DICOMOrient(sitk.ReadImage(str(scan)), order)
    array = sitk.GetArrayFromImage(image).transpose()
    direction = np.array(image.GetDirection()).reshape(3, 3)
    geometry = spinecls.Geometry(
        shape=array.shape,
        spacing_mm=image.GetSpacing(),
        origin_lps=image.GetOrigin(),
        direction=tuple(map(tuple, direction)),
    )
    again = model.predict_array(array, geometry)
    assert [v.level for v in again.vertebrae] == [v.level for v in found.vertebrae]
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(found.level_map, order)).transpose()
    assert np.array_equal(again.level_map, expected)
    assert again.evidence.shape == array.shape


def test_channels_may_be_separate_images(model, scan, found):
    assert model.predict_image([sitk.ReadImage(str(scan))]).vertebrae == found.vertebrae


def test_another_number_of_channels_is_refused(model, scan):
    image = sitk.ReadImage(str(scan))
    with pytest.raises(DatasetError, match="2 channels, the model learned from 1"):
        model.predict_image([image, image])


def test_what_the_package_offers_is_found_and_nothing_else():
    assert {"load_model", "Predictor", "Geometry"} <= set(dir(spinecls))
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = spinecls.train


def test_what_is_no_image_is_named(model):
    with pytest.raises(UsageError, match="expected a SimpleITK image, one a channel; got str"):
        model.predict_image("spine.nii.gz")
    with pytest.raises(UsageError, match=r"expected a spinecls\.Geometry of its axes, got NoneType"):
        model.predict_array(np.zeros((4, 8, 8)), None)


def test_a_model_says_in_a_line_what_it_is(model):
    assert repr(model).startswith("Predictor(Dataset001_Phantom, 3d_fullres, 1 fold(s), ")
