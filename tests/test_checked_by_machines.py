"""What machines check of the code: lint, layout, and types of the package."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


COMMANDS = {
    "lint": ("ruff", "check"),
    "layout": ("ruff", "format", "--check"),
    "types": ("mypy", "--cache-dir", "/dev/null"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_nothing_is_found(words):
    ended = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
