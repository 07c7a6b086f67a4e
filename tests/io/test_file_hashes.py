import hashlib
import json
import os

import pytest

from spinecls import files
from spinecls.io.file_hashes import MISSING, FileHashes

LONG_AGO_NS = 1_000_000_000


def write(path, text, time_ns=LONG_AGO_NS):
    path.write_text(text)
    os.utime(path, ns=(time_ns, time_ns))
    return path


def hashes_of(root, *sources):
    made = FileHashes(root / "index.json", root)
    made.read(sources)
    return [made.of(source) for source in sources]


@pytest.fixture
def read_files(monkeypatch):
    """Names of the files whose content is read."""
    read = []
    original = files.content_hash
    monkeypatch.setattr(files, "content_hash", lambda path: (read.append(path.name), original(path))[1])
    return read


def test_equal_contents_have_equal_hashes(tmp_path):
    one, two, other = (write(tmp_path / name, text) for name, text in (("a", "x"), ("b", "x"), ("c", "y")))
    first, second, third = hashes_of(tmp_path, one, two, other)
    assert first == second
    assert first != third


def test_the_hash_is_that_of_the_content(tmp_path):
    expected = hashlib.sha256(b"x" + b"\0file\0").hexdigest()
    assert hashes_of(tmp_path, write(tmp_path / "a", "x")) == [[expected]]


def test_an_unchanged_file_is_not_read_again(tmp_path, read_files):
    source = write(tmp_path / "a", "x")
    assert hashes_of(tmp_path, source) == hashes_of(tmp_path, source)
    assert read_files == ["a"]


def test_a_file_of_another_time_is_read_again(tmp_path, read_files):
    source = write(tmp_path / "a", "x")
    before = hashes_of(tmp_path, source)
    write(source, "y", LONG_AGO_NS + 1)
    assert hashes_of(tmp_path, source) != before
    assert read_files == ["a", "a"]


def test_a_file_written_just_before_its_hash_was_noted_is_read_again(tmp_path):
    """Its clock may not have ticked between two writes, so size and time of change prove nothing."""
    source = tmp_path / "a"
    source.write_text("x")
    status = source.stat()
    before = hashes_of(tmp_path, source)
    write(source, "y", status.st_mtime_ns)
    assert hashes_of(tmp_path, source) != before


def test_a_dicom_folder_has_a_hash_for_each_of_its_files(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    write(folder / "2", "y")
    write(folder / "1", "x")
    series, first = hashes_of(tmp_path, folder, folder / "1")
    assert series[0] == first[0]
    assert len(series) == 2


def test_a_missing_file_is_told_apart(tmp_path):
    assert hashes_of(tmp_path, tmp_path / "a") == [[MISSING]]


def test_files_that_a_run_does_not_ask_for_stay_known(tmp_path, read_files):
    one, two = write(tmp_path / "a", "x"), write(tmp_path / "b", "y")
    hashes_of(tmp_path, one, two)
    hashes_of(tmp_path, write(tmp_path / "a", "z", LONG_AGO_NS + 1))
    hashes_of(tmp_path, two)
    # The order of the first two is chance: they are read side by side.
    assert sorted(read_files) == ["a", "a", "b"]


def test_files_that_are_gone_leave_the_index(tmp_path):
    one, two = write(tmp_path / "a", "x"), write(tmp_path / "b", "y")
    hashes_of(tmp_path, one, two)
    one.unlink()
    hashes_of(tmp_path, two, write(tmp_path / "c", "z"))
    assert sorted(json.loads((tmp_path / "index.json").read_text())) == ["b", "c"]


def test_a_damaged_index_costs_only_time(tmp_path, read_files):
    source = write(tmp_path / "a", "x")
    before = hashes_of(tmp_path, source)
    (tmp_path / "index.json").write_text('{"a": ')
    assert hashes_of(tmp_path, source) == before
    assert read_files == ["a", "a"]


def test_a_dataset_may_move(tmp_path, read_files):
    (tmp_path / "here").mkdir()
    source = write(tmp_path / "here" / "a", "x")
    index = tmp_path / "index.json"
    for folder in ("here", "there"):
        made = FileHashes(index, tmp_path / folder)
        made.read([tmp_path / folder / "a"])
        if folder == "here":
            source.parent.rename(tmp_path / "there")
    assert read_files == ["a"]
