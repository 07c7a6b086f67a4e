"""The training of a model: its networks one after the other, checkpoints and interruptions; nothing about any task."""

from __future__ import annotations

import dataclasses
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from spinecls import files
from spinecls.dataloading.batch import Batch
from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.errors import DatasetError, Interrupted, ModelError, UsageError
from spinecls.model_folder import FINAL, FoldFolder
from spinecls.networks.model import FINDER
from spinecls.planning.plan import Configuration, Plan
from spinecls.registry import Registry
from spinecls.tasks.checkpoint import (
    ModelSpec,
    load_checkpoint,
    meaning_text,
    model_content,
    save_checkpoint,
    seeded,
)
from spinecls.tasks.task import ImageTask, OwnPassTask, WeightedTask, heads_of
from spinecls.trainers.finders import finder_key, finder_path, store_finder, take_finder
from spinecls.trainers.network_training import Part
from spinecls.trainers.placement import PLACES, load_places, predict_places, save_places, with_places
from spinecls.trainers.progress import GradientLog, Idle, Progress

logger = logging.getLogger(__name__)

TRAINERS: Registry[Trainer] = Registry("Trainer", "spinecls.trainers")

BAD_STEPS_IN_A_ROW = 10
EPOCHS = 20
"""Rows of progress.csv and checkpoints of a network; more when an epoch would be longer than `LONGEST_EPOCH` steps."""
LONGEST_EPOCH = 50
PREDICTING = FINAL
READER = "reader"
SEGMENTATION = "vertebra_map"
"""Head that masks come from."""


@dataclass(frozen=True)
class RunSettings:
    """Everything of a run that the plan does not say.

    `finders` is the folder of finders that are trained already (`trainers.finders`), None = none is taken or kept;
    `only` is the kind of network that is trained, `FINDER` or `READER`, None = both.
    """

    folder: Path
    device: torch.device
    seed: int = 0
    workers: int = 0
    show_progress: bool = True
    finders: Path | None = None
    only: str | None = None


