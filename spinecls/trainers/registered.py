"""All trainers that there are by name."""

from __future__ import annotations

from spinecls.errors import UsageError
from spinecls.trainers import auxiliary, baseline, open_baseline, uncertain  # noqa: F401 - they register themselves
from spinecls.trainers.trainer import TRAINERS, Trainer

__all__ = ["TRAINERS", "find_trainer"]


def find_trainer(name: str) -> type[Trainer]:
    """Trainer class of a name, `file.py:Class` or `module:Class`."""
    trainer_class = TRAINERS.find(name)
    if not (isinstance(trainer_class, type) and issubclass(trainer_class, Trainer)):
        raise UsageError(f"{name}: not a subclass of spinecls.trainers.trainer.Trainer.")
    if lacking := sorted(getattr(trainer_class, "__abstractmethods__", ())):
        raise UsageError(f"{name}: lacks {', '.join(lacking)}(), which every trainer must have.")
    return trainer_class
