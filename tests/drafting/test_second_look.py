"""What a finder calls otherwise than a dataset is told where the finder is sure, and nowhere else."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from support import run_cli, set_roots

from spinecls.anatomy import LEVELS
from spinecls.drafting.second_look import difference_of_names, difference_of_places
from spinecls.evaluation.truth import truth_of
from spinecls.io.dataset import load_dataset
from spinecls.testing.phantom import write_dataset

TOLD = {"L1": (0, 0, 60), "L2": (0, 0, 30), "L3": (0, 0, 0)}


def test_the_same_names_at_the_same_places_are_no_difference():
    assert difference_of_places(TOLD, {level: (x, y + 9, z) for level, (x, y, z) in TOLD.items()}) == ""


def test_a_vertebra_that_only_one_of_both_has_is_no_difference():
    assert difference_of_places(TOLD, {"L2": (0, 0, 30), "L4": (0, 0, -30)}) == ""


def test_names_that_are_all_off_by_one_are_told_as_that():
    shown = {"L2": (0, 0, 61), "L3": (0, 0, 30), "L4": (0, 0, 0)}
    assert difference_of_places(TOLD, shown) == (
        "L1 seems to be L2, L2 seems to be L3, L3 seems to be L4; every name is off by the same number of levels. "
        "Look at the scan"
    )


def test_one_name_that_is_off_is_told_alone():
    shown = {"L1": (0, 0, 61), "L2": (0, 0, 30), "L4": (0, 0, 0)}
    assert difference_of_places(TOLD, shown) == "L3 seems to be L4. Look at the scan"


def test_what_is_further_away_is_another_vertebra():
    assert difference_of_places({"L1": (0, 0, 0)}, {"L2": (0, 0, 10.1)}) == ""
    assert difference_of_places({"L1": (0, 0, 0)}, {"L2": (0, 0, 9.9)}) != ""


def test_a_table_without_places_is_compared_by_its_names():
    shown = dict.fromkeys(("S1", "L1", "L2", "L3", "L4", "L5"))
    assert difference_of_names(["L5", "T12", "L1"], shown) == (
        "the table says T12 to L5, the scan seems to show L1 to S1 (no T12). Look at the scan"
    )
    assert difference_of_names(["L1", "L5"], shown) == ""


class Shifted:
    """Stands for a finder that calls every vertebra by the name of the next one below."""

    plan = SimpleNamespace(register_channels=False, channel_names=("MRI",))
    probability = 0.99

    def __init__(self, truths):
        self.truths = iter(truths)

    def image_warnings(self, image, geometry):
        return ()

    def predict_volume(self, image, geometry, unlike):
        vertebrae = [
            SimpleNamespace(
                level=LEVELS[LEVELS.index(level) + 1],
                level_probability=self.probability,
                flags=(),
                centre_lps=centre,
            )
            for level, centre in next(self.truths).items()
            if level != "S1"
        ]
        return SimpleNamespace(vertebrae=vertebrae)


@pytest.fixture
def shifted(tmp_path, monkeypatch):
    """Two phantoms, looked at by a finder that calls everything otherwise."""
    set_roots(monkeypatch, tmp_path)
    raw = load_dataset(write_dataset(tmp_path / "raw/Dataset001_Phantom", 2, seed=5))
    finder = Shifted([truth_of(case, raw.description).centres_lps for case in raw.cases])

    @contextmanager
    def predictors(dataset, folder, device):
        yield lambda case: finder

    monkeypatch.setattr("spinecls.drafting.predictors.predictors", predictors)
    return finder


def test_the_check_tells_it_as_a_warning_when_asked_to(shifted, capsys):
    assert run_cli("check", "1", "--with_finder") == 0
    told = capsys.readouterr().out
    assert "W738" in told
    assert "seems to be" in told


def test_the_check_asks_no_finder_otherwise(shifted, capsys):
    assert run_cli("check", "1") == 0
    assert "W738" not in capsys.readouterr().out


def test_a_finder_that_is_not_sure_says_nothing(shifted, capsys):
    shifted.probability = 0.8
    assert run_cli("check", "1", "--with_finder") == 0
    assert "W738" not in capsys.readouterr().out
