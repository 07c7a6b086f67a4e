"""What a terminal gets to see, and what happens when nobody reads.

Guards against names and cells that a terminal obeys (they come from other people's files), and against work that ends,
with exit code 0, because the reader of its output has gone.
"""

import os
import subprocess
import sys

import pytest
from support import run_cli

from spinecls.cli.common import guarded
from spinecls.cli.terminal import printable
from spinecls.errors import DatasetError, Interrupted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("L4 normal", "L4 normal"),
        ("Wirbelsäule 腰椎", "Wirbelsäule 腰椎"),
        ("two\nlines\tand columns", "two\nlines\tand columns"),
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\x9b31mred", "\\x9b31mred"),
        ("rub\x7fout", "rub\\x7fout"),
        ("exe\u202egpj", "exe\\u202egpj"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text, shown):
    assert printable(text) == shown


def left_by(raises, capfd):
    import typer

    def command():
        raise raises

    with pytest.raises(typer.Exit) as left:
        guarded(command)()
    return left.value.exit_code, capfd.readouterr().err


@pytest.mark.parametrize("error", [DatasetError("case \x1b[31mred"), RuntimeError("case \x1b[31mred")])
def test_an_error_is_told_printably(error, capfd):
    code, told = left_by(error, capfd)
    assert code == (3 if isinstance(error, DatasetError) else 1)
    assert "\x1b" not in told
    assert "\\x1b[31mred" in told


@pytest.mark.parametrize(
    ("stopped", "code"),
    [(Interrupted("Stopped at step 31 of 60."), 6), (KeyboardInterrupt("Stopped at step 31 of 60."), 130)],
)
def test_an_interruption_is_no_error(stopped, code, capfd):
    assert left_by(stopped, capfd) == (code, "Stopped at step 31 of 60.\n")


def test_a_broken_pipe_between_processes_is_no_success(capfd):
    assert left_by(BrokenPipeError(32, "Broken pipe"), capfd)[0] == 1


def test_a_class_name_cannot_reach_the_terminal_raw(roots, capfd):
    folder = roots / "raw" / "Dataset001_Bad"
    folder.mkdir()
    (folder / "dataset.json").write_text(
        '{"name": "x", "channel_names": {"0": "T2"}, "classes": {"a\\u001b[31m": 0, "b": 1}, "file_ending": ".nii.gz",'
        '"c\\u001b[2J": 1}'
    )
    assert run_cli("check", "1") == 7
    told = "".join(capfd.readouterr())
    assert "c\\x1b[2J" in told
    assert "\x1b" not in told


TALKS = """
import typer, sys
from spinecls.cli.common import run_command
def talk(lines: int) -> None:
    for number in range(lines):
        print(number, "x" * 100, flush=True)
    open(sys.argv[1], "w").write("done")
    if {fails}:
        from spinecls.errors import CheckFailed
        raise CheckFailed("no")
run_command(talk, "talk", (), (), ["2000"])
"""


@pytest.mark.parametrize("fails", [False, True])
def test_work_whose_output_nobody_reads_is_done_and_keeps_its_exit_code(fails, tmp_path):
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", TALKS.format(fails=fails), str(mark)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("0 x")
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait() == (7 if fails else 0)
    assert mark.read_text() == "done"
    assert told == ("Error: no\n" if fails else "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/null"])
def test_a_stream_that_was_closed_before_the_start_is_no_defect(closed, tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "talks.py").write_text(TALKS.format(fails=True))
    words = f"exec '{sys.executable}' '{tmp_path / 'talks.py'}' '{mark}' {closed}"
    assert subprocess.run(["bash", "-c", words], capture_output=True, check=False).returncode == 7
    assert mark.read_text() == "done"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_the_terminal_cannot_show_is_shown_by_its_codes(encoding):
    code = (
        "from spinecls.cli.common import run_command\n"
        "def talk() -> None: print('case \\udcff \\u8170')\n"
        "run_command(talk, 'talk', (), (), [])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert b"case \\udcff" in done.stdout


@pytest.mark.parametrize("changed", [{"HOME": None}, {"LANG": "C", "LC_ALL": "C"}, {"TERM": "dumb"}, {"COLUMNS": "20"}])
def test_help_needs_nothing_of_the_environment(changed):
    environment = {k: v for k, v in {**os.environ, **changed}.items() if v is not None}
    command = [sys.executable, "-m", "spinecls", "train", "--help"]
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=True)
    assert "-pretrained_weights" in done.stdout
    assert not done.stderr
