"""Entry points of all commands, each a console script and a word after `python -m spinecls`.

A command's module is imported only when it runs, so `--help` of one does not wait for the libraries of another.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from spinecls import __version__
from spinecls.cli.commands import COMMANDS, NUMERIC
from spinecls.cli.common import HELP, VERSION, run_command
from spinecls.cli.habits import instead_of_command
from spinecls.cli.terminal import printable
from spinecls.errors import nearest


def function_of(word: str) -> Callable[..., None]:
    """What the command called `word` does."""
    module, _ = COMMANDS[word]
    return getattr(importlib.import_module(f"spinecls.cli.{module}"), word)


def run(word: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command called `word`."""
    _, several = COMMANDS[word]
    run_command(function_of(word), word, several, NUMERIC, arguments)


def umbrella() -> None:
    """`spinecls <command> ...` and `python -m spinecls <command> ...`."""
    words = sys.argv[1:]
    if words and words[0] in ("version", *VERSION):
        print(f"spinecls {__version__}")
        raise SystemExit(0)
    if words and words[0] in ("help", *HELP):
        words = [*words[1:], HELP[0]]
    if not words or words == [HELP[0]]:
        told = f"Usage: spinecls COMMAND ...\nCommands: {', '.join(COMMANDS)}\nHelp: spinecls COMMAND --help"
        print(told, file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else 2)
    word = words[0].removeprefix("spinecls_").removeprefix("nnUNetv2_")
    if word not in COMMANDS:
        instead = instead_of_command(word)
        told = f" In spinecls: {instead}." if instead else nearest(word, COMMANDS)
        named = printable(repr(words[0]))
        print(f"Error: no command {named}.{told} Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
        raise SystemExit(2)
    run(word, words[1:])


def __getattr__(word: str) -> Callable[[], None]:
    """Console script of each command, as `spinecls.cli.main:train`."""
    if word not in COMMANDS:
        raise AttributeError(f"module {__name__!r} has no attribute {word!r}")
    return lambda: run(word)
