"""Trainings of an experiment: datasets and models in one folder, each resumable, with a forecast of the time."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import roots, spinecls
from drawn_regions import PLAN

from spinecls import files
from spinecls.io.dataset import load_dataset
from spinecls.networks.model import FINDER
from spinecls.planning.plan import load_plan
from spinecls.trainers.fold_plan import with_overrides
from spinecls.trainers.refinement import REFINED

CONFIGURATION = "3d_fullres"
PLANS = "spineclsPlans.json"
SPLITS = "splits_final.json"
PREPARED = ".prepared"
"""Marks a dataset that was preprocessed to the end."""

PROBE_STEPS = 10
CHECKPOINTS = ("checkpoint_latest.pt", "checkpoint_previous.pt", "checkpoint_final.pt")


@dataclass(frozen=True)
class Run:
    """One training: a dataset of the folder, a trainer as `spinecls_train` takes it, a fold, and whether `--refine`."""

    dataset: str
    trainer: str
    fold: str
    refine: bool = False


@dataclass(frozen=True)
class Pace:
    """How long a trainer takes.

    Attributes
    ----------
    beside : seconds of a training beside its steps (loading, looking for vertebrae, validation)
    a_step : network -> seconds of one step, in the order in which they are trained
    """

    beside: float
    a_step: Mapping[str, float]

    def seconds_of(self, steps: Mapping[str, int]) -> float:
        """Of a training with so many steps of each network."""
        return self.beside + sum(steps[part] * seconds for part, seconds in self.a_step.items())


@dataclass(frozen=True)
class Trainings:
    """Folder of an experiment, most steps of each network in it (readers as planned), and threads of every process."""

    folder: Path
    steps: int
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        return {**roots(self.folder), "OMP_NUM_THREADS": str(self.threads)}

    def remember(self, source: Path) -> None:
        """Refuse another source than that of the trainings in the folder."""
        path, name = self.folder / "source.txt", str(source.resolve())
        self.folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text() != name:
            raise SystemExit(f"{self.folder}: holds trainings on {path.read_text()}. Give another --folder.")
        path.write_text(name)

    def raw(self, dataset: str) -> Path:
        return self.folder / "raw" / dataset

    def preprocessed(self, dataset: str) -> Path:
        return self.folder / "preprocessed" / dataset

    def model(self, run: Run) -> Path:
        trainer = run.trainer.rsplit(":", 1)[-1] + (REFINED if run.refine else "")
        return self.folder / "results" / run.dataset / f"{trainer}__{Path(PLANS).stem}__{CONFIGURATION}"

    def fold_folder(self, run: Run) -> Path:
        return self.model(run) / f"fold_{run.fold}"

    def split(self, dataset: str, fold: str) -> dict[str, list[str]]:
        """Cases of a fold, `train` and `val`."""
        return files.read_json(self.preprocessed(dataset) / SPLITS)[int(fold)]

    def loosen(self, source: str, target: str, *words: str) -> None:
        """Make a raw dataset from another by `spinecls_loosen`, seed 1, unless it is there."""
        if not self.raw(target).exists():
            # Under the same name, which is written into dataset.json, but elsewhere until it is whole.
            partial = self.folder / "partial" / target
            shutil.rmtree(partial, ignore_errors=True)
            partial.parent.mkdir(exist_ok=True)
            spinecls("loosen", "-d", self.raw(source), "-o", partial, "--seed", "1", *words)
            partial.rename(self.raw(target))

    def prepare(self, dataset: str, folds_of: str | None = None, plan_of: str | None = None) -> None:
        """Plan and preprocess a dataset unless that is done.

        Parameters
        ----------
        folds_of, plan_of : prepared datasets of the same cases whose folds and plan take the place of its own
        """
        if not (self.preprocessed(dataset) / PREPARED).exists():
            spinecls("plan_and_preprocess", "-d", dataset, "-c", CONFIGURATION, *PLAN, environment=self.environment)
            (self.preprocessed(dataset) / PREPARED).touch()
        for other, name in ((folds_of, SPLITS), (plan_of, PLANS)):
            if other is not None:
                shutil.copy(self.preprocessed(other) / name, self.preprocessed(dataset))

    def restrict(self, source: str, target: str, fold: str, cases: Sequence[str]) -> None:
        """A dataset that is another one with the same plan, whose fold trains on some of the cases alone."""
        self.preprocessed(target).mkdir(exist_ok=True)
        for path in self.preprocessed(source).iterdir():
            if path.name != SPLITS:
                link(self.preprocessed(target) / path.name, path)
        splits = files.read_json(self.preprocessed(source) / SPLITS)
        splits[int(fold)]["train"] = sorted(cases)
        path = self.preprocessed(target) / SPLITS
        if path.exists() and files.read_json(path) != splits:
            raise SystemExit(f"{path}: made for other training cases. Give the same options, or another --folder.")
        files.write_json(path, splits)

    def finished(self, run: Run) -> bool:
        """Whether a training was trained and validated to the end."""
        return (self.fold_folder(run) / "validation" / "summary.json").exists()

    def train(self, run: Run) -> Path:
        """Model folder of a training, which is begun, continued or kept as it is."""
        folder = self.fold_folder(run)
        going_on = any((folder / name).exists() for name in CHECKPOINTS)
        if going_on and (found := load_plan(folder / "plan.json").overrides.get("steps")) != str(self.steps):
            raise SystemExit(
                f"{folder}: a training of {found} steps, not {self.steps}. Give --steps {found} or a folder."
            )
        if not self.finished(run):
            words = ["train", run.dataset, CONFIGURATION, run.fold, "-tr", run.trainer]
            words += ["--refine"] if run.refine else []
            words += ["--c"] if going_on else ["--set", f"steps={self.steps}"]
            spinecls(*words, environment=self.environment)
        return self.model(run)

    def forecast(self, runs: Sequence[Run]) -> None:
        """Print how long those of the runs will take that are not finished, by the first steps of each trainer.

        A trainer is timed on the first of its runs, with all that comes before and after the steps.
        """
        left = [run for run in runs if not self.finished(run)]
        times: dict[str, Pace] = {}
        for run in left:
            if run.trainer not in times:
                times[run.trainer] = self.probe(run)
        seconds = sum(times[run.trainer].seconds_of(self.steps_left(run, times[run.trainer])) for run in left)
        if left:
            print(f"{len(left)} trainings are left, about {seconds / 60:.0f} minutes", flush=True)
            for name, pace in times.items():
                steps = ", ".join(f"{part} {a_step:.2f}" for part, a_step in pace.a_step.items())
                print(f"  {name}: seconds a step of {steps}", flush=True)

    def steps_left(self, run: Run, pace: Pace) -> dict[str, int]:
        """Steps that each network of a training still has to go."""
        plan = load_plan(self.preprocessed(run.dataset) / PLANS)
        used = with_overrides(plan.configuration(CONFIGURATION), {"steps": str(self.steps)})
        path = self.fold_folder(run) / "progress.csv"
        # Counted over the whole training, one network after the other.
        done = int(files.read_csv(path)[-1]["step"]) if path.exists() else 0
        left = {}
        for part in pace.a_step:
            steps = used.steps if part == FINDER else used.reader_steps
            left[part] = max(0, steps - done)
            done = max(0, done - steps)
        return left

    def probe(self, run: Run) -> Pace:
        """Pace of a trainer, by the first steps of each of its networks."""
        steps = min(PROBE_STEPS, self.steps)
        print(f"timing {steps} steps of each network of {run.trainer} on {run.dataset}", flush=True)
        with tempfile.TemporaryDirectory() as results:
            environment = {**self.environment, "spinecls_results": results}
            words = ["train", run.dataset, CONFIGURATION, run.fold, "-tr", run.trainer, "--set", f"steps={steps}"]
            whole = spinecls(*words, environment=environment)
            (progress,) = Path(results).glob(f"*/*/fold_{run.fold}/progress.csv")
            rows = files.read_csv(progress)
        took: dict[str, list[float]] = defaultdict(list)
        for row, seconds in zip(rows, np.diff([0.0, *(float(row["seconds"]) for row in rows)]), strict=True):
            took[row["part"]].append(seconds)
        # The first two of a network allocate, and before the first of a reader vertebrae may be looked for.
        a_step = {part: float(np.mean(found[2:] or found)) for part, found in took.items()}
        return Pace(whole - sum(len(found) * a_step[part] for part, found in took.items()), a_step)


def link(path: Path, target: Path) -> None:
    """A link to a file or folder, unless it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.symlink_to(target.resolve())


