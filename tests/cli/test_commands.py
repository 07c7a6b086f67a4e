"""The table of commands: its console scripts, and how fast a person is told what each command takes.

Guards against a command that one place knows and another does not, and against help that waits for the libraries that
only the work needs. What is imported is tested, not a time, which depends on what else a machine does.
"""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from spinecls.cli.commands import COMMANDS

SETUP = Path(__file__).parents[2] / "setup.py"
HEAVY = ("torch", "SimpleITK", "scipy", "skimage", "sklearn", "matplotlib", "numpy", "blosc2")


@pytest.mark.parametrize("word", COMMANDS)
def test_help_imports_no_library_of_the_work(word):
    code = (
        "import sys; from spinecls.cli.main import run\n"
        f"try: run({word!r}, ['--help'])\n"
        "except SystemExit as left: assert not left.code\n"
        f"print('imported:', [name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "imported: []"
    assert f"Usage: spinecls_{word}" in found


def test_installation_makes_a_script_of_every_command(monkeypatch):
    import setuptools

    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **settings: given.update(settings))
    # What builds a package has none of its libraries.
    monkeypatch.setitem(sys.modules, "spinecls", None)
    monkeypatch.chdir(SETUP.parent)
    runpy.run_path(str(SETUP))
    scripts = dict(line.split(" = ") for line in given["entry_points"]["console_scripts"])
    assert scripts == {"spinecls": "spinecls.cli.main:umbrella"} | {
        f"spinecls_{word}": f"spinecls.cli.main:{word}" for word in COMMANDS
    }


@pytest.mark.parametrize("word", COMMANDS)
def test_the_script_of_a_command_runs_that_command(word, monkeypatch):
    from spinecls.cli import main

    ran = []
    monkeypatch.setattr(main, "run", ran.append)
    getattr(main, word)()
    assert ran == [word]
