"""Every trainer at every sealing level, with every pooling and with grades."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from support import run_cli

from spinecls.dataloading.loader import training_batches
from spinecls.errors import UsageError
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.plan import POOLINGS, load_plan
from spinecls.sealing.sealing_levels import SEALS
from spinecls.tasks.checkpoint import build_model, load_checkpoint
from spinecls.tasks.lesion_evidence import LesionEvidenceTask
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import PREDICTING, TRAINERS, RunSettings
from spinecls.trainers.training_data import load_training_data

PLANS_CONFIG = "spineclsPlans_3d_fullres"


@pytest.fixture(scope="module")
def material(phantom):
    folder = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    return folder, plan, plan.configuration("3d_fullres")


def data_of(material, configuration, masks=True, beliefs=False):
    folder, plan, _ = material
    cases = fold_cases(folder, "0")[0][:3]
    stored = StoredCases(folder, PLANS_CONFIG, cases)
    images = StoredCases(folder, PLANS_CONFIG, ())
    return load_training_data(stored, plan, configuration, masks=masks, beliefs=beliefs, images=images)


def trained(material, folder, name="BaselineTrainer", class_order=False, steps=2, **settings):
    """A trainer after a few steps with other settings than the plan's."""
    _, plan, configuration = material
    trainer_class = find_trainer(name)
    configuration = dataclasses.replace(configuration, steps=steps, reader_steps=steps, **settings)
    plan = dataclasses.replace(plan, class_order=class_order)
    run = RunSettings(folder, torch.device("cpu"), show_progress=False)
    trainer = trainer_class(plan, configuration, run)
    trainer.fit(data_of(material, configuration, trainer_class.regions_from_masks, trainer_class.learns_beliefs))
    return trainer


def losses(trainer):
    with open(trainer.settings.folder / "progress.csv", newline="") as stream:
        return [float(row["class"]) for row in csv.DictReader(stream) if row["part"] != "finder"]


def levels_of(name):
    """Sealing levels that a trainer can have."""
    own = find_trainer(name).seal
    return SEALS if own is None else (own,)


CLASSIFYING = [name for name in TRAINERS.names() if find_trainer(name).final_name == PREDICTING]


@pytest.mark.parametrize(("name", "seal"), [(n, s) for n in CLASSIFYING for s in levels_of(n)])
def test_every_trainer_trains_at_every_level_and_its_checkpoint_says_which(name, seal, material, tmp_path):
    trainer = trained(material, tmp_path, name, seal=seal)
    assert load_checkpoint(trainer.final_path)["seal"] == seal
    assert np.isfinite(losses(trainer)).all()


