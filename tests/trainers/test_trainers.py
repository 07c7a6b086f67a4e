"""The trainer family on phantoms: learning, resuming, refusing."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from interruption import stop_after
from support import run_cli

from spinecls import files
from spinecls.errors import Interrupted, ModelError
from spinecls.inference.folds import require_plan_of
from spinecls.inference.predictor import Predictor
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import load_plan
from spinecls.tasks.checkpoint import build_model, load_checkpoint, save_checkpoint
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data

TRAINERS = (
    "BaselineTrainer", "AuxSegTrainer", "AuxAETrainer", "AuxSegAETrainer", "UncertainLabelsTrainer",
    "UncertainLabelsAETrainer",
)  # fmt: skip


@pytest.fixture(scope="module")
def material(phantom):
    folder = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    return folder, plan, plan.configuration("3d_fullres")


def make(name, material, folder, steps, seed=0, **settings):
    """A trainer whose finder and two readers learn for so many steps each, and its data."""
    preprocessed, plan, configuration = material
    configuration = dataclasses.replace(configuration, steps=steps, reader_steps=steps, **settings)
    trainer_class = find_trainer(name)
    folder.mkdir(parents=True, exist_ok=True)
    settings = RunSettings(folder, torch.device("cpu"), seed=seed, show_progress=False)
    data = load_training_data(
        StoredCases(preprocessed, "spineclsPlans_3d_fullres", fold_cases(preprocessed, "0")[0]),
        plan,
        configuration,
        masks=trainer_class.regions_from_masks,
        beliefs=trainer_class.learns_beliefs,
        images=StoredCases(preprocessed, "spineclsPlans_3d_fullres", ()),
    )
    return trainer_class(plan, configuration, settings), data


@pytest.mark.parametrize("name", TRAINERS)
def test_losses_fall(name, material, tmp_path):
    trainer, data = make(name, material, tmp_path, steps=120, members=1)
    trainer.fit(data)
    with open(tmp_path / "progress.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for part in trainer.parts:
        for task in [weighted.task.name for weighted in part.tasks]:
            values = [float(row[task]) for row in rows if row["part"] == part.name]
            # So few steps teach no class; and names can touch only once there is some heat.
            if task not in ("class", "adjacency", "consistency"):
                assert np.mean(values[-5:]) < np.mean(values[:5]), task


def test_progress_tells_the_steps_of_the_run_and_whose_they_are(material, tmp_path):
    trainer, data = make("BaselineTrainer", material, tmp_path, steps=2)
    trainer.fit(data)
    with open(tmp_path / "progress.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    parts = ["finder", "finder", "reader_0", "reader_0", "reader_1", "reader_1"]
    assert [(row["part"], int(row["step"])) for row in rows] == list(zip(parts, range(1, 7), strict=True))
    assert [bool(row["centre"]) for row in rows] == [part == "finder" for part in parts]
    assert [bool(row["class"]) for row in rows] == [part != "finder" for part in parts]


def test_finder_and_readers_may_learn_for_other_numbers_of_steps(material, tmp_path):
    trainer, _ = make("BaselineTrainer", material, tmp_path, steps=7)
    assert trainer.total_steps == 21
    configuration = dataclasses.replace(trainer.configuration, reader_steps=5)
    other = type(trainer)(trainer.plan, configuration, trainer.settings)
    assert [(part.first_step, part.end) for part in other.parts] == [(0, 7), (7, 12), (12, 17)]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(material, tmp_path):
    weights = []
    for run, seed in enumerate((0, 0, 1)):
        trainer, data = make("AuxSegTrainer", material, tmp_path / str(run), steps=3, seed=seed)
        trainer.fit(data)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def weights_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_the_finder_does_not_depend_on_how_many_readers_follow(material, tmp_path):
    finders = []
    for members in (1, 2):
        trainer, data = make("AuxSegTrainer", material, tmp_path / str(members), steps=3, members=members)
        trainer.fit(data)
        finders.append(weights_of(trainer.model.finder))
    assert torch.equal(*finders)


def test_the_first_reader_does_not_depend_on_how_many_follow_and_the_second_is_another(material, tmp_path):
    readers = []
    for members in (1, 2):
        trainer, data = make("BaselineTrainer", material, tmp_path / str(members), steps=3, members=members)
        trainer.fit(data)
        readers.append([weights_of(reader) for reader in trainer.model.readers])
    assert torch.equal(readers[0][0], readers[1][0])
    assert not torch.equal(*readers[1])


def test_readers_leave_the_finder_as_it_was_trained(material, tmp_path):
    trainer, data = make("AuxSegTrainer", material, tmp_path, steps=3)
    stop_after(trainer, 3)
    with pytest.raises(Interrupted, match="step 3 of 9"):
        trainer.fit(data)
    before = weights_of(trainer.model.finder).clone()
    again, data = make("AuxSegTrainer", material, tmp_path, steps=3)
    again.resume()
    again.fit(data)
    assert torch.equal(weights_of(again.model.finder), before)


@pytest.fixture(scope="module", params=["AuxSegTrainer", "AuxSegAETrainer"])
def undisturbed(request, material, tmp_path_factory):
    """A trainer's name and the model of a run of four steps of each network."""
    whole, data = make(request.param, material, tmp_path_factory.mktemp("whole"), steps=4)
    whole.fit(data)
    return request.param, whole.model


MOMENTS = {"in the finder": 2, "before the readers": 4, "in a reader": 6, "between readers": 8, "in the last": 11}


