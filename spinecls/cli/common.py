"""What every command shares: how errors become messages and exit codes, logging, and the run of one command."""

from __future__ import annotations

import errno
import functools
import logging
import re
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from spinecls import __version__
from spinecls.cli.arguments import NUMBER, WHOLE, Options, checked_words, expand_values
from spinecls.cli.terminal import PrintableFormatter, printable, reading_may_stop
from spinecls.errors import Interrupted, SpineclsError, UsageError, nearest
from spinecls.hard_cases import OUT_OF_MEMORY, is_out_of_memory

DEVICES = ("cpu", "cuda", "cuda:1", "mps")
MOST_PROCESSES = 256
LARGEST_SEED = 2**32 - 1
"""What every generator of random numbers takes."""

Dataset = Annotated[str, typer.Argument(help="Dataset: number, full name or path.", show_default=False)]
Datasets = Annotated[list[str], typer.Option("-d", help="Datasets: numbers, full names or paths.", show_default=False)]
Plans = Annotated[str, typer.Option("-p", help="Name of the plans.")]


def device_name(text: str) -> str:
    """Name of a device; whether the machine has it is seen when it is used."""
    name = text.lower()
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        hint = " Did you mean cuda?" if name.startswith("gpu") else nearest(name, DEVICES)
        raise typer.BadParameter(f"{text!r} is not a device.{hint} Write one of {', '.join(DEVICES)}.")
    return name


Device = Annotated[
    str | None,
    typer.Option(
        "-device",
        parser=device_name,
        metavar="DEVICE",
        help="cpu, cuda, cuda:1 or mps [default: a GPU if there is one].",
    ),
]
Processes = Annotated[int, typer.Option("-np", min=1, max=MOST_PROCESSES, help="Number of processes.")]
BatchProcesses = Annotated[
    int | None,
    typer.Option("-np", min=0, max=MOST_PROCESSES, help="Processes that make batches [default: 0, beside a GPU 4]."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override planned numbers: key=value, several allowed.")
]

ModelDataset = Annotated[str | None, typer.Option("-d", help="Dataset that the model was trained on.")]
ModelConfiguration = Annotated[str | None, typer.Option("-c", help="Configuration.")]
ModelTrainer = Annotated[str | None, typer.Option("-tr", help="Name of the trainer.")]
ModelPlans = Annotated[str | None, typer.Option("-p", help="Name of the plans.")]
ModelFolds = Annotated[list[str] | None, typer.Option("-f", help="Folds [default: every finished one].")]
ModelFolder = Annotated[Path | None, typer.Option("-m", help="Model folder, instead of -d -c -tr -p.")]

HELP = ("-h", "--help")
VERSION = ("-V", "--version")
ENVIRONMENT_FAULTS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)
WRONG_PATHS = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one message and the exit code of the contract."""

    @functools.wraps(function)
    def run(*arguments, **options) -> None:
        with reading_may_stop():
            _set_up_logging()
            _run(*arguments, **options)

    def _run(*arguments, **options) -> None:
        try:
            function(*arguments, **options)
        except Interrupted as stopped:
            _leave(str(stopped), stopped.exit_code, "")
        except SpineclsError as error:
            _leave(str(error), error.exit_code)
        except KeyboardInterrupt as stopped:
            # Training says where it stopped and how to go on.
            _leave(str(stopped) or "Stopped by Ctrl-C.", 130, "")
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


def _leave(message: str, code: int, heading: str = "Error: ") -> None:
    """Say why the command ends, which an interruption does without being an error, and end it."""
    print(printable(f"{heading}{message}"), file=sys.stderr)
    raise typer.Exit(code)


def _defect(error: Exception) -> None:
    print(printable("".join(traceback.format_exception(error))), file=sys.stderr, end="")
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
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def typed(context: typer.Context) -> set[str]:
    """Options that the user typed, by their first names; the others have their defaults."""
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    sources = {name: context.get_parameter_source(key) for key, name in options.items()}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def refuse_useless(context: typer.Context, options: Collection[str], why: str) -> None:
    """Refuse those of some options that were typed, as what else was typed leaves them without effect.

    Parameters
    ----------
    why : what makes them useless and what to do, a sentence without its full stop
    """
    useless = sorted(typed(context) & set(options))
    if useless:
        raise UsageError(f"{', '.join(useless)}: {why}.")


def batch_processes(asked: int | None, device_type: str) -> int:
    """Processes that make batches: as asked for, else none beside a CPU, which has work enough, and 4 beside a GPU."""
    if asked is not None:
        return asked
    return 0 if device_type == "cpu" else 4


def parse_settings(settings: Sequence[str] | None) -> dict[str, str]:
    """`key=value` words as a dictionary."""
    parsed = {}
    for word in settings or ():
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {word}: expected key=value.")
        if key.strip() in parsed:
            raise UsageError(f"--set {key.strip()}: given twice. Give it once.")
        parsed[key.strip()] = value.strip()
    return parsed


def command_app(function: Callable[..., None], name: str) -> typer.Typer:
    """Application with one command."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": list(HELP), "ignore_unknown_options": True},
    )
    app.command(name)(guarded(function))
    return app


def run_command(
    function: Callable[..., None],
    word: str,
    several: Collection[str],
    numeric: Collection[str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line and run one command; leaves through SystemExit with the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if set(VERSION) & set(words):
        print(f"spinecls {__version__}")
        raise SystemExit(0)
    name = f"spinecls_{word}"
    app = command_app(function, name)
    if set(HELP) & set(words):
        # Whatever else was typed, wrong or right, the answer is what can be typed.
        app(args=[HELP[0]], prog_name=name)
    try:
        words = checked_words(words, options_of(function, word, several))
    except UsageError as error:
        print(printable(f"Error: {error}"), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    app(args=expand_values(words, several, numeric), prog_name=name)


def options_of(function: Callable[..., None], word: str, several: Collection[str]) -> Options:
    """Options of a command, from the signature that typer makes them of."""
    flags: set[str] = set()
    valued: dict[str, str] = {}
    positional = False
    for name, hint in typing.get_type_hints(function, include_extras=True).items():
        kind, *told = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        option = next((entry for entry in told if isinstance(entry, typer.models.OptionInfo)), None)
        if option is None:
            positional |= name != "return" and kind is not typer.Context
            continue
        # Within Annotated typer keeps the first name where the default stands otherwise.
        names = [entry for entry in (option.default, *(option.param_decls or ())) if isinstance(entry, str)]
        if kind is bool:
            flags |= {part for entry in names for part in entry.split("/")}
        else:
            valued |= dict.fromkeys(names, "" if option.parser else _kind(kind))
    return Options(word, valued, frozenset(flags), frozenset(several), positional)


def _kind(hint) -> str:
    """Kind of value of an option whose type is `hint`: a number, a number or None, or a list of numbers."""
    if hint in (int, float):
        return WHOLE if hint is int else NUMBER
    return next(filter(None, map(_kind, typing.get_args(hint))), "")
