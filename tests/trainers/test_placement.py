"""Vertebrae with a class and no position: what is learnt from where they are found."""

import dataclasses

import numpy as np
import pytest
import torch
from interruption import stop_after
from support import run_cli, set_roots

from spinecls import files
from spinecls.anatomy import RANK
from spinecls.dataloading.loader import TrainingData
from spinecls.errors import DatasetError, Interrupted
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.preprocessed import StoredCases, load_case
from spinecls.planning.plan import load_plan
from spinecls.records import ClassReading
from spinecls.trainers import trainer as trainer_base
from spinecls.trainers import training as trainer_training
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.placement import (
    PLACES,
    Places,
    lacks_places,
    load_places,
    placed_sources,
    predict_places,
    save_places,
    with_places,
)
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data

PLANS_CONFIG = "spineclsPlans_3d_fullres"


@pytest.fixture(scope="module")
def material(phantom):
    folder = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    return folder, plan, plan.configuration("3d_fullres")


@pytest.fixture(scope="module")
def case(material):
    folder, _, _ = material
    return load_case(folder, PLANS_CONFIG, fold_cases(folder, "0")[0][0])


def without_positions(case, levels=None):
    """The case as if nobody had pointed at some of its vertebrae."""
    rows = [
        dataclasses.replace(v, centre_lps=None, box_lps=None) if levels is None or v.level in levels else v
        for v in case.vertebrae
    ]
    return dataclasses.replace(case, vertebrae=tuple(rows), native_map=None, vertebra_map=None)


def places_of(case, certainty=1.0, level_map=None):
    """Places as a perfect finder would give them."""
    centres = {v.level: v.centre_lps for v in case.vertebrae}
    return Places(centres, dict.fromkeys(centres, certainty), level_map)


def test_a_case_lacks_places_when_a_class_has_none(case):
    assert not lacks_places(case)
    bare = without_positions(case)
    assert lacks_places(bare)
    unread = dataclasses.replace(bare, vertebrae=tuple(dataclasses.replace(v, readings=()) for v in bare.vertebrae))
    assert not lacks_places(unread)


def test_a_found_vertebra_is_learnt_from_as_if_it_had_been_pointed_at(case, material):
    _, plan, configuration = material
    from spinecls.dataloading.cases import sealed_sources

    pointed = dataclasses.replace(case, native_map=None)
    expected = sealed_sources(pointed, plan, configuration, use_masks=False)
    found = placed_sources(without_positions(case), places_of(case), plan, configuration, use_masks=False)
    assert len(found) == len(expected) > 0
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.marrow, two.marrow)
        assert np.array_equal(one.label.masses, two.label.masses)


def test_the_less_sure_a_name_the_less_is_believed_of_the_class(case, material):
    _, plan, configuration = material
    sure, half = (
        placed_sources(without_positions(case), places_of(case, c), plan, configuration, False) for c in (1.0, 0.6)
    )
    for one, two in zip(sure, half, strict=True):
        assert two.label.masses == pytest.approx(0.6 * one.label.masses)


def test_a_set_of_classes_of_a_found_vertebra_is_refined(case, material):
    _, plan, configuration = material
    told = (ClassReading(classes=plan.class_names[:2]),)
    bare = without_positions(case)
    doubtful = dataclasses.replace(bare, vertebrae=tuple(dataclasses.replace(v, readings=told) for v in bare.vertebrae))
    expected = {case.identifier: {case.vertebrae[2].level: np.array([0.0, 1.0, 0.0])}}
    data = TrainingData([], [], unplaced=[doubtful], expected=expected)
    placed = with_places(data, {case.identifier: places_of(case)}, plan, configuration, use_masks=False).sealed
    masses = [source.label.singletons().sum() for source in placed]
    assert sorted(masses) == pytest.approx([0.0] * (len(masses) - 1) + [0.45])


