"""What every command shares: how errors become messages and exit codes, logging, and the run of one command."""

from __future__ import annotations

import errno
import functools
import logging
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from spinecls import __version__
from spinecls.cli.arguments import expand_values
from spinecls.errors import SpineclsError, UsageError
from spinecls.hard_cases import OUT_OF_MEMORY, is_out_of_memory

Dataset = Annotated[str, typer.Argument(help="Dataset: number, full name or path.", show_default=False)]
Datasets = Annotated[list[str], typer.Option("-d", help="Datasets: numbers, full names or paths.", show_default=False)]
Plans = Annotated[str, typer.Option("-p", help="Name of the plans.")]
Device = Annotated[
    str | None, typer.Option("-device", help="cpu, cuda, cuda:1 or mps [default: a GPU if there is one].")
]
Processes = Annotated[int, typer.Option("-np", min=1, help="Number of processes.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override planned numbers: key=value, several allowed.")
]

ModelDataset = Annotated[str | None, typer.Option("-d", help="Dataset that the model was trained on.")]
ModelConfiguration = Annotated[str | None, typer.Option("-c", help="Configuration.")]
ModelTrainer = Annotated[str | None, typer.Option("-tr", help="Name of the trainer.")]
ModelPlans = Annotated[str | None, typer.Option("-p", help="Name of the plans.")]
ModelFolds = Annotated[list[str] | None, typer.Option("-f", help="Folds [default: every finished one].")]
ModelFolder = Annotated[Path | None, typer.Option("-m", help="Model folder, instead of -d -c -tr -p.")]

ENVIRONMENT_FAULTS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)
WRONG_PATHS = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one message and the exit code of the contract."""

    @functools.wraps(function)
    def run(*arguments, **options) -> None:
        _set_up_logging()
        try:
            function(*arguments, **options)
        except SpineclsError as error:
            _leave(str(error), error.exit_code)
        except KeyboardInterrupt as stopped:
            # Training says where it stopped and how to go on.
            _leave(str(stopped) or "Stopped by Ctrl-C.", 130)
        except BrokenPipeError:
            # The reader of our output is gone (`| head`); nothing is left to tell it.
            sys.stderr.close()
            raise typer.Exit(0) from None
        except OSError as error:
            if error.errno in ENVIRONMENT_FAULTS:
                _leave(f"{error.strerror}: {error.filename or 'output'}. Free space or permissions, then run again.", 4)
            if error.errno in WRONG_PATHS:
                _leave(f"{error.strerror}: {error.filename}.", 2)
            _defect(error)
        except Exception as error:
            # The last resort: what is not exhausted memory is a defect of ours.
            if is_out_of_memory(error):
                _leave(OUT_OF_MEMORY, 4)
            _defect(error)

    return run


def _leave(message: str, code: int) -> None:
    print(f"Error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def _defect(error: Exception) -> None:
    traceback.print_exception(error)
    print(
        f"Error: a defect in spinecls {__version__} ({type(error).__name__}). Please report it with the lines above.",
        file=sys.stderr,
    )
    raise typer.Exit(1)


def _set_up_logging() -> None:
    logger = logging.getLogger("spinecls")
    # Anew for each command: the standard error of an earlier one in this process may be closed.
    logger.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def parse_settings(settings: Sequence[str] | None) -> dict[str, str]:
    """`key=value` words as a dictionary."""
    parsed = {}
    for word in settings or ():
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {word}: expected key=value.")
        parsed[key.strip()] = value.strip()
    return parsed


def command_app(function: Callable[..., None], name: str) -> typer.Typer:
    """Application with one command."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(name)(guarded(function))
    return app


def run_command(
    function: Callable[..., None],
    name: str,
    several: Collection[str],
    numeric: Collection[str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line and run one command; leaves through SystemExit with the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "--version" in words:
        print(f"spinecls {__version__}")
        raise SystemExit(0)
    command_app(function, name)(args=expand_values(words, several, numeric), prog_name=name)
