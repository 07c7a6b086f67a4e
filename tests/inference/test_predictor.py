"""The predictor on a trained phantom model: sealed classes, and the same world whatever the axis order."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from spinecls import files
from spinecls.inference.case_results import case_prediction
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.images import read_image, read_label_map
from spinecls.io.predictions import read_case_json, write_case_json
from spinecls.networks.model import SpineModel
from spinecls.sealing.marrow import marrow_reference


@pytest.fixture(scope="module")
def predictor(trained_phantom):
    folder = trained_phantom / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
    return load_predictor(choose_model(ModelChoice(folder=folder)), torch.device("cpu"), augment=False)


@pytest.fixture(scope="module")
def volumes(trained_phantom):
    paths = sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").iterdir())
    return [read_image([path]) for path in paths]


def regions_from_truth(trained_phantom, case, plan):
    """Regions of the annotated vertebrae of a case, which do not depend on what the model finds."""
    from spinecls.sealing.region import region_from_mask

    array, geometry = read_label_map(trained_phantom / f"raw/Dataset001_Phantom/labelsTr/{case}.nii.gz")
    return [region_from_mask(array == code, geometry, 3.0) for code in np.unique(array) if code not in (0, 255)]


def test_classes_are_bit_identical_when_everything_outside_the_region_comes_from_another_patient(
    predictor, volumes, trained_phantom
):
    image, grid = volumes[0].array, volumes[0].geometry
    regions = regions_from_truth(trained_phantom, "phantom_000", predictor.plan)
    marrow = marrow_reference(volumes[0].array, regions)
    before = predictor.classify_regions(image, grid, regions, marrow)
    for i, region in enumerate(regions):
        for donor in volumes[1:]:
            swapped = donor.array.copy()
            view = swapped[(slice(None), *region.slices)]
            view[:, region.mask] = image[(slice(None), *region.slices)][:, region.mask]
            after = predictor.classify_regions(swapped, grid, regions, marrow)
            assert np.array_equal(before.members[..., i, :], after.members[..., i, :])
            assert np.array_equal(before.evidence[i], after.evidence[i])


def test_classes_change_when_the_region_itself_comes_from_another_patient(predictor, volumes, trained_phantom):
    regions = regions_from_truth(trained_phantom, "phantom_000", predictor.plan)
    marrow = marrow_reference(volumes[0].array, regions)
    one = predictor.classify_regions(volumes[0].array, volumes[0].geometry, regions, marrow)
    two = predictor.classify_regions(volumes[1].array, volumes[1].geometry, regions, marrow)
    assert not np.array_equal(one.probabilities, two.probabilities)


def test_a_vertebra_does_not_depend_on_how_many_others_are_classified_with_it(predictor, volumes, trained_phantom):
    regions = regions_from_truth(trained_phantom, "phantom_000", predictor.plan)
    marrow = marrow_reference(volumes[0].array, regions)
    together = predictor.classify_regions(volumes[0].array, volumes[0].geometry, regions, marrow).probabilities
    alone = predictor.classify_regions(volumes[0].array, volumes[0].geometry, regions[1:2], marrow).probabilities
    assert np.array_equal(together[1], alone[0])


def test_the_evidence_map_is_zero_outside_every_region(predictor, volumes):
    # Every voxel of a region speaks for every class.
    loud = copy.deepcopy(predictor)
    for reader in loud.models[0].readers:
        reader.pooling.bias.data += 100
    result = loud.predict_volume(volumes[0].array, volumes[0].geometry)
    inside = np.zeros(volumes[0].geometry.shape, bool)
    for region in result.located.regions:
        inside[region.slices] |= region.mask
    assert inside.any()
    assert (result.evidence[~inside] == 0).all()
    # At the rim a voxel may lie between those of the crop that count.
    assert (result.evidence[inside] > 0).mean() > 0.5


def test_without_readers_vertebrae_are_found_and_written_without_classes(predictor, volumes, tmp_path):
    models = [SpineModel(model.finder, []) for model in predictor.models]
    finders = dataclasses.replace(predictor, models=models)
    result = finders.predict_volume(volumes[0].array, volumes[0].geometry)
    case = case_prediction("case", result, finders.plan, {})
    write_case_json(tmp_path, case)
    written = read_case_json(tmp_path / "case.json")
    assert written.class_names == ()
    assert written.vertebrae
    assert not any(vertebra.class_probabilities or vertebra.evidence for vertebra in written.vertebrae)
    assert result.contributions == {}
    assert (result.evidence == 0).all()


def test_in_an_unfamiliar_image_names_stay_and_are_less_sure(predictor, volumes):
    image, geometry = volumes[0].array, volumes[0].geometry
    familiar, unlike = (predictor.locate(image, geometry, unlike).decoding for unlike in (False, True))
    assert len(familiar.labels) > 0
    assert unlike.labels == familiar.labels
    assert unlike.shift_margin_nats == pytest.approx(0.4 * familiar.shift_margin_nats)
    assert (unlike.posterior.max(axis=1) < familiar.posterior.max(axis=1)).all()


def test_contributions_of_every_class_add_up_to_the_pooled_evidence_less_what_pooling_documents(predictor, volumes):
    result = predictor.predict_volume(volumes[0].array, volumes[0].geometry)
    poolings = [reader.pooling for reader in predictor.models[0].readers]
    bias, sharpness = (
        np.array([getattr(pooling, name).detach().numpy() for pooling in poolings]) for name in ("bias", "sharpness")
    )
    assert tuple(result.contributions) == predictor.plan.class_names[1:]
    for k, (name, contributions) in enumerate(result.contributions.items()):
        told = [vertebra.evidence[name] for vertebra in result.vertebrae]
        # Regions of neighbours overlap by their margins, where the map holds the sum of both.
        total = sum(t["contributions"] for t in told)
        assert contributions.astype(float).sum() == pytest.approx(total, abs=1e-3)
        for vertebra, region in zip(told, result.located.regions, strict=True):
            # One view, one fold, the mean of its readers: z - b + D / r with 0 <= D <= log of the number of voxels.
            rest = vertebra["contributions"] - (vertebra["pooled"] - bias[:, k].mean())
            assert -1e-4 <= rest <= (np.log(region.mask.sum()) / sharpness[:, k]).mean()


def test_contributions_are_zero_outside_every_region(predictor, volumes):
    result = predictor.predict_volume(volumes[0].array, volumes[0].geometry)
    inside = np.zeros(volumes[0].geometry.shape, bool)
    for region in result.located.regions:
        inside[region.slices] |= region.mask
    for contributions in result.contributions.values():
        assert (contributions[~inside] == 0).all()
        assert (contributions[inside] != 0).any()


def test_an_image_without_a_spine_gives_a_prediction_without_vertebrae(predictor, volumes):
    empty = np.zeros_like(volumes[0].array)
    result = predictor.predict_volume(empty, volumes[0].geometry)
    assert result.level_map.shape == volumes[0].geometry.shape
    assert len(result.vertebrae) == len(np.unique(result.level_map)) - 1


def axis_variants():
    orders = ["PIR", "RAS", "LPS", "AIL", "SRP", "IAL", "LSA", "PLS", "RIA"]
    return [*((code, 0.0) for code in orders), ("PIR", 17.0)]


@pytest.mark.slow
def test_prediction_is_the_same_in_the_world_for_every_axis_order_and_an_oblique_grid(
    trained_phantom, tmp_path, monkeypatch
):
    from support import run_cli

    monkeypatch.setenv("spinecls_results", str(trained_phantom / "results"))
    source = sorted((trained_phantom / "raw/Dataset001_Phantom/imagesTr").iterdir())[0]
    image = sitk.ReadImage(str(source))
    (tmp_path / "in").mkdir()
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15)
    for code, oblique in axis_variants():
        variant = sitk.DICOMOrient(image, code)
        if oblique:
            matrix = np.array(turn.GetMatrix()).reshape(3, 3)
            variant = sitk.Image(variant)
            variant.SetOrigin(tuple(matrix @ np.array(variant.GetOrigin())))
            variant.SetDirection(tuple((matrix @ np.array(variant.GetDirection()).reshape(3, 3)).ravel()))
        name = f"{code}{'oblique' if oblique else ''}"
        sitk.WriteImage(variant, str(tmp_path / "in" / f"{name}.nii.gz"))
    assert run_cli("predict", "-i", tmp_path / "in", "-o", tmp_path / "out", "--disable_tta", "-device", "cpu") == 0
    reference = files.read_json(tmp_path / "out" / "PIR.json")["vertebrae"]
    assert reference
    matrix = np.array(turn.GetMatrix()).reshape(3, 3)
    for code, oblique in axis_variants():
        name = f"{code}{'oblique' if oblique else ''}"
        found = files.read_json(tmp_path / "out" / f"{name}.json")["vertebrae"]
        assert [v["level"] for v in found] == [v["level"] for v in reference]
        for one, two in zip(found, reference, strict=True):
            expected = matrix @ np.array(two["centre_lps"]) if oblique else np.array(two["centre_lps"])
            assert one["centre_lps"] == pytest.approx(expected, abs=1e-2)
        written, given = (
            sitk.ReadImage(str(tmp_path / "out" / f"{name}.nii.gz")),
            sitk.ReadImage(str(tmp_path / "in" / f"{name}.nii.gz")),
        )
        assert written.GetSize() == given.GetSize()
        assert written.GetDirection() == pytest.approx(given.GetDirection(), abs=1e-6)
        assert written.GetOrigin() == pytest.approx(given.GetOrigin(), abs=1e-4)
        for one in found:
            code_there = written[written.TransformPhysicalPointToIndex(one["centre_lps"])]
            assert code_there in {0, *predicted_codes(written)}


def predicted_codes(image):
    return set(np.unique(sitk.GetArrayViewFromImage(image)).tolist())


def test_all_axis_orders_of_the_test_are_distinct():
    assert all(a != b for a, b in itertools.combinations(axis_variants(), 2))
