"""Guards against an output under a name that means something else, and against work that cannot be written."""

import errno
import io
import os
from pathlib import Path

import pytest
from support import run_cli

from spinecls.cli import outputs
from spinecls.errors import ResourceError, UsageError

FOLDER_COMMANDS = {
    "predict": ("-i", "."),
    "ensemble": ("-i", "a", "b"),
    "evaluate": ("-i", ".", "-gt", "1"),
    "simulate": ("-d", "1"),
    "loosen": ("-d", "1", "--form", "box"),
    "demo": (),
    "verify_evidence": ("-m", "model", "-i", "."),
}
FILE_COMMANDS = {"export_model": (".spinecls",), "audit": (".csv", "-d", "1")}


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
@pytest.mark.parametrize("name", ["seg.nii.gz", "out.CSV"])
def test_the_name_of_a_file_is_no_folder(command, name, roots, monkeypatch, capfd):
    monkeypatch.chdir(roots)
    assert run_cli(command, *FOLDER_COMMANDS[command], "-o", name) == 2
    assert f"and a folder of this name would be made. Give a folder: -o {name.split('.')[0]}" in capfd.readouterr().err
    assert not Path(name).exists()


@pytest.mark.parametrize(
    ("name", "told"), [("link", "-o link: a link to nowhere"), (os.fsdecode(b"o\xfct"), "is not UTF-8 text")]
)
def test_where_no_folder_can_be_is_refused(name, told, roots, monkeypatch, capfd):
    monkeypatch.chdir(roots)
    os.symlink("nowhere", "link")
    assert run_cli("predict", "-i", ".", "-o", name) == 2
    assert told in capfd.readouterr().err


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_a_file_is_no_folder(command, roots, monkeypatch, capfd):
    monkeypatch.chdir(roots)
    Path("thing").write_text("")
    assert run_cli(command, *FOLDER_COMMANDS[command], "-o", "thing") == 2
    assert "-o thing: is a file, and a folder is needed" in capfd.readouterr().err


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_a_folder_below_a_file_is_told(command, roots, monkeypatch, capfd):
    monkeypatch.chdir(roots)
    Path("thing").write_text("")
    assert run_cli(command, *FOLDER_COMMANDS[command], "-o", "thing/out") == 2
    assert "thing is a file, no folder" in capfd.readouterr().err


@pytest.mark.parametrize("command", FILE_COMMANDS)
def test_a_folder_is_no_file(command, roots, monkeypatch, capfd):
    monkeypatch.chdir(roots)
    ending, *words = FILE_COMMANDS[command]
    Path("thing").mkdir()
    assert run_cli(command, *words, "-o", "thing") == 2
    said = f"-o thing: is a folder, and a file is written. Give its name: -o thing/out{ending}"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("command", FILE_COMMANDS)
def test_a_file_of_another_kind_is_refused(command, roots, monkeypatch, capfd):
    monkeypatch.chdir(roots)
    ending, *words = FILE_COMMANDS[command]
    assert run_cli(command, *words, "-o", "thing.zip") == 2
    assert f"a file ending with {ending} is written" in capfd.readouterr().err


@pytest.mark.parametrize("part", outputs.DATASET_PARTS)
@pytest.mark.parametrize("below", ["", "out"])
def test_results_do_not_go_into_the_images_or_maps_of_a_dataset(part, below, tmp_path):
    (tmp_path / "d" / part).mkdir(parents=True)
    (tmp_path / "d/dataset.json").write_text("{}")
    with pytest.raises(UsageError, match=f"lies in {part} of the dataset d"):
        outputs.refuse_other_folder(tmp_path / "d" / part / below)


@pytest.mark.parametrize("name", ["out", "patient.1", "results/2024.05.01"])
def test_other_folders_may_be_made(name, tmp_path):
    outputs.refuse_other_folder(tmp_path / name)
    outputs.require_writable(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


class FullDisk(io.BytesIO):
    """A file on a disk that is full."""

    def write(self, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(path, mode):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


@pytest.mark.parametrize(
    ("opened", "said"),
    [(read_only, "Read-only file system.*may write to"), (lambda *_: FullDisk(), "No space left.*Free some space")],
)
def test_what_cannot_be_written_is_told_before_any_work(opened, said, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "open", opened, raising=False)
    with pytest.raises(ResourceError, match=said):
        outputs.require_writable(tmp_path / "out")