@pytest.mark.parametrize("class_order", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_trains_and_is_rebuilt_from_its_checkpoint(pooling, class_order, material, tmp_path):
    trainer = trained(material, tmp_path, pooling=pooling, class_order=class_order)
    model = build_model(load_checkpoint(trainer.final_path), trainer.final_path)
    crops = torch.rand(2, 2, *material[2].sealed_size)
    with torch.inference_mode():
        for rebuilt, own in zip(model.readers, trainer.model.readers, strict=True):
            assert torch.equal(rebuilt.sealed_pass(crops)[0], own.sealed_pass(crops)[0])
    assert model.ordinal == class_order
    assert np.isfinite(losses(trainer)).all()


def test_two_grades_train(material, tmp_path):
    _, plan, configuration = material
    data = data_of(material, configuration, masks=False)
    labels = [dataclasses.replace(source.label, sets=source.label.sets[:, :2]) for source in data.sealed]
    sources = [dataclasses.replace(s, label=label) for s, label in zip(data.sealed, labels, strict=True)]
    plan = dataclasses.replace(plan, class_names=plan.class_names[:2], class_order=True)
    run = RunSettings(tmp_path, torch.device("cpu"), show_progress=False)
    trainer = find_trainer("BaselineTrainer")(plan, dataclasses.replace(configuration, steps=2, reader_steps=2), run)
    trainer.fit(dataclasses.replace(data, sealed=sources))
    assert np.isfinite(losses(trainer)).all()


def batches_of(material, seal, count=2):
    configuration = dataclasses.replace(material[2], seal=seal)
    tasks, data = [LesionEvidenceTask(material[1], configuration)], data_of(material, configuration)
    batches = training_batches(data, configuration, tasks, True, seed=0, first_step=0, workers=0)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def test_sealed_batches_show_and_pool_the_region_alone(material):
    for seal in ("S2", "S3"):
        for batch in batches_of(material, seal):
            region = batch.crops[:, -1] > 0
            assert torch.equal(batch.pooled, region)
            assert (batch.crops[:, :-1][~region[:, None].expand_as(batch.crops[:, :-1])] == 0).all()


def test_open_batches_show_what_lies_around(material):
    for seal in ("S0", "S1"):
        for batch in batches_of(material, seal):
            region = batch.crops[:, -1] > 0
            around = batch.crops[:, 0][~region]
            assert (around != 0).float().mean() > 0.2
            assert torch.equal(batch.pooled, region) == (seal == "S1")
            assert (batch.pooled | ~region).all()


def test_inside_the_region_open_and_sealed_batches_differ_by_the_smoothing_at_the_border_only(material):
    # The same seed draws the same crops, turns and intensities at every level.
    for one, two in zip(batches_of(material, "S1"), batches_of(material, "S2"), strict=True):
        assert torch.equal(one.crops[:, -1], two.crops[:, -1])
        inside = two.crops[:, -1] > 0
        difference = (one.crops[:, 0] - two.crops[:, 0])[inside].abs()
        assert difference.median() < 0.2


def test_lesions_of_open_crops_lie_where_those_of_sealed_crops_lie(material):
    for one, two in zip(batches_of(material, "S0"), batches_of(material, "S2"), strict=True):
        region = two.crops[:, -1] > 0
        first, second = (batch.targets["lesion"]["codes"][region] for batch in (one, two))
        assert torch.equal(first, second)
        assert (second > 0).any()


def test_the_vertebrae_of_a_case_share_the_image_of_open_crops(material):
    sources = data_of(material, dataclasses.replace(material[2], seal="S0")).sealed
    images = {source.case: id(source.image) for source in sources}
    assert all(id(source.image) == images[source.case] for source in sources)
    assert len(images) < len(sources)


def test_a_trainer_is_not_made_with_another_level_than_its_own(material, tmp_path):
    run = RunSettings(tmp_path, torch.device("cpu"))
    with pytest.raises(UsageError, match=r"OpenBaselineTrainer trains with crops of level S0.*says S2"):
        find_trainer("OpenBaselineTrainer")(material[1], material[2], run)


def folder_of(root, trainer):
    return root / f"results/Dataset001_Phantom/{trainer}__spineclsPlans__3d_fullres/fold_0"


def test_a_set_level_stands_in_plan_run_and_checkpoint(phantom_roots, tmp_path):
    settings = ("--set", "steps=2", "seal=S3", "pooling=attention")
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", *settings) == 0
    fold = folder_of(tmp_path, "BaselineTrainer")
    configuration = load_plan(fold / "plan.json").configuration("3d_fullres")
    assert (configuration.seal, configuration.pooling) == ("S3", "attention")
    assert json.loads((fold / "run.json").read_text())["seal"] == "S3"
    assert load_checkpoint(fold / "checkpoint_final.pt")["seal"] == "S3"


@pytest.mark.parametrize("setting", ["seal=S4", "pooling=median"])
def test_an_unknown_word_is_refused_with_the_known_ones(setting, phantom_roots, capfd):
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", "--set", setting) == 2
    key, value = setting.split("=")
    message = " ".join(capfd.readouterr().err.split())
    assert f"--set {key}: '{value}' is not known" in message
    assert {"seal": "S0, S1, S2, S3", "pooling": "lse, mean"}[key] in message


def test_another_level_for_the_open_trainer_is_refused(phantom_roots, tmp_path, capfd):
    command = ("train", "1", "3d_fullres", "0", "-tr", "OpenBaselineTrainer", "-device", "cpu")
    assert run_cli(*command, "--set", "seal=S2") == 2
    assert "OpenBaselineTrainer" in capfd.readouterr().err
    assert not (folder_of(tmp_path, "OpenBaselineTrainer") / "checkpoint_final.pt").exists()


@pytest.mark.slow
def test_the_open_trainer_trains_and_predicts_only_when_it_is_named(phantom_roots, tmp_path, capfd):
    command = ("train", "1", "3d_fullres", "0", "-tr", "OpenBaselineTrainer", "-device", "cpu", "--set")
    assert run_cli(*command, "steps=150") == 0
    fold = folder_of(tmp_path, "OpenBaselineTrainer")
    assert load_plan(fold / "plan.json").configuration("3d_fullres").seal == "S0"
    images = phantom_roots / "raw/Dataset001_Phantom/imagesTs"
    options = ("-i", images, "-device", "cpu", "--disable_tta")
    assert run_cli("predict", *options, "-o", tmp_path / "unnamed") == 3
    assert "not sealed" in " ".join(capfd.readouterr().err.split())
    assert run_cli("predict", *options, "-o", tmp_path / "named", "-tr", "OpenBaselineTrainer") == 0
    cases = [path for path in sorted((tmp_path / "named").glob("*.json")) if path.name != "model.json"]
    vertebrae = [v for path in cases for v in json.loads(path.read_text())["vertebrae"]]
    assert vertebrae
    assert all("not_sealed" in v["flags"] and v["region"]["guaranteed"] is False for v in vertebrae)
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", "--set", "steps=2") == 0
    assert run_cli("predict", *options, "-o", tmp_path / "default") == 0
    assert json.loads((tmp_path / "default/model.json").read_text())["trainer"] == "BaselineTrainer"


def test_open_crops_show_the_surroundings_of_a_vertebra(material):
    configuration = dataclasses.replace(material[2], sealed_size=(8, 24, 24), sealed_batch_size=4)
    opened = find_trainer("OpenBaselineTrainer").configured(configuration)
    # 16 mm more on each side of two axes with voxels of 2 mm.
    assert opened.sealed_size == (8, 40, 40)
    assert opened.sealed_batch_size == 2
    assert opened.seal == "S0"
    assert find_trainer("BaselineTrainer").configured(configuration) == configuration
