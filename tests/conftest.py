"""Fixtures shared by all tests: where the real data lie, and a small preprocessed phantom dataset."""

import os
from pathlib import Path

import pytest
from support import plan_phantom, run_cli, set_roots

REAL_DATA = Path(os.environ.get("SPINECLS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

skipped_for_data: list[str] = []


@pytest.fixture(scope="session")
def real_data(request) -> Path:
    """Folder of the real datasets; the test is skipped where they are absent."""
    if not (REAL_DATA / "Dataset001_LumbarSpA" / "dataset.json").exists():
        skipped_for_data.append(request.node.nodeid)
        pytest.skip(f"no real data in {REAL_DATA}; set SPINECLS_TEST_DATA to their folder")
    return REAL_DATA


def pytest_runtest_logreport(report):
    if report.skipped and "no real data in" in str(report.longrepr):
        skipped_for_data.append(report.nodeid)


def pytest_terminal_summary(terminalreporter):
    if skipped_for_data:
        count = len(set(skipped_for_data))
        terminalreporter.write_line(f"{count} tests were skipped for want of the real data in {REAL_DATA}")


@pytest.fixture
def roots(tmp_path, monkeypatch) -> Path:
    """Empty raw, preprocessed and results folders, named by the environment."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
    set_roots(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """Roots with a planned and preprocessed dataset of eight phantoms (Dataset001_Phantom), never written to again."""
    from spinecls.testing.phantom import write_dataset

    root = tmp_path_factory.mktemp("phantom")
    write_dataset(root / "raw" / "Dataset001_Phantom", 8, seed=3, num_test=2)
    plan_phantom(root)
    return root


QUICKLY_LEARNT = (
    "steps=300", "reader_steps=100", "members=2", "contrast_curve_share=0", "task_weighting=fixed",
    "task_weights.structures=0", "task_weights.sealed_structures=0", "task_weights.lesion=0",
)  # fmt: skip
"""Nothing that makes a model of a few hundred steps more general, and so slower to find anything."""


@pytest.fixture(scope="session")
def trained_phantom(phantom):
    """The same with fold 0 of AuxSegTrainer trained for as many steps as it takes to find some vertebrae."""
    with pytest.MonkeyPatch.context() as patch:
        set_roots(patch, phantom)
        code = run_cli(
            "train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", "--set", *QUICKLY_LEARNT
        )
    assert code == 0
    return phantom


@pytest.fixture
def phantom_roots(phantom, tmp_path, monkeypatch):
    """Raw and preprocessed phantoms, with results of the test's own."""
    set_roots(monkeypatch, phantom, results=tmp_path / "results")
    return phantom


@pytest.fixture
def write_phantoms(tmp_path):
    """Function: a raw dataset of so many phantoms, whose table has classes and no places."""
    from spinecls import files
    from spinecls.testing.phantom import write_dataset

    def write(count):
        folder = write_dataset(tmp_path / "Dataset001_Phantom", count, seed=5)
        rows = files.read_csv(folder / "vertebraeTr.csv")
        kept = [name for name in rows[0] if not name.endswith("_mm")]
        files.write_csv(folder / "vertebraeTr.csv", kept, [{name: row[name] for name in kept} for row in rows])
        return folder

    return write
