"""The training loop. It knows steps, checkpoints and interruptions, and nothing about any task."""

from __future__ import annotations

import dataclasses
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from spinecls import files
from spinecls.dataloading.batch import Batch
from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.errors import Interrupted, ModelError, TrainerError, UsageError
from spinecls.networks.device import half_precision
from spinecls.planning.plan import Configuration, Plan
from spinecls.registry import Registry
from spinecls.tasks.balancing import TaskWeighting
from spinecls.tasks.base import WEIGHTING, Outputs, OwnPassTask, Task, WeightedTask, heads_of
from spinecls.tasks.checkpoint import ModelSpec, load_checkpoint, meaning_text, model_content, save_checkpoint
from spinecls.trainers.placement import PLACES, load_places, moments, predict_places, save_places, with_places
from spinecls.trainers.progress import GradientLog, Progress

logger = logging.getLogger(__name__)

TRAINERS: Registry[Trainer] = Registry("Trainer", "spinecls.trainers")

WARM_UP_STEPS = 30
GRADIENT_LIMIT = 12.0
BAD_STEPS_IN_A_ROW = 10
EPOCHS = 20
"""Rows of progress.csv and checkpoints of a run; more when an epoch would be longer than `LONGEST_EPOCH` steps."""
LONGEST_EPOCH = 50
PREDICTING = "checkpoint_final.pt"
SEGMENTATION = "vertebra_map"
"""Head that masks come from."""
GRADIENTS_EVERY = 100
"""Steps between two looks at whether auxiliary tasks pull with or against the main ones."""


@dataclass(frozen=True)
class RunSettings:
    """Everything of a run that the plan does not say."""

    folder: Path
    device: torch.device
    seed: int = 0
    workers: int = 0
    show_progress: bool = True


