"""What users get wrong: one clear message, the exit code of the contract, and never a traceback."""

import gzip
import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from support import run_cli

from spinecls.testing.phantom import PhantomOptions, write_dataset

NAME = "Dataset001_Phantom"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small dataset without faults."""
    folder = tmp_path_factory.mktemp("good") / NAME
    return write_dataset(folder, 6, seed=5, options=PhantomOptions(shape=(8, 64, 48)))


@pytest.fixture
def dataset(good, roots):
    """A copy of it that a test may break."""
    return shutil.copytree(good, roots / "raw" / NAME)


def first(folder, part):
    return sorted((folder / part).iterdir())[0]


def edit_json(dataset, **changes):
    path = dataset / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def edit_table(dataset, change):
    path = dataset / "vertebraeTr.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def truncate_gzip(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def shift_origin(path, mm):
    image = sitk.ReadImage(str(path))
    image.SetOrigin([v + mm for v in image.GetOrigin()])
    sitk.WriteImage(image, str(path))


def not_finite(path):
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    array[0, 0, 0] = np.nan
    broken = sitk.GetImageFromArray(array)
    broken.CopyInformation(image)
    sitk.WriteImage(broken, str(path))


def huge_header(path):
    raw = bytearray(gzip.decompress(path.read_bytes())[:352])
    raw[42:48] = np.array([4096, 4096, 4096], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


def four_dimensions(path):
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(path))


BROKEN_DATASETS = {
    "no dataset.json": (lambda d: (d / "dataset.json").unlink(), ["dataset.json"]),
    "trailing comma": (lambda d: (d / "dataset.json").write_text('{"name": "x",\n}'), ["dataset.json", "line 2"]),
    "misspelt key": (lambda d: edit_json(d, chanel_names={"0": "T2"}), ["chanel_names", "channel_names"]),
    "missing channel": (lambda d: edit_json(d, channel_names={"0": "T2", "1": "T1"}), ["_0001"]),
    "no images": (lambda d: shutil.rmtree(d / "imagesTr"), ["imagesTr"]),
    "truncated image": (lambda d: truncate_gzip(first(d, "imagesTr")), ["phantom_000"]),
    "empty file": (lambda d: first(d, "imagesTr").write_bytes(b""), ["phantom_000"]),
    "web page instead of an image": (lambda d: first(d, "imagesTr").write_bytes(b"<html>login</html>"), ["web page"]),
    "pointer of a large-file store": (
        lambda d: first(d, "imagesTr").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        ["LFS"],
    ),
    "not finite": (lambda d: not_finite(first(d, "imagesTr")), ["finite"]),
    "huge header": (lambda d: huge_header(first(d, "imagesTr")), ["4096"]),
    "two volumes in one file": (lambda d: four_dimensions(first(d, "imagesTr")), ["phantom_000"]),
    "shifted map": (lambda d: shift_origin(first(d, "labelsTr"), 7.0), ["7", "mm"]),
    "unknown class": (
        lambda d: edit_table(d, lambda t: [*t[:1], t[1].replace(t[1].split(",")[3], "tumour"), *t[2:]]),
        ["tumour"],
    ),
    "vertebra not in the map": (
        lambda d: edit_table(
            d, lambda t: [",".join(r.split(",")[:4]) for r in [*t, "phantom_000,phantom_000,C3,normal"]]
        ),
        ["C3", "phantom_000"],
    ),
    "no such level": (
        lambda d: edit_table(d, lambda t: [*t, t[-1].replace(f",{t[-1].split(',')[2]},", ",L9,")]),
        ["L9"],
    ),
    "row of a case without image": (
        lambda d: edit_table(d, lambda t: [*t, t[-1].replace("phantom_005", "ghost")]),
        ["ghost"],
    ),
    "table without header": (lambda d: edit_table(d, lambda t: t[1:]), ["vertebraeTr.csv"]),
    "no table": (lambda d: (d / "vertebraeTr.csv").unlink(), ["vertebraeTr.csv"]),
    "class index out of range": (
        lambda d: edit_table(d, lambda t: [*t[:1], t[1].replace(f",{t[1].split(',')[3]}", ",7", 1), *t[2:]]),
        ["7"],
    ),
    "unknown code in a map": (lambda d: edit_json(d, vertebrae={"L1": 20}), ["vertebra"]),
}


@pytest.mark.parametrize("fault", BROKEN_DATASETS)
def test_a_broken_dataset_is_refused_with_one_message(fault, dataset, capfd):
    breaks, words = BROKEN_DATASETS[fault]
    breaks(dataset)
    code = run_cli("plan_and_preprocess", "-d", "1", "-np", "1", "-device", "cpu")
    output = "".join(capfd.readouterr())
    assert code == 3
    assert "Traceback" not in output
    assert output.count("Error:") == 1
    for word in words:
        assert word in output, output


def test_all_faults_of_a_dataset_come_at_once(dataset, capfd):
    truncate_gzip(first(dataset, "imagesTr"))
    edit_table(dataset, lambda t: [*t, t[-1].replace("phantom_005", "ghost")])
    assert run_cli("plan_and_preprocess", "-d", "1", "-np", "1") == 3
    output = "".join(capfd.readouterr())
    assert "phantom_000" in output
    assert "ghost" in output


WRONG_COMMANDS = {
    "no such dataset": (["plan_and_preprocess", "-d", "77"], 3, ["77", NAME]),
    "no dataset named": (["plan_and_preprocess"], 2, ["-d"]),
    "unknown option": (["plan_and_preprocess", "-d", "1", "--verify_dataset_integrety"], 2, ["integrety"]),
    "unknown setting": (["plan_and_preprocess", "-d", "1", "-np", "1", "--set", "stepps=3"], 2, ["stepps", "steps"]),
    "setting without value": (["plan_and_preprocess", "-d", "1", "-np", "1", "--set", "steps"], 2, ["key=value"]),
    "unknown device": (["plan_and_preprocess", "-d", "1", "-np", "1", "-device", "gpu9"], 2, ["gpu9", "mean cuda"]),
    "training before planning": (["train", "1", "3d_fullres", "0"], 3, ["spinecls_plan_and_preprocess"]),
    "predicting before training": (["predict", "-i", ".", "-o", "out"], 3, ["model"]),
    "evaluating what is not there": (["evaluate", "-i", "nowhere", "-gt", "1"], 3, ["nowhere"]),
}


@pytest.mark.parametrize("fault", WRONG_COMMANDS)
def test_a_wrong_command_is_refused_with_one_message(fault, dataset, capfd, monkeypatch):
    words, expected, said = WRONG_COMMANDS[fault]
    monkeypatch.chdir(dataset)
    code = run_cli(*words)
    output = "".join(capfd.readouterr())
    assert code == expected, output
    assert "Traceback" not in output
    for word in said:
        assert word in output, output


AFTER_PREPROCESSING = {
    "unknown trainer": (
        ["train", "1", "3d_fullres", "0", "-tr", "AuxSegTraner"],
        2,
        ["AuxSegTraner", "AuxSegTrainer?"],
    ),
    "trainer file that is not there": (["train", "1", "3d_fullres", "0", "-tr", "mine.py:T"], 2, ["mine.py"]),
    "not a trainer": (["train", "1", "3d_fullres", "0", "-tr", "json:JSONDecoder"], 2, ["Trainer"]),
    "unknown configuration": (["train", "1", "3d_fulres", "0"], 3, ["3d_fulres", "3d_fullres"]),
    "fold that does not exist": (["train", "1", "3d_fullres", "7"], 2, ["7", "0 to 4"]),
    "nothing to continue": (["train", "1", "3d_fullres", "0", "--c"], 3, ["nothing to continue"]),
    "validation without training": (["train", "1", "3d_fullres", "0", "--val"], 2, ["--val"]),
    "several GPUs": (["train", "1", "3d_fullres", "0", "-num_gpus", "2"], 2, ["-num_gpus"]),
    "CUDA where there is none": (["train", "1", "3d_fullres", "0", "-device", "cuda"], 4, ["cuda"]),
    "setting fixed by preprocessing": (
        ["train", "1", "3d_fullres", "0", "--set", "spacing_mm=4,1,1"],
        2,
        ["spinecls_plan_and_preprocess"],
    ),
}


@pytest.mark.parametrize("fault", AFTER_PREPROCESSING)
def test_a_wrong_training_is_refused_with_one_message(fault, phantom_roots, capfd):
    import torch

    if fault == "CUDA where there is none" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    words, expected, said = AFTER_PREPROCESSING[fault]
    code = run_cli(*words)
    output = "".join(capfd.readouterr())
    assert code == expected, output
    assert "Traceback" not in output
    for word in said:
        assert word in output, output


def predict(trained, source, target, *more):
    model = trained / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
    return run_cli("predict", "-i", source, "-o", target, "-m", model, "-device", "cpu", "--disable_tta", *more)


def test_a_bad_image_among_good_ones_costs_only_itself(trained_phantom, tmp_path, capfd):
    source = tmp_path / "in"
    shutil.copytree(trained_phantom / "raw/Dataset001_Phantom/imagesTs", source)
    truncate_gzip(first(source, "."))
    assert predict(trained_phantom, source, tmp_path / "out") == 5
    output = "".join(capfd.readouterr())
    assert "test_000" in output
    assert "Traceback" not in output
    assert "test_000" in (tmp_path / "out/failed.csv").read_text()
    assert (tmp_path / "out/test_001.json").exists()


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda p: p.mkdir(), 3, "no image"),
        (lambda p: None, 3, "no such file"),
        (lambda p: p.write_text("x"), 3, "not an image"),
    ],
    ids=["empty folder", "no folder", "not an image"],
)
def test_nothing_to_predict_is_said(make, code, said, trained_phantom, tmp_path, capfd):
    make(tmp_path / "in")
    assert predict(trained_phantom, tmp_path / "in", tmp_path / "out") == code
    output = "".join(capfd.readouterr())
    assert said in output
    assert "Traceback" not in output


def test_the_input_folder_is_not_written_to(trained_phantom, tmp_path, capfd):
    shutil.copytree(trained_phantom / "raw/Dataset001_Phantom/imagesTs", tmp_path / "in")
    assert predict(trained_phantom, tmp_path / "in", tmp_path / "in") == 2
    assert len(os.listdir(tmp_path / "in")) == 2
    assert "input folder" in "".join(capfd.readouterr())


def test_a_fold_that_is_not_trained_is_named(trained_phantom, tmp_path, capfd):
    source = trained_phantom / "raw/Dataset001_Phantom/imagesTs"
    assert predict(trained_phantom, source, tmp_path / "out", "-f", "3") == 3
    assert "fold 3" in "".join(capfd.readouterr())


def test_a_damaged_model_is_refused(trained_phantom, tmp_path, capfd):
    source = trained_phantom / "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"
    model = shutil.copytree(source, tmp_path / "Dataset001_Phantom" / source.name)
    checkpoint = model / "fold_0/checkpoint_final.pt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0xFF
    checkpoint.write_bytes(bytes(content))
    images = trained_phantom / "raw/Dataset001_Phantom/imagesTs"
    assert run_cli("predict", "-i", images, "-o", tmp_path / "out", "-m", model) == 3
    output = "".join(capfd.readouterr())
    assert "damaged" in output
    assert "Traceback" not in output
