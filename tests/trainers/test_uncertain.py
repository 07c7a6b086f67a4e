"""Training from loose annotation: what the batches say, that nothing collapses, and that readers are told apart."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from support import SMALL, run_cli

from spinecls import files
from spinecls.dataloading.forms import VERTEBRA
from spinecls.dataloading.loader import training_batches
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import load_plan
from spinecls.tasks.classification import ClassificationTask
from spinecls.tasks.loose_tasks import ConsistencyTask, ReaderClassificationTask
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.network_training import to_device
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data

PLANS_CONFIG = "spineclsPlans_3d_fullres"
LOOSE = {
    "box": ("--form", "box", "--slack_mm", "2", "4"),
    "point": ("--form", "point", "--jitter_mm", "1"),
    "scribble": ("--form", "scribble"),
    "coarse": ("--form", "coarse", "--tolerance_mm", "2"),
    "readers": ("--readers", "0.95", "--readers", "0.8", "--readers", "0.6"),
    "mixed": ("--form", "point", "--exact_cases", "3"),
    "slices": ("--form", "slices", "--every", "4"),
}

WITHOUT_READERS = {"class": 0.0, "lesion": 0.0, "sealed_structures": 0.0}


@pytest.fixture(scope="module")
def loosened(tmp_path_factory):
    """Function: preprocessed folder of the phantom dataset in a loose form; made once for each."""
    from spinecls.testing.phantom import write_dataset

    root = tmp_path_factory.mktemp("loose")
    write_dataset(root / "raw" / "Dataset001_Phantom", 8, seed=3)

    def made(form):
        number = 2 + list(LOOSE).index(form)
        name = f"Dataset00{number}_{form.capitalize()}"
        if not (root / "preprocessed" / name).exists():
            with pytest.MonkeyPatch.context() as patch:
                for kind in ("raw", "preprocessed", "results"):
                    patch.setenv(f"spinecls_{kind}", str(root / kind))
                assert run_cli("loosen", "-d", "1", "-o", name, *LOOSE[form]) == 0
                words = ("plan_and_preprocess", "-d", number, "-c", "3d_fullres", "-np", "1", "-device", "cpu")
                assert run_cli(*words, "--set", *SMALL[1:]) == 0
        return root / "preprocessed" / name

    return made


def make(folder, run_folder, name="UncertainLabelsTrainer", steps=3, readers=(), judged=False, **settings):
    plan = load_plan(folder / "spineclsPlans.json")
    configuration = dataclasses.replace(plan.configuration("3d_fullres"), steps=steps, reader_steps=steps, **settings)
    plan = dataclasses.replace(plan, readers=readers, readers_judged=judged)
    trainer_class = find_trainer(name)
    data = load_training_data(
        StoredCases(folder, PLANS_CONFIG, fold_cases(folder, "0")[0]),
        plan,
        configuration,
        masks=trainer_class.regions_from_masks,
        beliefs=trainer_class.learns_beliefs,
        images=StoredCases(folder, PLANS_CONFIG, ()),
    )
    run_folder.mkdir(parents=True, exist_ok=True)
    trainer = trainer_class(plan, configuration, RunSettings(run_folder, torch.device("cpu"), show_progress=False))
    return trainer, data


def first_batch(trainer, data, sealed=False):
    """The first batch of the finder, or of a reader."""
    tasks = next([t.task for t in part.tasks] for part in trainer.parts if part.reads == sealed)
    batches = training_batches(data, trainer.configuration, tasks, sealed, seed=0, first_step=0, workers=0)
    batch = next(batches)
    batches.close()
    return batch


@pytest.mark.parametrize("form", ["box", "point", "scribble", "coarse"])
def test_every_form_says_where_vertebrae_are_and_where_not(form, loosened, tmp_path):
    trainer, data = make(loosened(form), tmp_path)
    for case in data.cases:
        beliefs = case.compiled["vertebra_map"].beliefs
        assert beliefs.mass([VERTEBRA]).any()
        assert beliefs.mass([0]).any()
        assert beliefs.silent.any()
    assert first_batch(trainer, data).targets["vertebra_map"]["beliefs"].masses.any()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["box", "point", "scribble"])
def test_without_any_outline_the_map_does_not_collapse(form, loosened, tmp_path):
    """The share of vertebra in whole regions ends near what their bounds allow, neither none nor all."""
    settings = {"task_weighting": "fixed", "task_weights": WITHOUT_READERS | {"structures": 0.0}}
    trainer, data = make(loosened(form), tmp_path, steps=250, **settings)
    trainer.fit(data)
    trainer.model.eval()
    shares, bounds = [], []
    for case in data.cases:
        bags = case.compiled["vertebra_map"].bags
        size = tuple(n // 8 * 8 for n in case.image.shape[1:])
        view = tuple(slice(0, n) for n in size)
        with torch.inference_mode():
            image = torch.from_numpy(case.image[(slice(None), *view)])[None]
            found = torch.softmax(trainer.model.open_pass(image)["vertebra_map"].float(), dim=1)[0, VERTEBRA].numpy()
        for number in range(len(bags.voxels)):
            region = bags.members[:, number][bags.codes[view]]
            if region.sum() >= 0.9 * bags.voxels[number]:
                shares.append(found[region].mean())
                bounds.append((bags.low[number], bags.high[number]))
    low, high = np.mean(bounds, axis=0)
    assert len(shares) > 5
    assert 0.7 * low < np.mean(shares) < 0.5 * (1 + high)


def test_a_mixed_dataset_gives_batches_of_both_kinds(loosened, tmp_path):
    _, data = make(loosened("mixed"), tmp_path)
    exact = [case.vertebra_map is not None for case in data.cases]
    assert any(exact)
    assert not all(exact)
    silent = [case.compiled["vertebra_map"].beliefs.silent.mean() for case in data.cases]
    assert max(s for s, e in zip(silent, exact, strict=True) if e) < min(
        s for s, e in zip(silent, exact, strict=True) if not e
    )


def test_judged_readers_teach_what_they_make_likely(loosened, tmp_path):
    folder = loosened("readers")
    trainer, data = make(folder, tmp_path, readers=("reader1", "reader2", "reader3"), judged=True)
    assert type(next(t.task for t in trainer.tasks if t.task.name == "class")) is ClassificationTask
    whole = [source.label for source in data.sealed if source.label.weight == pytest.approx(1)]
    assert len(whole) > len(data.sealed) / 2
    assert all((label.sets.sum(axis=1) == 1).all() for label in whole)
    assert any((label.masses > 0.01).sum() > 1 for label in whole)
    assert (first_batch(trainer, data, sealed=True).targets["class"]["readers"] == -1).all()


def tasks_of(trainer, kind):
    """Tasks of a kind that are trained, in the order of the networks that they train."""
    return [weighted.task for part in trainer.parts for weighted in part.tasks if isinstance(weighted.task, kind)]


def test_each_of_two_readers_has_a_matrix_in_every_network_that_is_trained_and_saved(loosened, tmp_path):
    readers = ("reader1", "reader2")
    trainer, data = make(loosened("readers"), tmp_path, steps=6, readers=readers)
    tasks = tasks_of(trainer, ReaderClassificationTask)
    assert len(tasks) == trainer.configuration.members == 2
    before = [task.matrices.scaled_logits.detach().clone() for task in tasks]
    assert set(first_batch(trainer, data, sealed=True).targets["class"]["readers"].unique().tolist()) <= {-1, 0, 1}
    trainer.fit(data)
    weights = torch.load(trainer.latest_path, weights_only=True)["weights"]
    for number, task in enumerate(tasks):
        assert not torch.equal(before[number], task.matrices.scaled_logits)
        assert torch.equal(weights[f"readers.{number}.auxiliary.class.scaled_logits"], task.matrices.scaled_logits)


def test_a_run_writes_down_how_good_each_network_takes_two_readers_to_be(loosened, tmp_path):
    readers = ("reader1", "reader2")
    trainer, data = make(loosened("readers"), tmp_path, steps=6, readers=readers)
    trainer.fit(data)
    for name in ("readers.json", "readers_reader_1.json"):
        written = files.read_json(tmp_path / name)
        assert list(written) == list(readers)
        matrix = np.array(written["reader1"]["matrix"])
        assert matrix.sum(axis=0) == pytest.approx(np.ones(len(matrix)), abs=1e-3)
        assert written["reader1"]["accuracy"] == pytest.approx(np.diag(matrix).mean(), abs=1e-3)


def test_the_teacher_follows_the_finder_and_is_resumed(loosened, tmp_path):
    trainer, data = make(loosened("slices"), tmp_path, steps=6)
    (task,) = tasks_of(trainer, ConsistencyTask)
    assert first_batch(trainer, data).targets["consistency"]["silent"].any()
    trainer.fit(data)
    taught = {name: weight.clone() for name, weight in task.teacher.state_dict().items()}
    again, _ = make(loosened("slices"), tmp_path, steps=6)
    again.resume()
    (task,) = tasks_of(again, ConsistencyTask)
    assert all(torch.equal(weight, taught[name]) for name, weight in task.teacher.state_dict().items())


def test_the_teacher_stays_out_of_the_final_checkpoint_and_is_not_trained(loosened, tmp_path):
    trainer, data = make(loosened("point"), tmp_path, steps=3)
    assert not any(p.requires_grad for p in trainer.model.finder.auxiliary["consistency"].parameters())
    trainer.fit(data)
    weights = torch.load(trainer.final_path, weights_only=True)["weights"]
    assert not [name for name in weights if "auxiliary" in name]


def test_consistency_is_asked_where_nothing_is_said(loosened, tmp_path):
    trainer, data = make(loosened("slices"), tmp_path, steps=41, task_weights=WITHOUT_READERS)
    trainer.fit(data)
    with open(tmp_path / "progress.csv", newline="") as stream:
        assert any(float(row["consistency"] or 0) > 0 for row in csv.DictReader(stream))


@pytest.fixture
def trained(loosened, tmp_path, monkeypatch):
    """Function: exit code of training two steps on points with further settings."""
    folder = loosened("point")
    monkeypatch.setenv("spinecls_preprocessed", str(folder.parent))
    monkeypatch.setenv("spinecls_results", str(tmp_path))
    words = ("train", folder.name, "3d_fullres", "0", "-tr", "UncertainLabelsTrainer", "-device", "cpu")
    return lambda *settings: run_cli(*words, "--set", "steps=2", *settings)


def test_a_run_writes_down_how_good_three_readers_make_each_other(loosened, tmp_path, monkeypatch):
    folder = loosened("readers")
    monkeypatch.setenv("spinecls_preprocessed", str(folder.parent))
    monkeypatch.setenv("spinecls_results", str(tmp_path))
    monkeypatch.setattr("spinecls.dataloading.readings.FEWEST_COMPARED", 30)
    words = ("train", folder.name, "3d_fullres", "0", "-tr", "UncertainLabelsTrainer", "-device", "cpu")
    assert run_cli(*words, "--set", "steps=2") == 0
    written = files.read_json(next(tmp_path.glob("Dataset*/*/fold_0")) / "readers.json")
    right = [written[f"reader{number}"]["accuracy"] for number in (1, 2, 3)]
    assert right == sorted(right, reverse=True)


def test_classes_of_the_open_pass_are_learnt_when_asked_for_and_not_kept(trained, tmp_path):
    assert trained("task_weights.open_class=0.5") == 0
    fold = next(tmp_path.glob("Dataset*/*/fold_0"))
    with open(fold / "progress.csv", newline="") as stream:
        assert float(next(csv.DictReader(stream))["open_class"]) > 0
    weights = torch.load(fold / "checkpoint_final.pt", weights_only=True)["weights"]
    assert not [name for name in weights if "open_class" in name]


def test_a_run_writes_down_which_cases_were_placed_by_their_surroundings(trained, tmp_path):
    assert trained() == 0
    run = files.read_json(next(tmp_path.glob("Dataset*/*/fold_0")) / "run.json")
    assert run["placed_by_surroundings"] == sorted(run["cases"])


def test_classes_of_the_open_pass_are_not_learnt_unasked(loosened, tmp_path):
    trainer, _ = make(loosened("point"), tmp_path)
    assert "open_class" not in [t.task.name for t in trainer.tasks]
    assert "open_class" not in trainer.model.finder.heads


def test_consistency_without_a_map_is_refused(trained, capsys):
    assert trained("task_weights.vertebra_map=0") == 2
    assert "give both a weight, or neither" in capsys.readouterr().err


def test_a_q_above_one_is_refused(trained, capsys):
    assert trained("class_q=1.5") == 3
    assert "class_q" in capsys.readouterr().err


def test_a_wrong_class_costs_less_with_a_greater_q(loosened, tmp_path):
    gentle, _ = make(loosened("point"), tmp_path, class_q=0.7)
    assert next(t.task for t in gentle.tasks if t.task.name == "class").q == 0.7


def test_all_tensors_of_a_batch_move_to_the_device(loosened, tmp_path):
    trainer, data = make(loosened("box"), tmp_path)
    moved, read = (to_device(first_batch(trainer, data, sealed), torch.device("meta")) for sealed in (False, True))
    told = [vars(part) for part in (*moved.targets["vertebra_map"].values(), read, moved)]
    told += [*moved.targets.values(), *read.targets.values()]
    tensors = [value for part in told for value in part.values() if isinstance(value, torch.Tensor)]
    assert len(tensors) > 20
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.cases == first_batch(trainer, data).cases