class Trainer(ABC):
    """One way to train: the tasks it lists, and how regions are made.

    A subclass says what is learnt by `build_tasks`; numbers are set in the plan or by `--set`, not by subclasses.

    Attributes
    ----------
    regions_from_masks : whether sealed crops are cut around masks (the network segments) or around ellipsoids
    learns_beliefs : whether the batches say what loose annotation tells of each voxel (`OpenBatch.beliefs`, `bags`) and
        who read what (`SealedBatch.readers`)
    seal : sealing level (`sealing.levels.SEALS`) of every model of this trainer; None = what the plan says
    final_name : file of the finished weights; only a `checkpoint_final.pt` is ever predicted with
    """

    regions_from_masks: bool = False
    learns_beliefs: bool = False
    seal: str | None = None
    final_name: str = PREDICTING

    @property
    def finds_vertebrae(self) -> bool:
        """Whether anything is learnt in the open pass, so that regions at prediction come from this network."""
        return any(not t.task.sealed and not t.task.own_pass for t in self.tasks)

    def __init__(self, plan: Plan, configuration: Configuration, settings: RunSettings) -> None:
        if self.seal not in (None, configuration.seal):
            raise UsageError(
                f"{type(self).__name__} trains with crops of level {self.seal}, the configuration says "
                f"{configuration.seal}. Leave the setting seal out, or use another trainer."
            )
        self.plan = plan
        self.configuration = configuration
        self.settings = settings
        listed = self.build_tasks()
        # All of them are looked at, whichever the user gives a weight.
        heads_of(listed)
        self.tasks = chosen_tasks(listed, configuration.task_weights)
        heads = heads_of(self.tasks)
        # Without a map there are no masks to cut by at prediction, whatever the trainer usually does.
        self.regions_from_masks = self.regions_from_masks and (SEGMENTATION in heads or not self.finds_vertebrae)
        self.spec = ModelSpec(
            configuration.network,
            len(plan.channel_names),
            len(plan.class_names),
            heads,
            configuration.pooling,
            plan.class_order,
        )
        torch.manual_seed(settings.seed)
        self.model = self.spec.build()
        for weighted in self.tasks:
            if (module := weighted.task.module()) is not None:
                if not isinstance(module, nn.Module):
                    raise TrainerError(f"Task {weighted.task.name!r}: module() gives {module!r}, expected a nn.Module.")
                self.model.auxiliary[weighted.task.name] = module
        self.weighting = TaskWeighting(self.tasks, configuration.task_weighting, configuration.task_weights)
        self.model.auxiliary[WEIGHTING] = self.weighting
        self.model.to(settings.device)
        for weighted in self.tasks:
            weighted.task.bind(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=configuration.learning_rate, weight_decay=1e-2, foreach=True
        )
        self.step = 0
        self.seconds_before = 0.0
        self.gradient_log = GradientLog(settings.folder / "task_weights.csv")
        self._stop_signal: int | None = None

    @classmethod
    def configured(cls, configuration: Configuration) -> Configuration:
        """The configuration that runs of this trainer go by, made from the plan's; what the user sets comes after."""
        return configuration if cls.seal is None else dataclasses.replace(configuration, seal=cls.seal)

    @abstractmethod
    def build_tasks(self) -> list[WeightedTask]:
        """Tasks with their weights."""

    @property
    def needs_images(self) -> bool:
        """Whether any task learns from images as such."""
        return any(t.task.needs_images for t in self.tasks)

    @property
    def needs_classes(self) -> bool:
        """Whether any task learns classes in the open pass."""
        return any(t.task.needs_classes for t in self.tasks)

    # -- files -------------------------------------------------------------------------------------------------

    @property
    def latest_path(self) -> Path:
        return self.settings.folder / "checkpoint_latest.pt"

    @property
    def previous_path(self) -> Path:
        return self.settings.folder / "checkpoint_previous.pt"

    @property
    def final_path(self) -> Path:
        return self.settings.folder / self.final_name

    # -- the loop ----------------------------------------------------------------------------------------------

    def fit(self, data: TrainingData) -> None:
        """Train from the current step to the plan's last one and write `checkpoint_final.pt`.

        Raises
        ------
        Interrupted
            After a checkpoint was written, when a signal asked to stop.
        ModelError
            When the loss stays not-a-number.
        """
        total = self.configuration.steps
        progress = Progress(self.settings.folder / "progress.csv", self.step)
        self.gradient_log = GradientLog(self.settings.folder / "task_weights.csv", self.step)
        epoch_steps = max(1, min(LONGEST_EPOCH, total // EPOCHS))
        started, bad_steps = time.monotonic(), 0
        places_at = moments(total) if data.unplaced and any(t.task.sealed for t in self.tasks) else []
        batches = self._batches(self._placed(data) if places_at and places_at[0] < self.step else data)
        self.model.train()
        bar = tqdm(total=total, initial=self.step, unit="step", disable=None if self.settings.show_progress else True)
        with bar, self._signals():
            while self.step < total:
                if self.step in places_at:
                    batches.close()
                    batches = self._batches(self._placed(data))
                rate = self.set_learning_rate()
                losses = self.train_step(next(batches))
                bad_steps = 0 if losses is not None else bad_steps + 1
                if bad_steps >= BAD_STEPS_IN_A_ROW:
                    raise ModelError(
                        f"step {self.step}: the loss was not a finite number {bad_steps} times in a row. Nothing of "
                        "this was saved. Look at the images of the last batches, or lower learning_rate by --set."
                    )
                self.step += 1
                progress.add(losses or {})
                bar.update()
                seconds = self.seconds_before + time.monotonic() - started
                if self.step % epoch_steps == 0 or self.step == total or self._stop_signal is not None:
                    row = progress.close_epoch(self.step, seconds, rate)
                    bar.set_postfix({k: v for k, v in row.items() if k not in ("step", "seconds", "learning_rate")})
                    self.gradient_log.write()
                    self.save_state(seconds)
                if self._stop_signal is not None:
                    self._leave()
        batches.close()
        self.save_final()

    def _batches(self, data: TrainingData) -> Iterator[Batch]:
        return training_batches(data, self.configuration, self.settings.seed, self.step, self.settings.workers)

    def _placed(self, data: TrainingData) -> TrainingData:
        """Data with crops of the vertebrae that have no position, at places predicted at the last moment for it."""
        moment = max(m for m in moments(self.configuration.steps) if m <= self.step)
        path = self.settings.folder / PLACES.format(moment)
        if not path.exists():
            found = predict_places(
                self.model,
                self.plan,
                self.configuration,
                data.unplaced,
                self.settings.device,
                self.settings.folder / "placement",
            )
            save_places(path, found)
        return with_places(data, load_places(path), self.plan, self.configuration, self.regions_from_masks)

    def train_step(self, batch: Batch) -> dict[str, float] | None:
        """One step of the optimiser; the losses, or None when one of them was not finite and the step was left out.

        The open and the sealed part run one after the other and add their gradients, so memory holds one at a time.
        """
        self.optimiser.zero_grad(set_to_none=True)
        for weighted in self.tasks:
            weighted.task.progress = self.step / self.configuration.steps
        losses: dict[str, float] = {}
        gradients: dict[str, torch.Tensor] | None = {} if self._looks_at_gradients(batch) else None
        moved = to_device(batch, self.settings.device)
        own = [partial(self._own_loss, t.task) for t in self.tasks if t.task.own_pass]
        for part in (self._open_losses, self._sealed_losses, *own):
            found = part(moved)
            if not found:
                continue
            if gradients is not None:
                gradients |= {name: self._shared_gradient(loss) for name, loss in found.items()}
            total = self.weighting.total(found)
            if not total.requires_grad:
                raise TrainerError(f"The losses of {', '.join(found)} have no gradient, so they teach nothing.")
            total.backward()
            losses |= {name: float(loss.detach()) for name, loss in found.items()}
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_LIMIT)
        if not bool(torch.isfinite(norm)):
            logger.warning("step %d left out: gradient not finite (cases %s)", self.step, ", ".join(batch.open.cases))
            return None
        if gradients is not None:
            self._note_gradients(self.weighting.record(gradients, self.step))
        self.optimiser.step()
        return losses

    def _open_losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        tasks = [t.task for t in self.tasks if not t.task.sealed and not t.task.own_pass]
        if not tasks:
            return {}
        with self._autocast():
            outputs = Outputs(open=self.model.open_pass(batch.open.image))
        return {task.name: loss_of(task, outputs, batch) for task in tasks}

    def _sealed_losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        tasks = [t.task for t in self.tasks if t.task.sealed]
        if not tasks or batch.sealed is None:
            return {}
        with self._autocast():
            logits, evidence = self.model.sealed_pass(batch.sealed.crops, batch.sealed.pooled)
        outputs = Outputs(logits=logits, evidence=evidence)
        return {task.name: loss_of(task, outputs, batch) for task in tasks}

    def _own_loss(self, task: OwnPassTask, batch: Batch) -> dict[str, torch.Tensor]:
        if self.step % task.every:
            return {}
        # Of the seed and the step alone, as the batch is, so that a resumed run goes on as an undisturbed one.
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        with self._autocast():
            outputs = Outputs(own=task.run(self.model, batch, generator))
        return {task.name: loss_of(task, outputs, batch)}

    # -- gradients of the tasks ----------------------------------------------------------------------------------

    def _looks_at_gradients(self, batch: Batch) -> bool:
        """In the steps that set the weights, and once in so many after, to see whether the tasks still agree.

        Without sealed crops, as long as no vertebra has a position and a class, a main task is silent; then not.
        """
        if batch.sealed is None and any(t.task.sealed and t.task.share is None for t in self.tasks):
            return False
        running = [t.task.name for t in self.tasks if self.step % t.task.every == 0]
        look = bool(self.weighting.names) and self.step % GRADIENTS_EVERY == 0
        return look or self.weighting.measures(self.step, running)

    def _shared_gradient(self, loss: torch.Tensor) -> torch.Tensor:
        """Flat gradient of a loss on the encoder, the part that every pass goes through."""
        shared = list(self.model.backbone.unet.encoder.parameters())
        found = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(shared, found, strict=True)]
        )

    def _note_gradients(self, found: dict[str, dict[str, float]]) -> None:
        for name, measured in found.items():
            self.gradient_log.add(self.step + 1, name, weight=self.weighting.weight(name), **measured)

    def _autocast(self):
        return torch.autocast(self.settings.device.type, torch.bfloat16, enabled=half_precision(self.settings.device))

    def set_learning_rate(self) -> float:
        """Polynomial decay of power 0.9 after a short warm-up (nnU-Net's schedule)."""
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        rate = self.configuration.learning_rate * warm * (1 - self.step / self.configuration.steps) ** 0.9
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save_state(self, seconds: float) -> None:
        """Write what resuming needs, keeping the state before it."""
        if self.latest_path.exists():
            self.latest_path.replace(self.previous_path)
        save_checkpoint(
            self.latest_path,
            {
                "step": self.step,
                "seconds": seconds,
                "weights": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "trainer": type(self).__name__,
                "seed": self.settings.seed,
            },
        )

    def resume(self) -> None:
        """Go back to the newest readable state of the run.

        Raises
        ------
        ModelError
            When there is none, or it belongs to another network.
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
            try:
                self.model.load_state_dict(state["weights"])
                self.optimiser.load_state_dict(state["optimiser"])
            except (RuntimeError, ValueError, KeyError) as error:
                raise ModelError(f"{path}: does not fit the plan's network ({error}). Train without --c.") from None
            if state["seed"] != self.settings.seed:
                raise ModelError(f"{path}: was started with --seed {state['seed']}. Continue it with the same.")
            self.step, self.seconds_before = int(state["step"]), float(state["seconds"])
            return
        detail = " ".join(faults) or "no checkpoint in it."
        raise ModelError(f"{self.settings.folder}: nothing to continue: {detail} Train without --c.")

    def save_final(self) -> None:
        """Write the model that predicts, without the heads that only training needed."""
        kept = {name for t in self.tasks if t.task.predicts for name in t.task.dense_heads()}
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
        for weighted in self.tasks:
            for name, found in weighted.task.report().items():
                files.write_json(self.settings.folder / name, found)

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
        told = f"Stopped at step {self.step} of {self.configuration.steps}; the state is saved. Go on with --c."
        raise KeyboardInterrupt(told) if self._stop_signal == signal.SIGINT else Interrupted(told)


def loss_of(task: Task, outputs: Outputs, batch: Batch) -> torch.Tensor:
    """Loss of a task.

    Raises
    ------
    TrainerError
        When it is anything but one number in a tensor.
    """
    found = task.loss(outputs, batch)
    if isinstance(found, torch.Tensor) and found.ndim == 0 and found.is_floating_point():
        return found
    got = f"a tensor of shape {tuple(found.shape)}, {found.dtype}" if isinstance(found, torch.Tensor) else repr(found)
    raise TrainerError(
        f"Task {task.name!r} ({type(task).__name__}): its loss is {got}, expected one number in a floating tensor of "
        "shape ()."
    )


def chosen_tasks(tasks: list[WeightedTask], weights: Mapping[str, float]) -> list[WeightedTask]:
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


def to_device(part, device: torch.device):
    """The same batch, or part of one, with all its tensors on a device."""
    if isinstance(part, torch.Tensor):
        return part.to(device, non_blocking=True)
    if isinstance(part, Mapping):
        return {name: to_device(value, device) for name, value in part.items()}
    if dataclasses.is_dataclass(part):
        return dataclasses.replace(part, **{name: to_device(value, device) for name, value in vars(part).items()})
    return part
