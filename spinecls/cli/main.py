"""Entry points of all commands, each a console script and a word after `python -m spinecls`.

A command's module is imported only when it runs, so `--help` of one does not wait for the libraries of another.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from spinecls import __version__
from spinecls.cli.common import HELP, VERSION, run_command
from spinecls.cli.habits import instead_of_command
from spinecls.cli.terminal import printable
from spinecls.errors import nearest

SEVERAL = ("-d", "-c", "--set")
"""Options of planning that take several values, as in nnU-Net."""
NUMERIC = ("-d", "-f")
"""Those among all such options whose values are numbers, so `0-4` and `0,1` work too."""

COMMANDS = {
    "plan_and_preprocess": ("spinecls.cli.plan_and_preprocess", "plan_and_preprocess", SEVERAL),
    "extract_fingerprint": ("spinecls.cli.plan_and_preprocess", "extract_fingerprint", SEVERAL),
    "plan_experiment": ("spinecls.cli.plan_and_preprocess", "plan_experiment", SEVERAL),
    "preprocess": ("spinecls.cli.plan_and_preprocess", "preprocess", SEVERAL),
    "train": ("spinecls.cli.train", "train", ("--set",)),
    "predict": ("spinecls.cli.predict", "predict", ("-f", "--prevalence")),
    "find_best_configuration": (
        "spinecls.cli.find_best_configuration", "find_best_configuration", ("-c", "-tr", "-p", "-f"),
    ),
    "ensemble": ("spinecls.cli.ensemble", "ensemble", ("-i",)),
    "evaluate": ("spinecls.cli.evaluate", "evaluate", ("--accept",)),
    "audit": ("spinecls.cli.audit", "audit", ("-f",)),
    "check": ("spinecls.cli.check", "check", ()),
    "demo": ("spinecls.cli.demo", "demo", ()),
    "verify_evidence": ("spinecls.cli.verify_evidence", "verify_evidence", ("-f",)),
    "compare": ("spinecls.cli.compare", "compare", ("-tr", "--patients", "--set")),
    "loosen": ("spinecls.cli.loosen", "loosen", ("--slack_mm", "--readers")),
    "export_model": ("spinecls.cli.export_model", "export_model", ("-f",)),
    "import_model": ("spinecls.cli.import_model", "import_model", ()),
    "simulate": ("spinecls.cli.simulate", "simulate", ("--cases", "--exclude_cases", "--kinds", "--shortcut")),
}
"""Word -> module, function, options that take several values."""


def run(word: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command called `word`."""
    module, function, several = COMMANDS[word]
    run_command(
        getattr(importlib.import_module(module), function), word, several, NUMERIC, arguments
    )


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


def plan_and_preprocess() -> None:
    """Console script."""
    run("plan_and_preprocess")


def extract_fingerprint() -> None:
    """Console script."""
    run("extract_fingerprint")


def plan_experiment() -> None:
    """Console script."""
    run("plan_experiment")


def preprocess() -> None:
    """Console script."""
    run("preprocess")


def train() -> None:
    """Console script."""
    run("train")


def predict() -> None:
    """Console script."""
    run("predict")


def find_best_configuration() -> None:
    """Console script."""
    run("find_best_configuration")


def ensemble() -> None:
    """Console script."""
    run("ensemble")


def evaluate() -> None:
    """Console script."""
    run("evaluate")


def audit() -> None:
    """Console script."""
    run("audit")


def check() -> None:
    """Console script."""
    run("check")


def demo() -> None:
    """Console script."""
    run("demo")


def loosen() -> None:
    """Console script."""
    run("loosen")


def simulate() -> None:
    """Console script."""
    run("simulate")


def compare() -> None:
    """Console script."""
    run("compare")


def verify_evidence() -> None:
    """Console script."""
    run("verify_evidence")


def export_model() -> None:
    """Console script."""
    run("export_model")


def import_model() -> None:
    """Console script."""
    run("import_model")
