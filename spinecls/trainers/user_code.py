"""Errors in a trainer that a user wrote are told as such, with their place, and not as defects of ours."""

from __future__ import annotations

import contextlib
import errno
import inspect
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import spinecls
from spinecls.errors import SpineclsError, TrainerError
from spinecls.hard_cases import is_out_of_memory

PACKAGE = Path(spinecls.__file__).parent
LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextlib.contextmanager
def told_as_the_users(trainer_class: type) -> Iterator[None]:
    """Turn what a user's own trainer raises into a `TrainerError` with its file, line and traceback.

    It is the user's where the trainer is, and a line is involved that belongs neither to spinecls nor to a library,
    unless the library is where the trainer comes from.

    Raises
    ------
    TrainerError
        For such an error; any other one passes.
    """
    try:
        yield
    except SpineclsError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = _own_files(trainer_class)
        theirs = [number for number, frame in enumerate(frames) if _is_users(frame.filename, own)]
        if not _own_classes(trainer_class) or not theirs:
            raise
        first, last = theirs[0], frames[theirs[-1]]
        lines = [*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)]
        raise TrainerError(
            f"{trainer_class.__name__}: an error in your own trainer, in {last.filename}, line {last.lineno}, in "
            f"{last.name}, not in spinecls:\n{''.join(lines)}Correct it; spinecls.testing.checks.check_trainer finds "
            "more of the kind."
        ) from error


def made_trainer(trainer_class: type, *arguments: object):
    """Trainer of a class, called as every one is.

    Raises
    ------
    TrainerError
        When the class cannot be called so.
    """
    try:
        return trainer_class(*arguments)
    except TypeError as error:
        # Raised by the call itself, not in anything that it runs.
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
        raise TrainerError(
            f"{trainer_class.__name__} ({_source_of(trainer_class)}): cannot be made from plan, configuration and "
            f"settings: {error}. Leave __init__ out, or give it these three and call that of Trainer."
        ) from error


def _source_of(kind: type) -> str:
    """Where a class is written: file and line, as far as Python knows."""
    try:
        return f"{inspect.getfile(kind)}, line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return f"module {kind.__module__}"


def _own_classes(trainer_class: type) -> list[type]:
    """Classes of a trainer that are not ours."""
    ours = ("spinecls", "builtins", "abc")
    return [kind for kind in trainer_class.__mro__ if kind.__module__.split(".")[0] not in ours]


def _own_files(trainer_class: type) -> set[str]:
    """Files of those classes, wherever they are installed."""
    source_files = set()
    for kind in _own_classes(trainer_class):
        with contextlib.suppress(OSError, TypeError):
            source_files.add(inspect.getfile(kind))
    return source_files


def _is_users(filename: str, own: set[str]) -> bool:
    if filename in own:
        return True
    path = Path(filename)
    # Libraries that are not written in Python give their lines names such as <frozen importlib>.
    return not filename.startswith("<") and not any(path.is_relative_to(folder) for folder in (PACKAGE, *LIBRARIES))
