"""Kill `spinecls_plan_and_preprocess` at random moments, run it again, and compare the folder with an undisturbed one.

    python benchmarks/kill_preprocessing.py --dataset DATASET_FOLDER --cases 10

Without a dataset phantoms are drawn. Three of four kills fall into the time after the first stored file, the others
anywhere. Every other time only the main process is killed and its workers must notice; else all processes at once. The
plan is made beforehand, since it holds measured speeds. Ends with 1 when any file differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import roots

from spinecls.testing.phantom import write_dataset

NAME = "Dataset902_Killed"
LOCK = ".preprocess.lock"
GIVEN = ("spineclsPlans.json", "machine.json")


def subset(source: Path, target: Path, count: int) -> None:
    """A raw dataset of the first cases of another one; its files are links."""
    rows = list(csv.DictReader((source / "vertebraeTr.csv").open(encoding="utf-8")))
    cases = sorted({row["case"] for row in rows})[:count]
    for part in ("imagesTr", "labelsTr", "structuresTr"):
        (target / part).mkdir(parents=True)
        for path in sorted((source / part).iterdir()):
            if any(path.name.startswith((f"{case}.", f"{case}_")) for case in cases):
                (target / part / path.name).symlink_to(path.resolve())
    with (target / "vertebraeTr.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if row["case"] in cases)
    description = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    description.pop("numTraining", None)
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Command:
    """The command under test, in a process group of its own."""

    def __init__(self, work: Path, processes: int) -> None:
        self.environment = {**os.environ, **roots(work)}
        self.words = [sys.executable, "-m", "spinecls", "plan_and_preprocess", "-d", NAME, "-np", str(processes)]
        self.words += ["-device", "cpu"]

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self.words,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Run it to its end."""
        done = subprocess.run(self.words, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(self.words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def start_afresh(command: Command, folder: Path) -> subprocess.Popen:
    """The command on a folder that holds the plan only."""
    given = {name: (folder / name).read_bytes() for name in GIVEN}
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in given.items():
        (folder / name).write_bytes(content)
    return command.start()


def wait_for_a_case(process: subprocess.Popen, folder: Path) -> None:
    """Return when the first file of a case is there, or the process has ended."""
    while process.poll() is None and not any((folder / "native").glob("*")):
        time.sleep(0.002)


def calm_run(command: Command, folder: Path) -> tuple[float, float]:
    """Seconds to the first stored file and to the end."""
    began = time.monotonic()
    process = start_afresh(command, folder)
    wait_for_a_case(process, folder)
    first = time.monotonic() - began
    if process.wait():
        raise SystemExit(f"{' '.join(command.words)} ended with {process.returncode}")
    return first, time.monotonic() - began


def kill_once(command: Command, folder: Path, after_a_case: bool, delay: float, whole_group: bool) -> tuple[bool, int]:
    """Kill `delay` seconds after the start or the first file: whether it was at work, and how many files it left."""
    process = start_afresh(command, folder)
    if after_a_case:
        wait_for_a_case(process, folder)
    time.sleep(delay)
    running = process.poll() is None
    if running and whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    elif running:
        process.kill()
    process.wait()
    return running, len(contents(folder)) - len(GIVEN)


def compare(folder: Path, calm: dict[str, bytes]) -> list[str]:
    """Files that are missing, extra or different."""
    found = contents(folder)
    return sorted(name for name in found.keys() | calm.keys() if found.get(name) != calm.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="raw dataset folder [default: phantoms]")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if options.dataset:
            subset(options.dataset, work / "raw" / NAME, options.cases)
        else:
            write_dataset(work / "raw" / NAME, options.cases, seed=options.seed)
        command, folder = Command(work, options.processes), work / "preprocessed" / NAME
        command.finish()
        first, seconds = calm_run(command, folder)
        calm = contents(folder)
        print(f"Undisturbed: {seconds:.1f} s, {len(calm)} files, {sum(map(len, calm.values())) / 1e6:.1f} MB")
        interrupted = wrong = 0
        number = 0
        while interrupted < options.kills:
            after_a_case, whole_group = number % 4 != 3, bool(number % 2)
            number += 1
            delay = rng.uniform(0, seconds - first if after_a_case else seconds)
            running, left = kill_once(command, folder, after_a_case, delay, whole_group)
            command.finish()
            different = compare(folder, calm)
            interrupted += running
            wrong += bool(different)
            victims = "all processes" if whole_group else "main process "
            since = "its first file" if after_a_case else "its start"
            state = f"killed {delay:5.2f} s after {since}" if running else "had finished already"
            outcome = f"differs: {', '.join(different[:5])}" if different else "the same"
            print(f"{number:3}  {victims}  {state}, {left:4} files there; run again: {outcome}", flush=True)
    print(f"{interrupted} of {number} runs were killed at work; {wrong} folders differ from the undisturbed one.")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
