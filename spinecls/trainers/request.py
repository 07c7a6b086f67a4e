"""What is asked of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from spinecls import paths
from spinecls.model_folder import FoldFolder


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asked for.

    `pretrained` is a checkpoint to start with; `cases` train instead of all of the fold's training cases, and `folder`
    takes the place of the fold's own, both for comparisons. `refine` trains on labels refined by an earlier round
    (`trainers.second_round`). `part` is the kind of network that is trained, `finder` or `reader`; None = both.
    """

    dataset: str
    configuration: str
    fold: str
    trainer: str = "BaselineTrainer"
    plans: str = paths.DEFAULT_PLANS
    resume: bool = False
    validate_only: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    workers: int = 0
    overrides: Mapping[str, str] = field(default_factory=dict)
    pretrained: Path | None = None
    cases: tuple[str, ...] | None = None
    folder: FoldFolder | None = None
    refine: bool = False
    part: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it is of a run that was begun: to continue it, or to validate what it came to."""
        return self.resume or self.validate_only
