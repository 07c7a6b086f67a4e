"""The task of the extension page: right by another way of measuring, and a run with it as any other."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import stop_after
from made_up_cases import PLAN, STILL, a_case, target_of
from scipy import ndimage

from spinecls.dataloading.cases import UNKNOWN
from spinecls.dataloading.open_patches import OpenSampler
from spinecls.errors import Interrupted
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import load_plan
from spinecls.tasks.checkpoint import build_model, load_checkpoint
from spinecls.testing.checks import check_trainer
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data

PAGE = Path(__file__).parents[2] / "documentation/extending/your_own_task.md"
CODE = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
ROW_MM = 2.0


@pytest.fixture(scope="module")
def users_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("users") / "endplates.py"
    path.write_text(CODE)
    return path


@pytest.fixture(scope="module")
def trainer_class(users_file):
    return find_trainer(f"{users_file}:EndplateTrainer")


@pytest.fixture(scope="module")
def task_class(trainer_class):
    return trainer_class.build_tasks.__globals__["EndplateTask"]


def touching(**changes):
    """Two vertebrae of ten and twelve rows without a gap between, away from the image's border."""
    vertebra_map = np.zeros((9, 60, 40), np.uint8)
    vertebra_map[2:7, 15:25, 12:28], vertebra_map[2:7, 25:37, 12:28] = 1, 2
    return a_case(vertebra_map=vertebra_map, centres=np.array([[4.0, 19.5, 19.5], [4.0, 30.5, 19.5]]), **changes)


def expected_mm(vertebra_map):
    """Distance along the rows to where each vertebra ends: of scipy, to whom slices and columns are out of reach."""
    found = np.full(vertebra_map.shape, np.nan)
    for number in (1, 2):
        inside = vertebra_map == number
        far = 1e6
        found[inside] = ndimage.distance_transform_edt(inside, sampling=(far, ROW_MM, far))[inside] - ROW_MM / 2
    return found


def test_the_file_is_short():
    assert len(CODE.splitlines()) < 60


def test_the_distance_is_that_of_a_distance_transform_of_each_vertebra(task_class):
    found = target_of(task_class(PLAN, STILL), touching())["distance_mm"][0]
    expected = expected_mm(touching().vertebra_map)
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    assert np.nanmax(np.abs(found - expected)) <= 0.25 + 1e-6
    # Where the two touch both have ended.
    assert np.nanmax(found[:, 24:26]) <= ROW_MM


@pytest.mark.parametrize("seed", range(6))
def test_it_follows_turns_mirrors_and_zooms(task_class, seed):
    free = dataclasses.replace(STILL, rotation_degrees=20.0, scale_range=(0.85, 1.18), mirror_axes=(0,))
    case = touching()
    found = target_of(task_class(PLAN, free), case, seed)["distance_mm"][0]
    rng = np.random.default_rng(seed)
    rng.random()  # whether the view is short
    sampler = OpenSampler(case, free, rng)
    zoom = np.linalg.norm(sampler.matrix[:, 1])
    shown = sampler.index(case.vertebra_map.shape)
    expected = expected_mm(case.vertebra_map)[tuple(shown)] / zoom
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.sum() > 0.95 * np.isfinite(found).sum()
    error_mm = np.abs(found - expected)
    # Nearest voxels of a turned grid are up to one off at either end. A line along the front or back, where those make
    # steps, may leave the vertebra there.
    core = both & (shown[2] > 13) & (shown[2] < 26)
    assert error_mm[core].max() <= 1.25 * ROW_MM
    assert error_mm[core].mean() <= 0.4 * ROW_MM


def test_where_the_map_does_not_say_the_distance_is_not_known(task_class):
    task, case = task_class(PLAN, STILL), touching()
    case.vertebra_map[:, 36] = UNKNOWN
    found = target_of(task, case)["distance_mm"][0]
    assert np.isfinite(found[4, 15:25, 20]).all()
    assert not np.isfinite(found[4, 25:36, 20]).any()


def test_a_case_without_a_map_costs_nothing(task_class):
    case = touching(bodies=touching().vertebra_map)
    case = dataclasses.replace(case, vertebra_map=None)
    assert not np.isfinite(target_of(task_class(PLAN, STILL), case)["distance_mm"]).any()


@pytest.mark.slow
def test_its_trainer_keeps_the_rules(trainer_class, capsys):
    check_trainer(trainer_class)
    assert "endplate" in capsys.readouterr().out


@pytest.fixture
def made(phantom, trainer_class):
    """Function: a trainer of a few steps in a folder, and its data."""
    folder = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    small = dataclasses.replace(plan.configuration("3d_fullres"), steps=4, reader_steps=2, members=1)
    cases = fold_cases(folder, "0")[0][:3]
    stored = StoredCases(folder, "spineclsPlans_3d_fullres", cases)
    data = load_training_data(stored, plan, small, masks=trainer_class.regions_from_masks)

    def make(run_folder):
        run_folder.mkdir(exist_ok=True)
        run = RunSettings(run_folder, torch.device("cpu"), show_progress=False)
        return trainer_class(plan, small, run)

    return make, data


def test_a_run_with_it_goes_on_as_if_undisturbed_and_leaves_it_out_of_the_model(made, tmp_path):
    make, data = made
    whole = make(tmp_path / "whole")
    whole.fit(data)
    assert "endplate" in (tmp_path / "whole/progress.csv").read_text().splitlines()[0]
    stopped = make(tmp_path / "stopped")
    stop_after(stopped, 2)
    with pytest.raises(Interrupted):
        stopped.fit(data)
    again = make(tmp_path / "stopped")
    again.resume()
    assert again.step == 2
    again.fit(data)
    one, two = (load_checkpoint(trainer.final_path) for trainer in (whole, again))
    assert one["weights"].keys() == two["weights"].keys()
    assert all(torch.equal(weight, two["weights"][name]) for name, weight in one["weights"].items())
    assert not [name for name in one["weights"] if "endplate" in name]
    heads = build_model(one, whole.final_path).open_pass(torch.zeros(1, 1, 8, 48, 32))
    assert "endplate" not in heads
