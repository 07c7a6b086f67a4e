"""Folds that do not mean the same are never joined, whatever command joins them, and the reader learns what differs.

Guards against averages by position: of probabilities of different classes, of maps on other grids, of crops sealed or
mirrored in another way.
"""

import dataclasses
import json
import re
import shutil

import pytest
from inference.conftest import MODEL, write_validation
from support import run_cli

from spinecls import files
from spinecls.errors import ModelError
from spinecls.inference.folds import require_plan_of
from spinecls.inference.model_calibration import calibrate_model
from spinecls.inference.models import load_predictor, model_at
from spinecls.planning.meaning import class_meaning, meaning
from spinecls.planning.plan import load_plan, save_plan
from spinecls.tasks.checkpoint import ModelSpec, learned_from, load_checkpoint, meaning_text, save_checkpoint

DATASET = "Dataset001_Phantom"
NAMES = ("normal", "inflammatory", "structural")
REORDERED = ("normal", "structural", "inflammatory")
CONFIGURATION = "3d_fullres"


def changed_plan(plan, part, value):
    """A plan with another value of a field of its own, or of its configuration."""
    if hasattr(plan, part):
        return dataclasses.replace(plan, **{part: value})
    configuration = dataclasses.replace(plan.configuration(CONFIGURATION), **{part: value})
    return dataclasses.replace(plan, configurations={CONFIGURATION: configuration})


def retrain(fold, part, value):
    """As if a fold had been trained by a plan with that value."""
    plan = changed_plan(load_plan(fold / "plan.json"), part, value)
    save_plan(fold / "plan.json", plan)
    path, configuration = fold / "checkpoint_final.pt", plan.configuration(CONFIGURATION)
    content = load_checkpoint(path) | {"meaning": meaning_text(plan, configuration), "seal": configuration.seal}
    spec = json.loads(content["spec"]) | {"pooling": configuration.pooling, "ordinal": plan.class_order}
    save_checkpoint(path, content | {"spec": json.dumps(spec)})


@pytest.fixture
def unlike(two_folds):
    """Model folder whose second fold has its classes in another order, as the plan of the model folder then says."""
    retrain(two_folds / "fold_1", "class_names", REORDERED)
    shutil.copy(two_folds / "fold_1/plan.json", two_folds / "plan.json")
    return two_folds


PARTS = [
    ("class_names", REORDERED, "class_names: [normal, inflammatory, structural] in fold 0, [normal, structural"),
    ("class_names", NAMES[:2], "class_names: [normal, inflammatory, structural] in fold 0, [normal, inflammatory] in"),
    ("class_order", True, "class_order: False in fold 0, True in fold 1"),
    ("levels", {"L1": 1}, "levels.L1: 20 in fold 0, 1 in fold 1"),
    ("channel_names", ("T1",), "channel_names: [T2] in fold 0, [T1] in fold 1"),
    ("channel_names", ("T2", "T1"), "channel_names: [T2] in fold 0, [T2, T1] in fold 1"),
    ("structures", {"disc": 1}, "structures."),
    ("ignore_label", 254, "ignore_label: 255 in fold 0, 254 in fold 1"),
    ("vertebrae_complete", None, "vertebrae_complete"),
    ("register_channels", True, "register_channels: False in fold 0, True in fold 1"),
    ("seal", "S3", "seal: S2 in fold 0, S3 in fold 1"),
    ("mirror_axes", (), "mirror_axes: [0] in fold 0, [] in fold 1"),
    ("sealed_mirror_axes", (0,), "sealed_mirror_axes: [0, 1, 2] in fold 0, [0] in fold 1"),
    ("spacing_mm", (4.0, 1.0, 1.0), "spacing_mm: "),
    ("sealed_spacing_mm", (4.0, 1.0, 1.0), "sealed_spacing_mm: "),
    ("sealed_size", (8, 48, 24), "sealed_size: [8, 24, 24] in fold 0, [8, 48, 24] in fold 1"),
    ("patch_size", (8, 48, 48), "patch_size: [8, 48, 32] in fold 0, [8, 48, 48] in fold 1"),
    ("normalisation", ("none",), "normalisation: [robust_zscore] in fold 0, [none] in fold 1"),
    ("pooling", "mean", "pooling: lse in fold 0, mean in fold 1"),
    ("members", 3, "members: 2 in fold 0, 3 in fold 1"),
    ("sealing_margin_mm", 5.0, "sealing_margin_mm: "),
    ("logit_adjustment", 0.5, "logit_adjustment: 1.0 in fold 0, 0.5 in fold 1"),
]


