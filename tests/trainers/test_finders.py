"""Finders that are trained once: what they depend on, and that another training takes them."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from support import run_cli

from spinecls.dataloading.loader import TrainingData
from spinecls.errors import ModelError
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import load_plan
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint
from spinecls.testing.checks import material
from spinecls.trainers.auxiliary import AuxSegTrainer
from spinecls.trainers.baseline import BaselineTrainer
from spinecls.trainers.finders import finder_key, store_finder, take_finder
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data
from spinecls.trainers.uncertain import UncertainLabelsTrainer

MODEL = "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder, plan, configuration and data of a small training."""
    folder = tmp_path_factory.mktemp("material")
    return folder, *material(folder, AuxSegTrainer)


def key_of(made, trainer_class=AuxSegTrainer, seed=0, data=None, **changes):
    folder, plan, configuration, own = made
    configuration = dataclasses.replace(configuration, **changes)
    trainer = trainer_class(plan, configuration, RunSettings(folder / "run", torch.device("cpu"), seed))
    return finder_key(trainer.parts[0], plan, configuration, data or own, seed)


@pytest.mark.parametrize(
    "changes",
    [{"members": 4}, {"reader_steps": 7}, {"sealing_margin_mm": 1.1}, {"pooling": "mean"}, {"class_q": 0.5},
     {"task_weights": {"lesion": 0.5}}],
    ids=str,
)  # fmt: skip
def test_what_only_readers_look_at_leaves_the_finder_as_it_is(made, changes):
    assert key_of(made, **changes) == key_of(made)


@pytest.mark.parametrize(
    "changes", [{"steps": 3}, {"learning_rate": 0.1}, {"task_weights": {"vertebra_map": 0.5}}, {"seed": 1}], ids=str
)
def test_what_the_finder_is_trained_by_makes_another(made, changes):
    assert key_of(made, **changes) != key_of(made)


def test_other_classes_leave_the_finder_as_it_is(made):
    data = made[3]
    assert key_of(made, data=dataclasses.replace(data, sealed=data.sealed[:1])) == key_of(made)


class OpenClassesTrainer(UncertainLabelsTrainer):
    @classmethod
    def configured(cls, configuration):
        return dataclasses.replace(super().configured(configuration), task_weights={"open_class": 0.5})


@pytest.mark.parametrize(("trainer_class", "read"), [(UncertainLabelsTrainer, False), (OpenClassesTrainer, True)])
def test_classes_make_another_finder_only_where_it_learns_them(made, trainer_class, read):
    data: TrainingData = made[3]
    assert data.cases[0].classes
    other = dataclasses.replace(data, cases=[dataclasses.replace(case, classes=()) for case in data.cases])
    weights = trainer_class.configured(made[2]).task_weights
    keys = {key_of(made, trainer_class, data=told, task_weights=weights) for told in (data, other)}
    assert len(keys) == 1 + read


def test_a_centre_elsewhere_makes_another_finder(made):
    data: TrainingData = made[3]
    moved = dataclasses.replace(data.cases[0], centres=np.array(data.cases[0].centres) + 0.01)
    assert key_of(made, data=dataclasses.replace(data, cases=[moved, *data.cases[1:]])) != key_of(made)


def test_a_trainer_of_other_open_tasks_has_another_finder(made):
    assert key_of(made, BaselineTrainer) != key_of(made)


def test_open_tasks_of_the_users_own_are_trained_each_time(made):
    class Own(AuxSegTrainer):
        def build_tasks(self):
            tasks = super().build_tasks()
            kind = type("Mine", (type(tasks[0].task),), {"__module__": "mine"})
            return [dataclasses.replace(tasks[0], task=kind(self.plan, self.configuration)), *tasks[1:]]

    assert key_of(made, Own) is None


def test_a_second_training_takes_the_finder_and_says_so(phantom_roots, tmp_path):
    words = ("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", "--set", "steps=2")
    fold = tmp_path / MODEL / "fold_0"
    assert run_cli(*words, "members=1") == 0
    first = load_checkpoint(fold / "checkpoint_final.pt")["weights"]
    assert json.loads((fold / "run.json").read_text())["finder_trained_before"] is False
    assert run_cli(*words, "members=2") == 0
    second = load_checkpoint(fold / "checkpoint_final.pt")["weights"]
    run = json.loads((fold / "run.json").read_text())
    assert run["finder_trained_before"] is True
    assert (tmp_path / "results/Dataset001_Phantom/finders" / run["finder"]).exists()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items() if name.startswith("finder."))


