"""Auxiliary tasks in training: what they see, what stays in the model, what a run writes down."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from support import plan_phantom, run_cli, set_roots

from spinecls import files
from spinecls.dataloading.batch import OpenBatch
from spinecls.dataloading.loader import training_batches
from spinecls.io.preprocessed import StoredCases
from spinecls.io.preprocessed_records import NATIVE, read_native, write_record
from spinecls.planning.plan import load_plan
from spinecls.tasks.balancing import MEASURED_FROM, MEASURED_STEPS
from spinecls.tasks.checkpoint import load_checkpoint
from spinecls.tasks.structures import StructuresTask
from spinecls.tasks.task import OpenOutputs
from spinecls.trainers.fold_cases import fold_cases, unlabelled_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data

PLANS_CONFIG = "spineclsPlans_3d_fullres"


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Roots with a preprocessed dataset of five phantoms and two scans that nobody annotated."""
    from spinecls.testing.phantom import write_dataset

    root = tmp_path_factory.mktemp("unlabelled")
    write_dataset(root / "raw" / "Dataset001_Phantom", 5, seed=4, num_unlabelled=2)
    plan_phantom(root)
    return root


@pytest.fixture
def unlabelled_roots(unlabelled, tmp_path, monkeypatch):
    set_roots(monkeypatch, unlabelled, results=tmp_path / "results")
    return unlabelled


def material(root):
    folder = root / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    return folder, plan, plan.configuration("3d_fullres")


def make(root, name, folder, steps, images=(), **settings):
    preprocessed, plan, configuration = material(root)
    configuration = dataclasses.replace(configuration, steps=steps, reader_steps=steps, **settings)
    trainer_class = find_trainer(name)
    run = RunSettings(folder, torch.device("cpu"), show_progress=False)
    cases = fold_cases(preprocessed, "0")[0]
    data = load_training_data(
        StoredCases(preprocessed, PLANS_CONFIG, cases),
        plan,
        configuration,
        masks=trainer_class.regions_from_masks,
        beliefs=trainer_class.learns_beliefs,
        images=None if images is None else StoredCases(preprocessed, PLANS_CONFIG, images),
    )
    return trainer_class(plan, configuration, run), data


def test_scans_without_annotation_are_preprocessed_and_belong_to_no_fold(unlabelled):
    preprocessed, _, _ = material(unlabelled)
    train, validation = fold_cases(preprocessed, "0")
    assert unlabelled_cases(preprocessed, validation) == ["unlabelled_000", "unlabelled_001"]
    assert not {"unlabelled_000", "unlabelled_001"} & {*train, *validation}


def test_scans_of_validation_patients_are_not_learnt_from(unlabelled, tmp_path):
    preprocessed, _, _ = material(unlabelled)
    _, validation = fold_cases(preprocessed, "0")
    copy = tmp_path / "Dataset001_Phantom"
    splits = files.read_json(preprocessed / "splits_final.json")
    files.write_json(copy / "splits_final.json", splits)
    held_out = read_native(preprocessed, validation[0]).patient
    for name in (*splits[0]["train"], *splits[0]["val"], "unlabelled_000", "unlabelled_001"):
        record = read_native(preprocessed, name)
        patient = held_out if name == "unlabelled_001" else record.patient
        write_record(copy / NATIVE, dataclasses.replace(record, patient=patient))
    assert unlabelled_cases(copy, validation[:1]) == ["unlabelled_000"]


def test_patches_for_the_autoencoder_come_from_annotated_and_other_scans(unlabelled):
    folder, plan, configuration = material(unlabelled)
    names = fold_cases(folder, "0")[0][:1]
    data = load_training_data(
        StoredCases(folder, PLANS_CONFIG, names),
        plan,
        configuration,
        masks=False,
        images=StoredCases(folder, PLANS_CONFIG, ["unlabelled_000"]),
    )
    assert [case.identifier for case in data.images] == [*names, "unlabelled_000"]
    batches = training_batches(data, configuration, [], sealed=False, seed=0, first_step=0, workers=0)
    batch = next(batches)
    batches.close()
    assert batch.images.shape == (configuration.batch_size, len(plan.channel_names), *configuration.patch_size)


