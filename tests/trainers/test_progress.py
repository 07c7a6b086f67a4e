"""What progress.csv says of a run of several networks, and when an auxiliary task is said to teach nothing."""

import csv
import logging

import pytest

from spinecls.trainers.progress import GradientLog, Idle, Progress


def looked_at(losses, caplog, tasks=("structures",), name="structures", steps=100):
    """Messages about an epoch every five steps."""
    idle = Idle("reader_0", tasks, steps)
    with caplog.at_level(logging.WARNING):
        for epoch, loss in enumerate(losses):
            idle.look(5 * (epoch + 1), {"part": "reader_0", "step": 0, name: f"{loss:.5f}"})
    return [record.getMessage() for record in caplog.records]


def test_a_flat_auxiliary_loss_is_told_once(caplog):
    told = looked_at([1.2] * 20, caplog)
    assert len(told) == 1
    assert told[0].startswith("reader_0: the loss of the auxiliary task structures has stayed at 1.2 for a fifth")
    assert "--set task_weights.structures=0" in told[0]


def test_a_flat_loss_is_told_after_a_fifth_of_the_training(caplog):
    # Of 100 steps a fifth are 20: the epochs that end at 5 and 25.
    assert not looked_at([1.2] * 4, caplog)
    assert len(looked_at([1.2] * 5, caplog)) == 1


def test_a_falling_loss_is_not_told_of(caplog):
    # Two percent an epoch are eight in a fifth.
    assert not looked_at([1.2 * 0.98**epoch for epoch in range(20)], caplog)


def test_a_loss_that_wavers_is_not_told_of(caplog):
    assert not looked_at([1.2, 1.1] * 10, caplog)


def test_a_loss_that_became_small_and_stays_so_has_taught(caplog):
    assert not looked_at([1.2, 1.0, 0.8, 0.6, *[0.5] * 16], caplog)


def test_a_loss_of_nothing_is_not_told_of(caplog):
    assert not looked_at([0.0] * 20, caplog)


def test_a_main_loss_is_not_told_of(caplog):
    assert not looked_at([1.2] * 20, caplog, name="class")


@pytest.fixture
def two_networks(tmp_path):
    """A file with an epoch of the finder and one of a reader, of other losses."""
    progress = Progress(tmp_path / "progress.csv")
    progress.add({"centre": 1.0, "level": 2.0})
    progress.add({"centre": 3.0, "level": 2.0})
    progress.close_epoch("finder", 2, 1.04, 1e-3)
    progress.add({"class": 0.5})
    progress.close_epoch("reader_0", 3, 2.0, 2e-3)
    return tmp_path / "progress.csv"


def read(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_each_row_says_which_network_was_trained_and_has_its_losses_alone(two_networks):
    finder, reader = read(two_networks)
    assert finder == {
        "part": "finder", "step": "2", "seconds": "1.0", "learning_rate": "0.001", "centre": "2.00000",
        "level": "2.00000", "class": "",
    }  # fmt: skip
    assert (reader["part"], reader["step"], reader["centre"], reader["class"]) == ("reader_0", "3", "", "0.50000")


def test_a_resumed_run_drops_the_rows_beyond_its_step(two_networks):
    progress = Progress(two_networks, resumed_at=2)
    progress.add({"class": 0.25})
    progress.close_epoch("reader_0", 3, 3.0, 2e-3)
    assert [(row["part"], row["class"]) for row in read(two_networks)] == [("finder", ""), ("reader_0", "0.25000")]


def test_measured_gradients_are_told_apart_by_network(tmp_path):
    log = GradientLog(tmp_path / "task_weights.csv")
    for part in ("reader_0", "reader_1"):
        log.add(7, "lesion", part=part, weight=0.1234567, cosine=0.5)
    log.write()
    found = [(row["part"], row["weight"]) for row in read(log.path)]
    assert found == [("reader_0", "0.12346"), ("reader_1", "0.12346")]
