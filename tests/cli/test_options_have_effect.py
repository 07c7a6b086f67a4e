"""Every option does something, or is refused.

Guards against options that are read and forgotten, and against pairs of which one takes the other's effect away without
a word.
"""

import ast
import inspect
import os
import shutil
import textwrap

import pytest
from support import run_cli

from spinecls.cli.commands import COMMANDS
from spinecls.cli.main import function_of
from spinecls.model_folder import FoldFolder

NAME = "Dataset001_Phantom"


@pytest.mark.parametrize("word", COMMANDS)
def test_every_option_is_used_by_its_command(word):
    body = ast.parse(textwrap.dedent(inspect.getsource(function_of(word)))).body[0].body
    nodes = [node for statement in body for node in ast.walk(statement)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert set(inspect.signature(function_of(word)).parameters) <= used


@pytest.mark.parametrize("word", COMMANDS)
def test_an_option_of_several_values_is_an_option_of_the_command(word):
    from spinecls.cli.common import options_of

    known = options_of(function_of(word), word, COMMANDS[word][1])
    assert known.several <= set(known.valued) | {"-c", "--set"}


USELESS = {
    "train 1 3d_fullres 0 --c --val": "--c: has no effect with --val",
    "train 1 3d_fullres 0 --val --seed 3 -np 0": "--seed, -np: has no effect with --val",
    "train 1 3d_fullres 0 --val -pretrained_weights w.pt": "-pretrained_weights: has no effect with --val",
    "train 1 3d_fullres 0 --val --part reader": "--part: has no effect with --val",
    "plan_and_preprocess -d 1 --verify_dataset_integrity --no_verify": "the one undoes the other",
    "extract_fingerprint -d 1 --verify_dataset_integrity --no_verify": "the one undoes the other",
    "predict -i a -o b -m model -d 1": "-d: -m says which model is meant",
    "predict -i a -o b -m model -c 2d -tr T -p P": "-c, -tr, -p: -m says which model is meant",
    "export_model -o a.spinecls -m model -tr T": "-tr: -m says which model is meant",
    "audit -d 1 --apply a.csv -o b.csv -tr T": "-o, -tr: --apply asks no model",
    "audit -d 1 --apply a.csv -f 0": "-f: --apply asks no model",
    "prelabel 1 --apply a -m model --channel T2": "--channel, -m: --apply asks no model",
    "loosen -d 1 -o x/y --form point --slack_mm 1 2": "--slack_mm: goes with --form box only",
    "loosen -d 1 -o x/y --form box --jitter_mm 1": "--jitter_mm: goes with --form point only",
    "loosen -d 1 -o x/y --form box --tolerance_mm 1": "--tolerance_mm: goes with --form coarse only",
    "loosen -d 1 -o x/y --form box --scribble_share 0.1": "--scribble_share: goes with --form scribble only",
    "loosen -d 1 -o x/y --form box --every 3": "--every: goes with --form slices only",
    "loosen -d 1 -o x/y --class_noise 0.1 --exact_cases 3": "--exact_cases: needs --form",
    "simulate -o x/y --phantom 3 --task ordinal": "--task: changes real scans",
    "simulate -o x/y --phantom 3 --no_sham": "--sham: changes real scans",
    "simulate -d 1 -o x/y --shortcut_correlation 0.9": "--shortcut_correlation: needs --shortcut",
    "simulate -d 1 -o x/y --shortcut m4 --shortcut_contrast 3": "--shortcut_contrast: is of --shortcut m1 and m2",
    "simulate -o x/y --phantom 3 -d 1": "Give either -d",
    "verify_evidence -m model -i a -d 1": "Give images by -i",
}


@pytest.mark.parametrize("words", USELESS)
def test_an_option_that_another_leaves_without_effect_is_refused(words, roots, capfd, monkeypatch):
    monkeypatch.chdir(roots)
    assert run_cli(*words.split()) == 2
    assert USELESS[words] in capfd.readouterr().err


def test_a_wrong_last_fold_is_told_before_the_first_trains(phantom_roots, tmp_path, capfd):
    assert run_cli("train", "1", "3d_fullres", "0-9", "-tr", "BaselineTrainer", "-device", "cpu") == 2
    assert "Fold '5' does not exist. Folds: 0 to 4, or all." in capfd.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_fold_that_is_named_twice_trains_once(phantom_roots, monkeypatch, capfd):
    from spinecls.trainers import run

    class Trained(Exception):
        pass

    trained = []

    def train(request):
        trained.append(request.fold)
        if len(trained) == 2:
            raise Trained
        return FoldFolder(phantom_roots)

    monkeypatch.setattr(run, "train_fold", train)
    assert run_cli("train", "1", "3d_fullres", "0", "0,1", "1", "-tr", "BaselineTrainer", "-device", "cpu") == 1
    assert trained == ["0", "1"]


@pytest.fixture
def planned(phantom, roots):
    """Raw and preprocessed phantoms that a test may break, all files a day old."""
    for part in ("raw", "preprocessed"):
        shutil.copytree(phantom / part / NAME, roots / part / NAME)
    for path in (roots / "raw" / NAME).rglob("*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 86400))
    return roots


PLANNING = ("plan_and_preprocess", "-d", "1", "-np", "1", "-device", "cpu", "--dry_run")


def test_the_integrity_check_reads_what_looks_unchanged(planned, capfd):
    assert run_cli(*PLANNING) == 0
    image = next((planned / "raw" / NAME / "imagesTr").glob("phantom_003*"))
    content = bytearray(image.read_bytes())
    before = image.stat()
    for position in range(len(content) // 2, len(content) // 2 + 64):
        content[position] ^= 0xFF
    image.write_bytes(bytes(content))
    # A disk that returns other bytes changes neither size nor time.
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run_cli(*PLANNING) == 0
    capfd.readouterr()
    assert run_cli(*PLANNING, "--verify_dataset_integrity") == 3
    assert "phantom_003" in capfd.readouterr().err


def test_the_demo_says_when_it_would_ignore_what_was_asked(tmp_path, capfd):
    from spinecls import files

    (tmp_path / "raw/Dataset999_Phantom").mkdir(parents=True)
    (tmp_path / "raw/Dataset999_Phantom/dataset.json").write_text("{}")
    files.write_json(tmp_path / "phantoms.json", {"cases": 30, "test_cases": 12, "seed": 1})
    assert run_cli("demo", "-o", tmp_path, "--cases", "8", "-device", "cpu") == 2
    assert "--cases 8 (there: 30)" in capfd.readouterr().err
