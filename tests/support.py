"""What several test modules share."""

import pytest

SMALL = ("steps=12", "network.features=8,12,16", "patch_size=8,48,32", "sealed_size=8,24,24", "sealed_batch_size=4")
"""Settings with which a phantom model trains in seconds: enough to run everything, not to learn."""


def run_cli(word: str, *arguments: str) -> int:
    """Run a command in this process; returns its exit code."""
    from spinecls.cli.main import run

    with pytest.raises(SystemExit) as left:
        run(word, [str(a) for a in arguments])
    return left.value.code or 0