def write_raw(
    target: Path,
    source: Path,
    rows: Sequence[Mapping[str, str]],
    maps: Sequence[Path],
    forms: Mapping[str, Mapping] | None = None,
) -> None:
    """A raw dataset with the images of another, its own table and maps, and no structures, unless it is there.

    Structures would tell class and place of lesions that the table is silent or wrong about.

    Parameters
    ----------
    rows : of vertebraeTr.csv, each with the same columns; none = there is no such file
    maps : files of labelsTr
    forms : content of annotationsTr.json
    """
    if (target / "dataset.json").exists():
        return
    link(target / "imagesTr", source / "imagesTr")
    for path in maps:
        link(target / "labelsTr" / path.name, path)
    if rows:
        files.write_csv(target / "vertebraeTr.csv", list(rows[0]), rows)
    if forms:
        files.write_json(target / "annotationsTr.json", forms)
    content = files.read_json(source / "dataset.json") | {"name": target.name}
    kept = {key: value for key, value in content.items() if key not in ("structures", "lesion_structures")}
    files.write_json(target / "dataset.json", kept)


def without_structures(source: Path, target: Path) -> None:
    """The same raw dataset without its structures."""
    table = source / "vertebraeTr.csv"
    rows = files.read_csv(table) if table.exists() else []
    forms = source / "annotationsTr.json"
    write_raw(target, source, rows, maps_of(source), files.read_json(forms) if forms.exists() else None)


def maps_of(folder: Path, cases: Sequence[str] | None = None) -> list[Path]:
    """Files of labelsTr of a raw dataset, of all cases or of some."""
    raw = load_dataset(folder, verify_voxels=False)
    return [
        path for case in raw.cases if cases is None or case.identifier in cases for path in case.vertebra_maps.values()
    ]