class Trainer(ABC):
    """One way to train: the tasks it lists, and how regions are made.

    A subclass says what is learnt by `build_tasks`; numbers are set in the plan or by `--set`, not by subclasses. Tasks
    of the open pass train the finder; those of the sealed pass, each for itself, the readers after it.

    Attributes
    ----------
    regions_from_masks : whether sealed crops are cut around masks (the network segments) or around ellipsoids
    learns_beliefs : whether cases say what loose annotation tells of each voxel (`TrainingCase.compiled`), and labels
        of crops who read what
    seal : sealing level (`sealing.sealing_levels.SEALS`) of every model of this trainer; None = what the plan says
    final_name : file of the finished weights; only a `checkpoint_final.pt` is ever predicted with
    """

    regions_from_masks: bool = False
    learns_beliefs: bool = False
    seal: str | None = None
    final_name: str = PREDICTING

    def __init__(self, plan: Plan, configuration: Configuration, settings: RunSettings) -> None:
        if self.seal not in (None, configuration.seal):
            raise UsageError(
                f"{type(self).__name__} trains with crops of level {self.seal}, the configuration says "
                f"{configuration.seal}. Leave the setting seal out, or use another trainer."
            )
        self.plan = plan
        self.configuration = configuration
        self.settings = settings
        self.tasks = self._listed_tasks()
        open_heads = heads_of([t for t in self.tasks if not t.task.sealed])
        # Without a map there are no masks to cut by at prediction, whatever the trainer usually does.
        self.regions_from_masks = self.regions_from_masks and (SEGMENTATION in open_heads or not self.finds_vertebrae)
        self.spec = ModelSpec(
            network=configuration.network,
            reader=configuration.reader_network,
            # Readers that nothing trains would classify by chance.
            members=configuration.members if any(t.task.sealed for t in self.tasks) else 0,
            image_channels=len(plan.channel_names),
            num_classes=len(plan.class_names),
            dense_heads=open_heads,
            reader_heads=heads_of([t for t in self.tasks if t.task.sealed]),
            pooling=configuration.pooling,
            ordinal=plan.class_order,
        )
        self.model = self.spec.build(settings.seed).to(settings.device)
        self.parts = self._made_parts()
        self.finder_path: Path | None = None
        self.step = 0
        self.seconds_before = 0.0
        self.gradient_log = GradientLog(settings.folder / "task_weights.csv")
        self._stop_signal: int | None = None

    def _listed_tasks(self) -> list[WeightedTask]:
        """Tasks that have a weight, made anew."""
        listed = self.build_tasks()
        # All of them are looked at, whichever the user gives a weight.
        heads_of(listed)
        return _chosen_tasks(listed, self.configuration.task_weights)

    def _made_parts(self) -> list[Part]:
        """Networks that there is something to train in, each with tasks of its own."""
        parts: list[Part] = []
        networks = list(self.model.parts())
        # The streams before are those of the networks' own weights.
        for stream, (name, network) in enumerate(networks, start=len(networks)):
            sealed = network is not self.model.finder
            with seeded(self.settings.seed, stream):
                tasks = [t for t in self._listed_tasks() if t.task.sealed == sealed]
                if tasks:
                    parts.append(Part(name, network, tasks, self.configuration, parts[-1].end if parts else 0))
        return parts

    @classmethod
    def configured(cls, configuration: Configuration) -> Configuration:
        """The configuration that runs of this trainer go by, made from the plan's; what the user sets comes after."""
        return configuration if cls.seal is None else dataclasses.replace(configuration, seal=cls.seal)

    @abstractmethod
    def build_tasks(self) -> list[WeightedTask]:
        """Tasks with their weights; called once for each network, so tasks share nothing."""
        return []

    @property
    def finds_vertebrae(self) -> bool:
        """Whether anything is learnt in the open pass, so that regions at prediction come from this model."""
        return any(not t.task.sealed and not isinstance(t.task, OwnPassTask) for t in self.tasks)

    @property
    def needs_images(self) -> bool:
        """Whether any task learns from images as such."""
        return any(isinstance(t.task, ImageTask) for t in self.tasks)

    @property
    def total_steps(self) -> int:
        """Steps of the run, all networks together."""
        return self.parts[-1].end if self.parts else 0

    # -- files -------------------------------------------------------------------------------------------------

    @property
    def latest_path(self) -> Path:
        return FoldFolder(self.settings.folder).states[0]

    @property
    def previous_path(self) -> Path:
        return FoldFolder(self.settings.folder).states[1]

    @property
    def final_path(self) -> Path:
        return self.settings.folder / self.final_name

    # -- the loop ----------------------------------------------------------------------------------------------

    def fit(self, data: TrainingData) -> None:
        """Train from the current step to the last one, network by network, and write `checkpoint_final.pt`.

        Without the readers there is no final checkpoint.

        Raises
        ------
        Interrupted
            After a checkpoint was written, when a signal asked to stop.
        ModelError
            When the loss stays not-a-number.
        DatasetError
            When classes are to be learnt and no vertebra with a class has a place.
        """
        total = self.total_steps
        self._progress = Progress(self.settings.folder / "progress.csv", self.step)
        self.gradient_log = GradientLog(self.settings.folder / "task_weights.csv", self.step)
        self._started = time.monotonic()
        bar = tqdm(total=total, initial=self.step, unit="step", disable=None if self.settings.show_progress else True)
        with bar, self._signals():
            for part in self.parts:
                if part.reads and self.settings.only == FINDER:
                    return
                if self.step < part.end:
                    self._fit_part(part, self._placed(data) if part.reads else data, bar)
                if self.finder_path is not None and not part.reads and not self.finder_path.exists():
                    store_finder(self.finder_path, self.model.finder)
        self.save_final()

    def take_trained_finder(self, data: TrainingData) -> bool:
        """Begin with the finder of an earlier training of the same data, where there is one; whether there was.

        From then on `finder_path` says where the finder of this training is, or is to be, kept.

        Raises
        ------
        UsageError
            When only readers are to be trained and there is no finder.
        """
        part = self.parts[0] if self.parts else None
        if part is None or part.reads:
            return False
        folder = self.settings.finders
        if folder is not None and (key := finder_key(part, self.plan, self.configuration, data, self.settings.seed)):
            self.finder_path = finder_path(folder, key)
        if self.step == 0 and self.finder_path is not None and self.finder_path.exists():
            take_finder(self.finder_path, self.model.finder)
            self.step = part.end
            logger.info("The finder is trained already: %s.", self.finder_path)
            return True
        if self.settings.only == READER and self.step < part.end:
            raise UsageError(
                f"--part reader: the finder of this training is not there ({self.finder_path or 'none is kept'}). "
                "Train it by --part finder with the same trainer, plan, fold, seed and settings, or leave --part out."
            )
        return False

    def _fit_part(self, part: Part, data: TrainingData, bar: tqdm) -> None:
        if not part.begun:
            part.begin()
        epoch_steps = max(1, min(LONGEST_EPOCH, part.steps // EPOCHS))
        idle = Idle(part.name, [t.task.name for t in part.tasks if t.task.share is not None], part.steps)
        batches = self._batches(part, data)
        bad_steps = 0
        bar.set_description(part.name)
        while self.step < part.end:
            rate = part.set_learning_rate(self.step)
            losses = part.train_step(next(batches), self.step, self.settings.seed, self.gradient_log)
            bad_steps = 0 if losses is not None else bad_steps + 1
            if bad_steps >= BAD_STEPS_IN_A_ROW:
                raise ModelError(
                    f"step {self.step} ({part.name}): the loss was not a finite number {bad_steps} times in a row. "
                    "Nothing of this was saved. Look at the images of the last batches, or lower learning_rate "
                    "(reader_learning_rate) by --set."
                )
            self.step += 1
            self._progress.add(losses or {})
            bar.update()
            done = self.step - part.first_step
            if done % epoch_steps == 0 or self.step == part.end or self._stop_signal is not None:
                seconds = self.seconds_before + time.monotonic() - self._started
                row = self._progress.close_epoch(part.name, self.step, seconds, rate)
                idle.look(done, row)
                bar.set_postfix({k: v for k, v in row.items() if k in losses} if losses else {})
                self.gradient_log.write()
                self.save_state(part, seconds)
            if self._stop_signal is not None:
                self._leave()
        batches.close()
        part.finish()

    def _batches(self, part: Part, data: TrainingData) -> Generator[Batch, None, None]:
        tasks, settings = [t.task for t in part.tasks], self.settings
        return training_batches(data, self.configuration, tasks, part.reads, settings.seed, self.step, settings.workers)

    def _placed(self, data: TrainingData) -> TrainingData:
        """Data with crops also of the vertebrae that have no position, at places where the finder sees them."""
        if data.unplaced:
            path = self.settings.folder / PLACES
            if not path.exists():
                places = predict_places(
                    self.model,
                    self.plan,
                    self.configuration,
                    data.unplaced,
                    self.settings.device,
                    self.settings.folder / "placement",
                )
                save_places(path, places)
            data = with_places(data, load_places(path), self.plan, self.configuration, self.regions_from_masks)
        if not data.sealed:
            raise DatasetError(
                "No vertebra with a class has a position, and none was found where the finder looked, so there is "
                "nothing to learn classes from. Give positions (or outlines) for some more cases."
            )
        return data

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save_state(self, part: Part, seconds: float) -> None:
        """Write what resuming needs, keeping the state before it."""
        if self.latest_path.exists():
            self.latest_path.replace(self.previous_path)
        save_checkpoint(
            self.latest_path,
            {
                "step": self.step,
                "seconds": seconds,
                "weights": self.model.state_dict(),
                "part": part.name,
                "optimiser": part.optimiser.state_dict(),
                "trainer": type(self).__name__,
                "seed": self.settings.seed,
            },
        )

    def resume(self) -> None:
        """Go back to the newest readable state of the run.

        Raises
        ------
        ModelError
            When there is none, or it belongs to other networks.
        """
        files.remove_temporaries(self.settings.folder)
        faults = []
        for path in (self.latest_path, self.previous_path):
            if not path.exists():
                continue
            try:
                state = load_checkpoint(path, self.settings.device)
            except ModelError as error:
                faults.append(str(error))
                logger.warning("%s Trying the state before it.", error)
                continue
            if "part" not in state:
                raise ModelError(f"{path}: of an earlier version, in which one network did all. Train without --c.")
            try:
                self.model.load_state_dict(state["weights"])
                part = next(part for part in self.parts if part.name == state["part"])
                if state["step"] < part.end:
                    part.begin()
                    part.optimiser.load_state_dict(state["optimiser"])
            except (RuntimeError, ValueError, KeyError, StopIteration) as error:
                raise ModelError(f"{path}: does not fit the plan's networks ({error}). Train without --c.") from None
            if state["seed"] != self.settings.seed:
                raise ModelError(f"{path}: was started with --seed {state['seed']}. Continue it with the same.")
            self.step, self.seconds_before = int(state["step"]), float(state["seconds"])
            return
        detail = " ".join(faults) or "no checkpoint in it."
        raise ModelError(f"{self.settings.folder}: nothing to continue: {detail} Train without --c.")

    def save_final(self) -> None:
        """Write the model that predicts, without the heads that only training needed."""
        kept = {name for t in self.tasks if t.task.predicts and not t.task.sealed for name in t.task.dense_heads()}
        content = model_content(
            self.model,
            self.spec,
            kept,
            trainer=type(self).__name__,
            steps=self.step,
            seed=self.settings.seed,
            seal=self.configuration.seal,
            meaning=meaning_text(self.plan, self.configuration),
        )
        save_checkpoint(self.final_path, content)
        for part in self.parts:
            for weighted in part.tasks:
                for name, report in weighted.task.report().items():
                    path = self.settings.folder / name
                    # What further readers found stands beside what the first one did.
                    later = part.reads and part.name != "reader_0"
                    files.write_json(path.with_stem(f"{path.stem}_{part.name}") if later else path, report)

    # -- signals -----------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Finish the step and save when asked to stop; a second signal stops at once."""
        wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]

        def note(number: int, frame: object) -> None:
            if self._stop_signal is not None:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            self._stop_signal = number

        try:
            before = {number: signal.signal(number, note) for number in wanted}
        except ValueError:
            # Only the main thread may set handlers; in another one signals are its owner's business.
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _leave(self) -> None:
        told = f"Stopped at step {self.step} of {self.total_steps}; the state is saved. Go on with --c."
        raise KeyboardInterrupt(told) if self._stop_signal == signal.SIGINT else Interrupted(told)


def _chosen_tasks(tasks: list[WeightedTask], weights: Mapping[str, float]) -> list[WeightedTask]:
    """Tasks without those that have no weight, by the user's word or, where he says nothing, the trainer's.

    Raises
    ------
    UsageError
        When the user weights a task that the trainer does not have.
    """
    names = [t.task.name for t in tasks]
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise UsageError(f"--set task_weights.{unknown[0]}: the trainer's tasks are {', '.join(names)}.")
    return [t for t in tasks if weights.get(t.task.name, t.weight) > 0]