@pytest.fixture(scope="module")
def trained(trained_phantom):
    return trained_phantom / "results" / DATASET / MODEL


@pytest.mark.parametrize(("part", "value", "told"), PARTS, ids=[f"{part}-{i}" for i, (part, *_) in enumerate(PARTS)])
def test_folds_that_differ_in_a_part_are_refused_with_both_values(part, value, told, trained, tmp_path):
    model = tmp_path / "Dataset001_Phantom" / MODEL
    plan = load_plan(trained / "fold_0/plan.json")
    value = not plan.vertebrae_complete if value is None else value
    for fold, made in (("0", plan), ("1", changed_plan(plan, part, value))):
        (model / f"fold_{fold}").mkdir(parents=True)
        save_plan(model / f"fold_{fold}/plan.json", made)
    with pytest.raises(ModelError) as refused:
        dataclasses.replace(model_at(model), folds=("0", "1")).fold_plans()
    assert "fold 0 and fold 1 do not mean the same" in str(refused.value)
    assert told in str(refused.value)
    assert "by -f (0 or 1), or train" in str(refused.value)


def test_a_model_that_learned_no_class_fits_a_plan_that_wants_readers(phantom_roots):
    plan = load_plan(phantom_roots / "preprocessed/Dataset001_Phantom/spineclsPlans.json")
    configuration = plan.configuration(CONFIGURATION)
    assert configuration.members > 0
    spec = ModelSpec(
        network=configuration.network,
        reader=configuration.reader_network,
        members=0,
        image_channels=len(plan.channel_names),
        num_classes=len(plan.class_names),
        dense_heads={},
        reader_heads={},
    )
    content = {"spec": json.dumps(dataclasses.asdict(spec)), "meaning": meaning_text(plan, configuration)}
    require_plan_of(content, plan, configuration, "checkpoint_final.pt")


def test_folds_may_differ_in_what_they_were_trained_on(two_folds):
    path = two_folds / "fold_1/plan.json"
    plan = load_plan(path)
    save_plan(path, dataclasses.replace(plan, class_counts={"normal": 3}, readers=("anna",), familiar=None))
    assert len(load_predictor(model_at(two_folds), "cpu", augment=False).models) == 2


