"""The training of one network of a model: its tasks, their weights, its optimiser and a step of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from spinecls.dataloading.batch import Batch, OpenBatch, SealedBatch
from spinecls.errors import TrainerError
from spinecls.networks.device import half_precision
from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader
from spinecls.planning.plan import Configuration
from spinecls.tasks.balancing import TaskWeighting
from spinecls.tasks.task import WEIGHTING, CropOutputs, OpenOutputs, OwnOutputs, OwnPassTask, Task, WeightedTask
from spinecls.trainers.progress import GradientLog
from spinecls.trainers.schedule import one_cycle

logger = logging.getLogger(__name__)

GRADIENT_LIMIT = 12.0
GRADIENTS_EVERY = 100
"""Steps between two looks at whether auxiliary tasks pull with or against the main ones."""


class Part:
    """A network that is trained by itself: the finder, or one of the readers.

    Parameters
    ----------
    name : as in `SpineModel.parts`
    network : on its device
    tasks : of this network alone
    first_step : step of the whole run at which its training begins
    """

    def __init__(
        self,
        name: str,
        network: Finder | Reader,
        tasks: Sequence[WeightedTask],
        configuration: Configuration,
        first_step: int,
    ) -> None:
        self.name = name
        self.network = network
        self.tasks = tasks
        self.reads = isinstance(network, Reader)
        self.first_step = first_step
        self.steps = configuration.reader_steps if self.reads else configuration.steps
        self.highest_rate = configuration.reader_learning_rate if self.reads else configuration.learning_rate
        self.weighting = TaskWeighting(tasks, configuration.task_weighting, configuration.task_weights)
        self.device = next(network.parameters()).device
        for weighted in tasks:
            if (module := weighted.task.module()) is not None:
                if not isinstance(module, nn.Module):
                    raise TrainerError(f"Task {weighted.task.name!r}: module() gives {module!r}, expected a nn.Module.")
                if {id(p) for p in module.parameters()} & {id(p) for p in network.parameters()}:
                    raise TrainerError(
                        f"Task {weighted.task.name!r}: module() gives weights that the {name} has already. Make them "
                        "in module(), anew each time; another task may read network.auxiliary in bind()."
                    )
                network.auxiliary[weighted.task.name] = module.to(self.device)
        network.auxiliary[WEIGHTING] = self.weighting.to(self.device)
        for weighted in tasks:
            weighted.task.bind(network)
        self._optimiser: torch.optim.Optimizer | None = None

    @property
    def end(self) -> int:
        """Step of the whole run at which its training is finished."""
        return self.first_step + self.steps

    @property
    def begun(self) -> bool:
        """Whether it is being trained, between `begin` and `finish`."""
        return self._optimiser is not None

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The optimiser, while it is being trained."""
        if self._optimiser is None:
            raise RuntimeError(f"The {self.name} has no optimiser before begin() and after finish(). Call begin().")
        return self._optimiser

    def begin(self) -> None:
        """Make the optimiser; the moments of a network that is trained already, or not yet, would only fill memory."""
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.highest_rate, weight_decay=1e-2, foreach=True
        )
        self.network.train()

    def finish(self) -> None:
        """Give the optimiser's memory back."""
        self._optimiser = None
        self.network.zero_grad(set_to_none=True)
        self.network.eval()

    def set_learning_rate(self, step: int) -> float:
        """Rate of a step, counted over the whole run."""
        rate = self.highest_rate * one_cycle(step - self.first_step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def train_step(self, batch: Batch, step: int, seed: int, log: GradientLog) -> dict[str, float] | None:
        """One step of the optimiser; the losses, or None when one of them was not finite and the step was left out.

        Passes run one after the other and add their gradients, so memory holds one at a time.

        Parameters
        ----------
        step : counted over the whole run
        seed : of the run
        """
        self.optimiser.zero_grad(set_to_none=True)
        own_step = step - self.first_step
        for weighted in self.tasks:
            weighted.task.progress = own_step / self.steps
        losses: dict[str, float] = {}
        gradients: dict[str, torch.Tensor] | None = {} if self._looks_at_gradients(own_step) else None
        moved = to_device(batch, self.device)
        own = [t.task for t in self.tasks if isinstance(t.task, OwnPassTask) and own_step % t.task.every == 0]
        passes: list[Callable[[Batch], dict[str, torch.Tensor]]] = [self._shared_losses]
        passes += [partial(self._own_loss, task, step, seed) for task in own]
        for losses_of in passes:
            pass_losses = losses_of(moved)
            if not pass_losses:
                continue
            if gradients is not None:
                gradients |= {name: self._shared_gradient(loss) for name, loss in pass_losses.items()}
            total = self.weighting.total(pass_losses)
            if not total.requires_grad:
                raise TrainerError(f"The losses of {', '.join(pass_losses)} have no gradient, so they teach nothing.")
            total.backward()
            losses |= {name: float(loss.detach()) for name, loss in pass_losses.items()}
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        if not bool(torch.isfinite(norm)):
            logger.warning("step %d left out: gradient not finite (cases %s)", step, ", ".join(batch.cases))
            return None
        if gradients is not None:
            for name, measured in self.weighting.record(gradients, own_step).items():
                log.add(step + 1, name, part=self.name, weight=self.weighting.weight(name), **measured)
        self.optimiser.step()
        return losses

    def outputs(self, batch: Batch) -> OpenOutputs | CropOutputs:
        """What the network gives for a batch."""
        match self.network, batch:
            case Finder() as finder, OpenBatch():
                return OpenOutputs(finder.open_pass(batch.image))
            case Reader() as reader, SealedBatch():
                return CropOutputs(*reader.taught_pass(batch.crops, batch.pooled))
        expected = "SealedBatch" if self.reads else "OpenBatch"
        raise TypeError(f"The {self.name} was given a {type(batch).__name__}, expected a {expected}.")

    def own_outputs(self, task: OwnPassTask, batch: Batch, generator: torch.Generator) -> OwnOutputs:
        """What a task with a pass of its own makes of a batch."""
        return OwnOutputs(task.run(self.network, batch, generator))

    def _shared_losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        tasks = [t.task for t in self.tasks if not isinstance(t.task, OwnPassTask)]
        if not tasks:
            return {}
        with self._autocast():
            outputs = self.outputs(batch)
        return {task.name: loss_of(task, outputs, batch) for task in tasks}

    def _own_loss(self, task: OwnPassTask, step: int, seed: int, batch: Batch) -> dict[str, torch.Tensor]:
        # Of the seed and the step alone, as the batch is, so that a resumed run goes on as an undisturbed one.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with self._autocast():
            outputs = self.own_outputs(task, batch, generator)
        return {task.name: loss_of(task, outputs, batch)}

    def _looks_at_gradients(self, own_step: int) -> bool:
        """In the steps that set the weights, and once in so many after, to see whether the tasks still agree."""
        running = [t.task.name for t in self.tasks if own_step % t.task.every == 0]
        look = bool(self.weighting.names) and own_step % GRADIENTS_EVERY == 0
        return look or self.weighting.measures(own_step, running)

    def _shared_gradient(self, loss: torch.Tensor) -> torch.Tensor:
        """Flat gradient of a loss on the encoder, the part that every pass goes through."""
        shared = list(self.network.backbone.unet.encoder.parameters())
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(shared, gradients, strict=True)]
        )

    def _autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half_precision(self.device))


def loss_of(task: Task, outputs: OpenOutputs | CropOutputs | OwnOutputs, batch: Batch) -> torch.Tensor:
    """Loss of a task.

    Raises
    ------
    TrainerError
        When it is anything but one number in a tensor.
    """
    loss = task.loss(outputs, batch)
    if isinstance(loss, torch.Tensor) and loss.ndim == 0 and loss.is_floating_point():
        return loss
    got = f"a tensor of shape {tuple(loss.shape)}, {loss.dtype}" if isinstance(loss, torch.Tensor) else repr(loss)
    raise TrainerError(
        f"Task {task.name!r} ({type(task).__name__}): its loss is {got}, expected one number in a floating tensor of "
        "shape ()."
    )


def to_device(part, device: torch.device):
    """The same batch, or part of one, with all its tensors on a device."""
    if isinstance(part, torch.Tensor):
        return part.to(device, non_blocking=True)
    if isinstance(part, Mapping):
        return {name: to_device(value, device) for name, value in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return dataclasses.replace(part, **{name: to_device(value, device) for name, value in vars(part).items()})
    return part