def test_a_name_that_is_hardly_believed_is_not_learnt_from(case, material):
    _, plan, configuration = material
    assert placed_sources(without_positions(case), places_of(case, 0.49), plan, configuration, False) == []


def test_a_vertebra_that_was_not_found_gives_no_crop(case, material):
    _, plan, configuration = material
    full = places_of(case)
    level = case.vertebrae[1].level
    fewer = Places({n: c for n, c in full.centres_lps.items() if n != level}, {level: 0.0}, None)
    fewer = dataclasses.replace(fewer, certainties=dict.fromkeys(fewer.centres_lps, 1.0))
    found = placed_sources(without_positions(case), fewer, plan, configuration, False)
    readings = [v for v in case.vertebrae if v.readings]
    assert len(found) == len(readings) - bool(case.vertebrae[1].readings)


def test_a_vertebra_with_a_position_gives_no_crop_a_second_time(case, material):
    _, plan, configuration = material
    level = next(v.level for v in case.vertebrae if v.readings)
    mixed = without_positions(case, {level})
    assert len(placed_sources(mixed, places_of(case), plan, configuration, False)) == 1


def test_where_the_model_segments_regions_come_from_its_masks(case, material):
    _, plan, configuration = material
    places = places_of(case, level_map=case.native_map)
    found = placed_sources(without_positions(case), places, plan, configuration, use_masks=True)
    assert all(source.distance is not None for source in found)


def test_places_are_written_and_read(case, tmp_path):
    given = {"a": places_of(case, 0.7), "b": places_of(case, level_map=case.native_map)}
    save_places(tmp_path / "places.npz", given)
    found = load_places(tmp_path / "places.npz")
    assert found["a"].centres_lps == given["a"].centres_lps
    assert found["a"].certainties == given["a"].certainties
    assert found["a"].level_map is None
    assert np.array_equal(found["b"].level_map, case.native_map)


@pytest.mark.slow
def test_places_are_where_the_finder_finds_vertebrae_and_the_model_stays_in_its_mode(
    trained_phantom, material, case, tmp_path
):
    _, plan, configuration = material
    folder = trained_phantom / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
    predictor = load_predictor(choose_model(ModelChoice(folder=folder)), torch.device("cpu"), augment=False)
    located = predictor.locate(case.native.astype(np.float32), case.native_geometry)
    assert len(located.centres_lps) > 0
    model = predictor.models[0].train()
    places = predict_places(model, plan, configuration, [case], torch.device("cpu"), tmp_path)[case.identifier]
    assert model.training
    assert places.centres_lps == {
        name: tuple(centre) for name, centre in zip(located.decoding.labels, located.centres_lps, strict=True)
    }
    for row, name in enumerate(located.decoding.labels):
        assert places.certainties[name] == pytest.approx(located.decoding.posterior[row][RANK[name]])
        assert (places.level_map == plan.levels[name]).sum() == (located.masks == row + 1).sum()


def training(material, folder, monkeypatch, found=True):
    """A trainer of four steps a network and data of which two cases have no position; its finder knows the truth.

    The last thing returned lists the steps at which the finder was asked for places.
    """
    preprocessed, plan, configuration = material
    configuration = dataclasses.replace(configuration, steps=4, reader_steps=4)
    cases = fold_cases(preprocessed, "0")[0]
    data = load_training_data(StoredCases(preprocessed, PLANS_CONFIG, cases[:3]), plan, configuration, masks=False)
    others = [load_case(preprocessed, PLANS_CONFIG, name) for name in cases[3:5]]
    data = dataclasses.replace(data, unplaced=[without_positions(other) for other in others])
    folder.mkdir(exist_ok=True)
    run = RunSettings(folder, torch.device("cpu"), show_progress=False)
    trainer, asked = find_trainer("BaselineTrainer")(plan, configuration, run), []

    def perfect(model, plan, configuration, cases, device, log_folder):
        asked.append(trainer.step)
        return {case.identifier: places_of(case) for case in others} if found else {}

    monkeypatch.setattr(trainer_base, "predict_places", perfect)
    return trainer, data, {case.identifier for case in others}, asked


