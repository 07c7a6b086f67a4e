"""What several test modules share."""

from pathlib import Path

import pytest

SMALL = (
    "steps=12", "network.features=8,12,16", "patch_size=8,48,32", "reader_network.features=8,12,16",
    "sealed_size=8,24,24", "sealed_batch_size=4", "members=2",
)  # fmt: skip
"""Settings with which a phantom model trains in seconds: enough to run everything, not to learn."""


def set_roots(patch: pytest.MonkeyPatch, root: Path, results: Path | None = None) -> None:
    """Name the three folders below `root` by the environment; results may lie elsewhere."""
    for name in ("raw", "preprocessed", "results"):
        patch.setenv(f"spinecls_{name}", str(root / name))
    if results is not None:
        patch.setenv("spinecls_results", str(results))


def plan_phantom(root: Path) -> None:
    """Plan and preprocess Dataset001_Phantom below `root`, small."""
    words = ("plan_and_preprocess", "-d", "1", "-c", "3d_fullres", "-np", "1", "-device", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        set_roots(patch, root)
        assert run_cli(*words, "--set", *SMALL[1:]) == 0


def run_cli(word: str, *arguments: str) -> int:
    """Run a command in this process; returns its exit code."""
    from spinecls.cli.main import run

    with pytest.raises(SystemExit) as left:
        run(word, [str(a) for a in arguments])
    return left.value.code or 0
