import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from spinecls.planning.workers import WorkerDied, run_each


@pytest.mark.parametrize("num_processes", [1, 2])
def test_every_item_comes_with_its_result(num_processes):
    assert dict(run_each(abs, [-3, 4, -5, 6], num_processes)) == {-3: 3, 4: 4, -5: 5, 6: 6}


@pytest.mark.parametrize("num_processes", [1, 2])
def test_what_the_function_raises_is_raised(num_processes):
    with pytest.raises(ValueError, match="invalid literal"):
        dict(run_each(int, ["1", "x"], num_processes))


def test_an_item_that_kills_its_worker_is_told_from_those_beside_it():
    results = dict(run_each(eval, ["1", "__import__('os')._exit(9)", "2", "3"], 2))
    died = results.pop("__import__('os')._exit(9)")
    assert isinstance(died, WorkerDied)
    assert results == {"1": 1, "2": 2, "3": 3}


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_workers_end_when_the_main_process_is_killed():
    code = "import time\nfrom spinecls.planning.workers import run_each\n"
    code += "if __name__ == '__main__':\n    list(run_each(time.sleep, [60, 60], 2))"
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    # Two workers and the process that watches over shared resources.
    while len(workers := psutil.Process(parent.pid).children()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 3
    time.sleep(1.0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