def test_no_task_for_images_means_no_patches_for_them(unlabelled):
    folder, plan, configuration = material(unlabelled)
    names = fold_cases(folder, "0")[0][:1]
    data = load_training_data(StoredCases(folder, PLANS_CONFIG, names), plan, configuration, masks=False)
    assert not data.images


@pytest.mark.slow
def test_a_run_says_what_it_learnt_from(unlabelled_roots, tmp_path):
    words = ("train", "1", "3d_fullres", "0", "-tr", "AuxSegAETrainer", "-device", "cpu", "--set", "steps=4")
    assert run_cli(*words) == 0
    folder = tmp_path / "results/Dataset001_Phantom/AuxSegAETrainer__spineclsPlans__3d_fullres/fold_0"
    run = files.read_json(folder / "run.json")
    assert run["unlabelled"] == ["unlabelled_000", "unlabelled_001"]
    assert run["tasks"] == [
        "centre", "level", "class", "vertebra_map", "structures", "sealed_structures", "lesion", "reconstruction",
        "adjacency", "sealed_reconstruction",
    ]  # fmt: skip
    assert run["auxiliary_shares"]["vertebra_map"] == 0.3
    assert run["auxiliary_shares"].keys() | run["main_weights"].keys() == set(run["tasks"])
    assert run["parts"] == {"finder": 4, "reader_0": 4, "reader_1": 4}


@pytest.mark.slow
def test_only_what_predicts_is_left_in_the_final_checkpoint(unlabelled_roots, tmp_path):
    words = ("train", "1", "3d_fullres", "0", "-tr", "AuxSegAETrainer", "-device", "cpu", "--set", "steps=2")
    assert run_cli(*words) == 0
    folder = tmp_path / "results/Dataset001_Phantom/AuxSegAETrainer__spineclsPlans__3d_fullres/fold_0"
    names = load_checkpoint(folder / "checkpoint_final.pt")["weights"]
    assert not [name for name in names if "auxiliary" in name or "structures" in name]
    assert [name for name in names if name.startswith("finder.heads.vertebra_map")]
    assert not [name for name in names if name.startswith("readers.") and ".heads." in name]
    images = unlabelled_roots / "raw/Dataset001_Phantom/imagesUn"
    assert run_cli("predict", "-i", images, "-o", tmp_path / "out", "-device", "cpu", "--disable_tta") == 0
    assert (tmp_path / "out/unlabelled_000.json").exists()


@pytest.mark.slow
def test_pretrained_weights_start_another_trainer(unlabelled_roots, tmp_path, capsys):
    common = ("-device", "cpu", "--set", "steps=2")
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", "PretrainAETrainer", *common) == 0
    results = tmp_path / "results/Dataset001_Phantom"
    start = results / "PretrainAETrainer__spineclsPlans__3d_fullres/fold_0/checkpoint_pretrained.pt"
    assert "Weights to start from" in capsys.readouterr().out
    assert not start.with_name("checkpoint_final.pt").exists()
    images = unlabelled_roots / "raw/Dataset001_Phantom/imagesUn"
    assert run_cli("predict", "-i", images, "-o", tmp_path / "o", "-d", "1") == 3
    capsys.readouterr()
    words = ("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-pretrained_weights", start)
    assert run_cli(*words, *common) == 0
    run = files.read_json(results / "BaselineTrainer__spineclsPlans__3d_fullres/fold_0/run.json")
    assert "tensors taken" in run["pretrained"]["taken"]


