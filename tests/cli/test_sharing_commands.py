"""`spinecls_export_model` and `spinecls_import_model`."""

import hashlib

import pytest
from support import run_cli, set_roots

FOLDER = "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"


@pytest.fixture(scope="module")
def quick(phantom, tmp_path_factory):
    """Results of a training of one step."""
    root = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch:
        set_roots(patch, phantom, results=root / "results")
        words = ("1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", "--set", "steps=1")
        assert run_cli("train", *words) == 0
    return root


@pytest.fixture
def here(tmp_path, monkeypatch, quick):
    """A results folder with the model, another one without, and a place for files."""
    set_roots(monkeypatch, tmp_path, results=quick / "results")
    return tmp_path


def at_the_receivers(here, monkeypatch):
    monkeypatch.setenv("spinecls_results", str(here / "theirs"))


def test_a_model_goes_out_and_comes_in(here, monkeypatch, capfd):
    assert run_cli("export_model", "-o", here / "m.spinecls", "-d", "1", "-c", "3d_fullres", "-f", "0") == 0
    said = capfd.readouterr().out
    assert hashlib.sha256((here / "m.spinecls").read_bytes()).hexdigest() in said
    assert "places TO FILL" in said
    at_the_receivers(here, monkeypatch)
    assert run_cli("import_model", here / "m.spinecls") == 0
    assert "Installed Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres, fold 0" in capfd.readouterr().out
    assert run_cli("import_model", here / "m.spinecls") == 3
    assert "--force" in capfd.readouterr().err
    assert run_cli("import_model", here / "m.spinecls", "--force") == 0


def test_a_model_folder_can_be_named(here, quick):
    assert run_cli("export_model", "-o", here / "m.spinecls", "-m", quick / FOLDER) == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-o", "m.zip"), 2, "ending with .spinecls"),
        ((), 2, "-o"),
        (("-o", "m.spinecls", "-tr", "NoTrainer"), 3, "No trained model fits"),
        (("-o", "m.spinecls", "-f", "3"), 3, "fold 3 is not trained"),
        (("-o", "m.spinecls", "-m", "nowhere"), 3, "not a model folder"),
    ],
)
def test_what_cannot_be_exported_has_its_exit_code(here, monkeypatch, capfd, options, code, message):
    monkeypatch.chdir(here)
    assert run_cli("export_model", *options) == code
    output = "".join(capfd.readouterr())
    assert message in output
    assert "Traceback" not in output
    assert not list(here.rglob("*.spinecls"))


def test_what_cannot_be_imported_is_bad_input(here, monkeypatch, capfd):
    at_the_receivers(here, monkeypatch)
    (here / "m.spinecls").write_bytes(b"")
    for path in (here / "m.spinecls", here / "nothing.spinecls"):
        assert run_cli("import_model", path) == 3
    output = "".join(capfd.readouterr())
    assert "the file is empty" in output
    assert "no such file" in output
    assert "Traceback" not in output
    assert not (here / "theirs").exists()