COMMANDS = {
    "predict": lambda root, out: ("predict", "-i", root / "raw" / DATASET / "imagesTs", "-o", out),
    "find_best_configuration": lambda root, out: ("find_best_configuration", DATASET),
    "audit": lambda root, out: ("audit", "-d", DATASET, "-o", out / "audit.csv"),
    "export_model": lambda root, out: ("export_model", "-d", DATASET, "-o", out / "model.spinecls"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_joins_unlike_folds_leaves_with_three_and_names_them(
    command, unlike, trained_phantom, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("spinecls_raw", str(trained_phantom / "raw"))
    assert run_cli(*COMMANDS[command](trained_phantom, tmp_path / "out")) == 3
    told = capsys.readouterr().err
    assert "fold 0 and fold 1 do not mean the same" in told
    assert "[normal, inflammatory, structural] in fold 0, [normal, structural, inflammatory] in fold 1" in told
    assert not (tmp_path / "out").exists()


def test_evidence_of_unlike_folds_is_not_verified(unlike, trained_phantom, tmp_path, capsys):
    images = trained_phantom / "raw" / DATASET / "imagesTs"
    assert run_cli("verify_evidence", "-m", unlike, "-i", images, "-o", tmp_path, "-device", "cpu") == 3
    assert "fold 0 and fold 1 do not mean the same" in capsys.readouterr().err


def test_unlike_folds_are_not_calibrated_together(unlike):
    with pytest.raises(ModelError, match="fold 0 and fold 1 do not mean the same"):
        calibrate_model(model_at(unlike))


@pytest.mark.parametrize("fold", ["0", "1"])
def test_a_fold_alone_is_what_its_own_plan_says_whatever_the_model_folder_says(fold, unlike):
    predictor = load_predictor(dataclasses.replace(model_at(unlike), folds=(fold,)), "cpu", augment=False)
    assert predictor.plan.class_names == {"0": NAMES, "1": REORDERED}[fold]


def test_of_several_models_one_with_unlike_folds_is_passed_over_with_a_warning(unlike, caplog):
    from spinecls.inference.models import ModelChoice, choose_model

    other = unlike.parent / MODEL.replace("AuxSeg", "Baseline")
    shutil.copytree(unlike, other)
    shutil.rmtree(other / "fold_1")
    assert choose_model(ModelChoice()).path == other
    assert "fold 0 and fold 1 do not mean the same" in caplog.text


def test_models_of_other_classes_are_not_chosen_between(two_folds):
    from spinecls.inference.models import ModelChoice, choose_model

    other = two_folds.parent / MODEL.replace("AuxSeg", "Baseline")
    shutil.copytree(two_folds, other)
    for fold in ("0", "1"):
        retrain(other / f"fold_{fold}", "class_names", REORDERED)
    with pytest.raises(ModelError, match=r"do not mean the same.*class_names.*Name one by -m"):
        choose_model(ModelChoice())


def test_models_of_other_classes_are_not_compared(two_folds, capsys):
    other = two_folds.parent / MODEL.replace("AuxSeg", "Baseline")
    shutil.copytree(two_folds, other)
    for fold in ("0", "1"):
        retrain(other / f"fold_{fold}", "class_names", REORDERED)
    assert run_cli("find_best_configuration", DATASET) == 3
    assert re.search(f"{MODEL} and Baseline.* do not mean the same", capsys.readouterr().err)


def test_folds_that_validated_the_same_case_are_not_joined(two_folds, capsys):
    write_validation(two_folds / "fold_1", NAMES, range(23, 47), signal=2.0)
    assert run_cli("find_best_configuration", DATASET) == 3
    assert "Case case23 was validated by more than one fold" in capsys.readouterr().err


def test_predictions_of_classes_that_the_dataset_has_in_another_order_are_not_audited(
    two_folds, trained_phantom, tmp_path, monkeypatch, capsys
):
    shutil.copytree(trained_phantom / "raw", tmp_path / "raw")
    monkeypatch.setenv("spinecls_raw", str(tmp_path / "raw"))
    path = tmp_path / "raw" / DATASET / "dataset.json"
    files.write_json(path, files.read_json(path) | {"classes": {name: i for i, name in enumerate(REORDERED)}})
    assert run_cli("audit", "-d", DATASET, "-f", "0", "-o", tmp_path / "audit.csv") == 3
    assert "[normal, structural, inflammatory] in the dataset" in capsys.readouterr().err


EDITS = [
    ("class_names", REORDERED, "[normal, inflammatory, structural] in the checkpoint, [normal, structural"),
    ("class_names", NAMES[:2], "number of classes: 3 in the checkpoint, 2 in the plan.json beside it"),
    ("levels", {"L1": 1}, "levels.L1: 20 in the checkpoint, 1 in"),
    ("pooling", "mean", "pooling: lse in the checkpoint, mean in"),
    ("members", 3, "members: 2 in the checkpoint, 3 in"),
    ("mirror_axes", (), "mirror_axes: [0] in the checkpoint, [] in"),
    ("channel_names", ("T2", "T1"), "number of channels: 1 in the checkpoint, 2 in"),
]


@pytest.mark.parametrize(("part", "value", "told"), EDITS, ids=range(len(EDITS)))
def test_a_plan_that_was_edited_or_made_anew_beside_a_checkpoint_is_noticed(part, value, told, results):
    path = results / MODEL / "fold_0/plan.json"
    save_plan(path, changed_plan(load_plan(path), part, value))
    with pytest.raises(ModelError, match="trained by another plan than the one beside it") as refused:
        load_predictor(model_at(results / MODEL), "cpu", augment=False)
    assert told in str(refused.value)


def test_weights_of_another_fold_are_noticed(two_folds):
    for number in (0, 1):
        retrain(two_folds / f"fold_{number}", "training_images", (f"image of fold {number}",))
    load_predictor(model_at(two_folds), "cpu", augment=False)
    shutil.copy(two_folds / "fold_0/checkpoint_final.pt", two_folds / "fold_1/checkpoint_final.pt")
    with pytest.raises(ModelError, match=r"fold_1.*they differ in digest of the training images.*Put back"):
        load_predictor(model_at(two_folds), "cpu", augment=False)


def test_a_fold_whose_plan_is_gone_is_told_with_what_to_do(two_folds):
    (two_folds / "fold_1/plan.json").unlink()
    with pytest.raises(ModelError, match=r"fold_1: has no plan.json.*Put it back, remove the fold, or train it anew"):
        load_predictor(model_at(two_folds), "cpu", augment=False)


def test_another_patch_may_be_predicted_with(results):
    path = results / MODEL / "fold_0/plan.json"
    save_plan(path, changed_plan(load_plan(path), "patch_size", (8, 48, 24)))
    assert load_predictor(model_at(results / MODEL), "cpu", augment=False).configuration.patch_size == (8, 48, 24)


def test_of_an_earlier_checkpoint_the_number_of_classes_is_compared(results):
    path = results / MODEL / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    del content["meaning"]
    save_checkpoint(path, content)
    assert load_predictor(model_at(results / MODEL), "cpu", augment=False)
    plan = path.with_name("plan.json")
    save_plan(plan, changed_plan(load_plan(plan), "class_names", NAMES[:2]))
    with pytest.raises(ModelError, match="number of classes: 3 in the checkpoint, 2 in"):
        load_predictor(model_at(results / MODEL), "cpu", augment=False)


def test_folds_with_other_heads_are_refused(two_folds):
    path = two_folds / "fold_1/checkpoint_final.pt"
    content = load_checkpoint(path)
    spec = json.loads(content["spec"])
    del spec["dense_heads"]["vertebra_map"]
    weights = {k: w for k, w in content["weights"].items() if not k.startswith("finder.heads.vertebra_map.")}
    save_checkpoint(path, content | {"spec": json.dumps(spec), "weights": weights})
    with pytest.raises(ModelError, match=r"heads\.vertebra_map: 2 in fold 0, nothing in fold 1"):
        load_predictor(model_at(two_folds), "cpu", augment=False)


def test_a_checkpoint_says_all_that_its_plan_says_of_its_meaning(results):
    fold = results / MODEL / "fold_0"
    plan = load_plan(fold / "plan.json")
    told = json.loads(load_checkpoint(fold / "checkpoint_final.pt")["meaning"])
    every = meaning(plan, plan.configuration(CONFIGURATION)) | learned_from(plan)
    by_network = {part for part in every if part.startswith(("network.", "reader_network."))}
    assert set(every) - set(told) == {"pooling", "class_order", "seal", "members"} | by_network
    assert {part: every[part] for part in told} == told
    assert class_meaning(plan) == {"class_names": list(NAMES), "class_order": False}


def test_training_says_before_it_starts_which_folds_will_not_be_joined(
    results, trained_phantom, tmp_path, monkeypatch, caplog
):
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(trained_phantom / "preprocessed", preprocessed)
    monkeypatch.setenv("spinecls_preprocessed", str(preprocessed))
    path = preprocessed / DATASET / "spineclsPlans.json"
    save_plan(path, dataclasses.replace(load_plan(path), class_names=REORDERED))
    words = ("train", DATASET, CONFIGURATION, "1", "-tr", "AuxSegTrainer", "-device", "cpu", "--set", "steps=2")
    assert run_cli(*words) == 0
    told = [record.message for record in caplog.records]
    warned = next(i for i, text in enumerate(told) if text.startswith("Fold 0, which lies beside fold 1"))
    assert (
        "class_names: [normal, structural, inflammatory] in fold 1, [normal, inflammatory, structural] in"
        in (told[warned])
    )
    assert "train fold 0 anew" in told[warned]
    assert warned < next(i for i, text in enumerate(told) if "; on cpu" in text)


def test_training_beside_folds_that_mean_the_same_says_nothing_of_them(results, trained_phantom, monkeypatch, caplog):
    monkeypatch.setenv("spinecls_preprocessed", str(trained_phantom / "preprocessed"))
    words = ("train", DATASET, CONFIGURATION, "1", "-tr", "AuxSegTrainer", "-device", "cpu", "--set", "steps=2")
    assert run_cli(*words, "contrast_curve_share=0") == 0
    assert "does not mean the same" not in caplog.text