@pytest.mark.parametrize("last", MOMENTS.values(), ids=MOMENTS.keys())
def test_an_interrupted_and_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    last, undisturbed, material, tmp_path
):
    name, model = undisturbed
    broken, data = make(name, material, tmp_path, steps=4)
    stop_after(broken, last)
    with pytest.raises(Interrupted, match=f"step {last} of 12"):
        broken.fit(data)
    resumed, data = make(name, material, tmp_path, steps=4)
    resumed.resume()
    assert resumed.step == last
    resumed.fit(data)
    for (key, one), two in zip(model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, two), key


def test_a_run_that_is_interrupted_by_hand_is_told_how_to_go_on(material, tmp_path):
    trainer, _ = make("BaselineTrainer", material, tmp_path, steps=4)
    trainer._stop_signal = signal.SIGINT
    with pytest.raises(KeyboardInterrupt, match="Go on with --c"):
        trainer._leave()


def test_a_damaged_state_is_passed_over_for_the_one_before_it(material, tmp_path):
    trainer, data = make("BaselineTrainer", material, tmp_path, steps=4)
    trainer.fit(data)
    trainer.latest_path.write_bytes(trainer.latest_path.read_bytes()[:2000])
    again, _ = make("BaselineTrainer", material, tmp_path, steps=4)
    again.resume()
    assert again.step == again.total_steps - 1 == 11


def test_nothing_to_continue_is_said(material, tmp_path):
    trainer, _ = make("BaselineTrainer", material, tmp_path, steps=4)
    with pytest.raises(ModelError, match=r"nothing to continue.*Train without --c"):
        trainer.resume()


def test_a_loss_that_stays_not_a_number_ends_the_run_and_is_not_saved(material, tmp_path):
    trainer, data = make("BaselineTrainer", material, tmp_path, steps=200)
    with torch.no_grad():
        trainer.model.finder.heads["level"].weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a finite number 10 times"):
        trainer.fit(data)
    assert not trainer.final_path.exists()


def test_the_final_model_is_rebuilt_without_its_trainer(material, tmp_path):
    trainer, data = make("AuxSegTrainer", material, tmp_path, steps=2)
    trainer.fit(data)
    model = build_model(load_checkpoint(trainer.final_path), trainer.final_path)
    crops = torch.rand(2, 2, *material[2].sealed_size)
    patch = torch.rand(1, 1, *material[2].patch_size)
    assert len(model.readers) == 2
    with torch.inference_mode():
        for rebuilt, own in zip(model.readers, trainer.model.readers, strict=True):
            assert torch.equal(rebuilt.sealed_pass(crops)[0], own.sealed_pass(crops)[0])
        assert torch.equal(model.open_pass(patch)["level"], trainer.model.open_pass(patch)["level"])


def test_a_trainer_without_a_task_for_readers_has_none_and_gives_no_classes(material, tmp_path):
    weights = {"class": 0.0, "lesion": 0.0, "sealed_structures": 0.0}
    trainer, data = make("AuxSegTrainer", material, tmp_path, steps=2, task_weights=weights)
    trainer.fit(data)
    assert [part.name for part in trainer.parts] == ["finder"]
    content = load_checkpoint(trainer.final_path)
    require_plan_of(content, trainer.plan, trainer.configuration, trainer.final_path)
    model = build_model(content, trainer.final_path)
    assert len(model.readers) == 0
    predictor = Predictor([model], trainer.plan, trainer.configuration)
    assert predictor.classify_regions(np.zeros((1, 4, 4, 4)), None, [None], None) is None


@pytest.mark.slow
def test_a_training_without_readers_is_validated_and_predicts_without_classes(phantom_roots, tmp_path):
    weights = [f"task_weights.{name}=0" for name in ("class", "lesion", "sealed_structures")]
    words = ("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", "--set", "steps=2", *weights)
    assert run_cli(*words) == 0
    fold = tmp_path / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres/fold_0"
    summary = files.read_json(fold / "validation/summary.json")
    assert summary["cases"] == 1
    assert not summary["classification"]
    assert load_checkpoint(fold / "checkpoint_final.pt")["steps"] == 2
    images = phantom_roots / "raw/Dataset001_Phantom/imagesTs"
    assert run_cli("predict", "-i", images, "-o", tmp_path / "out", "-device", "cpu", "--disable_tta") == 0
    cases = sorted((tmp_path / "out").glob("test_*.json"))
    assert [files.read_json(path)["class_names"] for path in cases] == [[], []]


def test_a_state_of_an_earlier_version_is_not_continued(material, tmp_path):
    trainer, _ = make("BaselineTrainer", material, tmp_path, steps=4)
    weights = {key.removeprefix("finder."): w for key, w in trainer.model.state_dict().items() if "finder" in key}
    state = {"step": 2, "seconds": 1.0, "weights": weights, "optimiser": {}, "trainer": "BaselineTrainer", "seed": 0}
    save_checkpoint(trainer.latest_path, state)
    with pytest.raises(ModelError, match=r"earlier version, in which one network did all\. Train without --c"):
        trainer.resume()


@pytest.mark.slow
def test_training_that_was_killed_goes_on_with_c(phantom_roots, tmp_path):
    words = ("1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", "--set", "steps=80")
    command = [sys.executable, "-m", "spinecls", "train", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    model = tmp_path / "results/Dataset001_Phantom/BaselineTrainer__spineclsPlans__3d_fullres"
    latest = model / "fold_0/checkpoint_latest.pt"
    deadline = time.monotonic() + 120
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert latest.exists()
    assert load_checkpoint(latest)["step"] < 240
    assert run_cli("train", "1", "3d_fullres", "0", "-device", "cpu", "--c", "--set", "steps=80") == 0
    assert load_checkpoint(latest.with_name("checkpoint_final.pt"))["steps"] == 240
    with open(latest.with_name("progress.csv"), newline="") as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 240
    assert not list(latest.parent.glob(".tmp-*"))
