"""Guards against variables of the environment, legal or not, that end a command from an import it does not need."""

import os
import subprocess
import sys

import pytest

from spinecls.environment import THREAD_COUNTS, settle_thread_counts

NUMBERS = {"2": "2", "2,1": "2", " 4 , 2 ": "4", "08": "8", "3,2,1": "3"}
NONSENSE = ("abc", "0", "-3", "2,x", "2.5", ",2", "1e3", "²", "0,2")


@pytest.mark.parametrize("name", THREAD_COUNTS)
@pytest.mark.parametrize(("text", "expected"), NUMBERS.items(), ids=NUMBERS)
def test_of_a_legal_list_the_first_number_is_taken(name, text, expected, caplog):
    environment = {name: text}
    settle_thread_counts(environment)
    assert environment == {name: expected}
    assert not caplog.records


@pytest.mark.parametrize("name", THREAD_COUNTS)
@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_gets_one_warning_and_counts_as_not_set(name, text, caplog):
    environment = {name: text}
    settle_thread_counts(environment)
    settle_thread_counts(environment)
    assert environment == {}
    assert [record.getMessage() for record in caplog.records] == [
        f"Warning: the environment variable {name} is {text!r}, expected a number from 1 on; it counts as not set."
    ]


def test_an_empty_variable_counts_as_not_set_without_a_word(caplog):
    environment = dict.fromkeys(THREAD_COUNTS, "")
    settle_thread_counts(environment)
    assert environment == {}
    assert not caplog.records


@pytest.mark.parametrize("text", ["2,1", "abc", "0", ""])
def test_training_and_prediction_can_be_imported_whatever_the_environment_says(text):
    environment = {**os.environ, **dict.fromkeys(THREAD_COUNTS, text)}
    words = [sys.executable, "-c", "import spinecls.trainers.run, spinecls.inference.predictor, joblib.externals.loky"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    warned = len(THREAD_COUNTS) if text in ("abc", "0") else 0
    assert (done.returncode, len(done.stderr.splitlines())) == (0, warned), done.stderr