@pytest.mark.parametrize("name", ["AuxSegTrainer", "AuxAETrainer"])
def test_measured_weights_are_used_and_written_down(name, unlabelled, tmp_path):
    trainer, data = make(unlabelled, name, tmp_path, steps=MEASURED_FROM + 4 * MEASURED_STEPS + 5, members=1)
    trainer.fit(data)
    with open(tmp_path / "task_weights.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for part in trainer.parts:
        for task in part.weighting.names:
            own = [row for row in rows if (row["part"], row["task"]) == (part.name, task)]
            own = [row for row in own if int(row["step"]) - part.first_step > MEASURED_FROM][:MEASURED_STEPS]
            assert len(own) == MEASURED_STEPS
            ratio = np.sum([float(r["main_norm"]) for r in own]) / np.sum([float(r["gradient_norm"]) for r in own])
            expected = np.clip(part.weighting.shares[task] * ratio, 0.05, 20)
            assert part.weighting.weight(task) == pytest.approx(expected, rel=1e-3)
            assert all(-1.001 <= float(r["cosine"]) <= 1.001 for r in own)


def test_every_network_learns_its_own_tasks_and_no_other(unlabelled, tmp_path):
    trainer, _ = make(unlabelled, "AuxSegAETrainer", tmp_path, steps=3)
    names = {part.name: [t.task.name for t in part.tasks] for part in trainer.parts}
    of_readers = ["class", "sealed_structures", "lesion", "sealed_reconstruction"]
    assert names == {
        "finder": ["centre", "level", "vertebra_map", "structures", "reconstruction", "adjacency"],
        "reader_0": of_readers,
        "reader_1": of_readers,
    }
    tasks = [weighted.task for part in trainer.parts for weighted in part.tasks]
    assert len({id(task) for task in tasks}) == len(tasks)


@pytest.mark.parametrize("how", ["uncertainty", "fixed"])
def test_other_weightings_train(how, unlabelled, tmp_path):
    trainer, data = make(unlabelled, "AuxSegAETrainer", tmp_path, steps=3, task_weighting=how)
    trainer.fit(data)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("how", ["masked", "plain"])
def test_other_reconstructions_train(how, unlabelled, tmp_path):
    trainer, data = make(unlabelled, "AuxAETrainer", tmp_path, steps=3, reconstruction=how)
    trainer.fit(data)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_a_task_of_weight_zero_is_left_out(unlabelled, tmp_path):
    trainer, _ = make(unlabelled, "AuxSegTrainer", tmp_path, steps=3, task_weights={"structures": 0.0})
    assert "structures" not in [t.task.name for t in trainer.tasks]
    assert "structures" not in trainer.model.finder.heads


def test_a_weight_for_a_task_that_the_trainer_lacks_is_refused(unlabelled_roots, capsys):
    words = ("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "--set", "task_weights.lesion=2")
    assert run_cli(*words) == 2
    assert "the trainer's tasks are centre, level, class" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "many", "1000"])
def test_a_weight_out_of_bounds_is_refused(value, unlabelled_roots, capsys):
    words = ("train", "1", "3d_fullres", "0", "-device", "cpu", "--set", f"task_weights.level={value}")
    assert run_cli(*words) == 2
    assert "expected a number from 0 to 100" in capsys.readouterr().err


def test_structures_of_the_batch_are_learnt_by_their_place_in_the_plan(unlabelled, tmp_path):
    _, plan, configuration = material(unlabelled)
    plan = dataclasses.replace(plan, structures={"disc": 7, "canal": 3})
    task = StructuresTask(plan, configuration)
    assert task.dense_heads() == {"structures": 3}
    codes = torch.tensor([0, 7, 3, 255]).reshape(1, 1, 1, 4)
    logits = torch.full((1, 3, 1, 1, 4), -20.0)
    for place, index in enumerate((0, 1, 2)):
        logits[0, index, 0, 0, place] = 20.0
    batch = OpenBatch(image=logits[:, :1], targets={"structures": {"codes": codes}})
    # Right everywhere, and the unknown voxel costs nothing.
    assert float(task.loss(OpenOutputs({"structures": logits}), batch)) == pytest.approx(0, abs=1e-4)