def test_readers_alone_need_a_finder(phantom_roots, tmp_path, capsys):
    words = ("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", "--part")
    assert run_cli(*words, "reader", "--set", "steps=2") == 2
    assert "--part finder" in capsys.readouterr().err


def test_the_parts_one_after_the_other_are_the_whole(phantom_roots, tmp_path):
    words = ("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu")
    final = tmp_path / MODEL / "fold_0" / "checkpoint_final.pt"
    assert run_cli(*words, "--part", "finder", "--set", "steps=2") == 0
    assert not final.exists()
    assert run_cli(*words, "--part", "reader", "--set", "steps=2") == 0
    apart = load_checkpoint(final)["weights"]
    for path in (tmp_path / "results/Dataset001_Phantom/finders").iterdir():
        path.unlink()
    assert run_cli(*words, "--set", "steps=2") == 0
    together = load_checkpoint(final)["weights"]
    assert apart.keys() == together.keys()
    assert all(torch.equal(apart[name], tensor) for name, tensor in together.items())


@pytest.mark.parametrize("name", ["AuxSegAETrainer", "UncertainLabelsTrainer"])
def test_the_key_is_the_same_for_data_that_are_loaded_anew(name, phantom, tmp_path):
    folder, trainer_class, keys = phantom / "preprocessed/Dataset001_Phantom", find_trainer(name), []
    plan = load_plan(folder / "spineclsPlans.json")
    configuration = plan.configuration("3d_fullres")
    for _ in range(2):
        data = load_training_data(
            StoredCases(folder, "spineclsPlans_3d_fullres", fold_cases(folder, "0")[0][:2]),
            plan,
            configuration,
            masks=trainer_class.regions_from_masks,
            beliefs=trainer_class.learns_beliefs,
            images=StoredCases(folder, "spineclsPlans_3d_fullres", ()),
        )
        trainer = trainer_class(plan, configuration, RunSettings(tmp_path, torch.device("cpu")))
        keys.append(finder_key(trainer.parts[0], plan, configuration, data, 0))
    assert keys[0] == keys[1] is not None


def test_a_voxel_makes_another_finder(made):
    data: TrainingData = made[3]
    image = np.array(data.cases[0].image)
    image[0, 1, 2, 3] += 1
    changed = dataclasses.replace(data.cases[0], image=image)
    assert key_of(made, data=dataclasses.replace(data, cases=[changed, *data.cases[1:]])) != key_of(made)


def test_another_way_to_train_makes_another_finder(made, monkeypatch):
    before = key_of(made)
    monkeypatch.setattr("spinecls.trainers.finders.RECIPE", "another")
    assert key_of(made) != before


def test_a_file_that_is_no_finder_of_the_plan_is_refused(made, tmp_path):
    folder, plan, configuration, _ = made
    finder = AuxSegTrainer(plan, configuration, RunSettings(folder / "run", torch.device("cpu"))).model.finder
    store_finder(tmp_path / "good.pt", finder)
    weights = load_checkpoint(tmp_path / "good.pt")["weights"]
    name = next(iter(weights))
    save_checkpoint(tmp_path / "less.pt", {"weights": {k: w for k, w in weights.items() if k != name}})
    with pytest.raises(ModelError, match=r"lacks .*so it is no finder of this plan"):
        take_finder(tmp_path / "less.pt", finder)
    save_checkpoint(tmp_path / "other.pt", {"weights": weights | {name: weights[name][:1]}})
    with pytest.raises(ModelError, match="not a finder of this plan"):
        take_finder(tmp_path / "other.pt", finder)


@pytest.mark.slow
def test_a_run_that_started_from_other_weights_leaves_no_finder_to_others(phantom_roots, tmp_path):
    words = ("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu")
    results = tmp_path / "results/Dataset001_Phantom"
    fold = results / "BaselineTrainer__spineclsPlans__3d_fullres/fold_0"
    assert run_cli(*words, "--set", "steps=2") == 0
    start = fold.with_name("start.pt")
    (fold / "checkpoint_final.pt").replace(start)
    for finder in (results / "finders").iterdir():
        finder.unlink()
    assert run_cli(*words, "--set", "steps=2", "-pretrained_weights", start) == 0
    (fold / "checkpoint_final.pt").unlink()
    assert run_cli(*words, "--c") == 0
    assert not list((results / "finders").iterdir())