def cases_read(trainer):
    """List that a trainer's readers fill with the cases of their batches."""
    seen = []

    def noting(train_step):
        return lambda batch, *more: seen.append(set(batch.cases)) or train_step(batch, *more)

    for part in trainer.parts[1:]:
        part.train_step = noting(part.train_step)
    return seen


def test_every_reader_learns_from_found_vertebrae_from_its_first_step_on(material, tmp_path, monkeypatch):
    trainer, data, names, _ = training(material, tmp_path, monkeypatch)
    # Of the found ones alone, so that no batch is without them by chance.
    data = dataclasses.replace(data, sealed=[])
    seen = cases_read(trainer)
    trainer.fit(data)
    assert len(seen) == 8
    assert all(cases and cases <= names for cases in seen)


def test_places_are_looked_for_once_when_the_finder_has_learnt(material, tmp_path, monkeypatch):
    trainer, data, _, asked = training(material, tmp_path, monkeypatch)
    trainer.fit(data)
    assert asked == [4]
    assert (tmp_path / PLACES).is_file()


@pytest.mark.parametrize("last", [2, 4, 5, 8, 10])
def test_a_resumed_run_learns_from_the_same_places(last, material, tmp_path, monkeypatch):
    whole, data, _, _ = training(material, tmp_path / "whole", monkeypatch)
    whole.fit(data)
    broken, data, _, before = training(material, tmp_path / "broken", monkeypatch)
    stop_after(broken, last)
    with pytest.raises(Interrupted):
        broken.fit(data)
    resumed, data, _, after = training(material, tmp_path / "broken", monkeypatch)
    resumed.resume()
    resumed.fit(data)
    # Once in all, by whichever of the two came to the readers first.
    assert before + after == [4]
    assert bool(after) == (last <= 4)
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_without_any_found_vertebra_there_is_nothing_to_learn_classes_from(material, tmp_path, monkeypatch):
    trainer, data, _, _ = training(material, tmp_path, monkeypatch, found=False)
    with pytest.raises(DatasetError, match=r"none was found where the finder looked.*Give positions \(or outlines\)"):
        trainer.fit(dataclasses.replace(data, sealed=[]))
    assert not trainer.final_path.exists()


def test_the_command_refuses_a_fold_whose_vertebrae_are_nowhere_found(phantom, tmp_path, monkeypatch, capsys):
    """Positions in cases that have no class, classes in cases that have no position, and a finder that saw nothing."""
    set_roots(monkeypatch, phantom, results=tmp_path / "results")
    load = trainer_training.load_training_data

    def parted(stored, *arguments, **more):
        data = load(stored, *arguments, **more)
        unplaced = [without_positions(next(iter(stored)))]
        return dataclasses.replace(data, sealed=[], unplaced=unplaced)

    monkeypatch.setattr(trainer_training, "load_training_data", parted)
    words = ("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", "--set", "steps=1")
    assert run_cli(*words) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "No vertebra with a class has a position, and none was found where the finder looked" in told
    fold = tmp_path / "results/Dataset001_Phantom/BaselineTrainer__spineclsPlans__3d_fullres/fold_0"
    assert not (fold / "checkpoint_final.pt").exists()
    assert [row["part"] for row in files.read_csv(fold / "progress.csv")] == ["finder"]


def test_a_run_that_is_started_anew_looks_for_places_anew(phantom, tmp_path, monkeypatch):
    set_roots(monkeypatch, phantom, results=tmp_path / "results")
    words = ("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", "--set", "steps=1")
    fold = tmp_path / "results/Dataset001_Phantom/BaselineTrainer__spineclsPlans__3d_fullres/fold_0"
    fold.mkdir(parents=True)
    (fold / PLACES).write_bytes(b"of an earlier finder")
    assert run_cli(*words) == 0
    assert not (fold / PLACES).exists()
