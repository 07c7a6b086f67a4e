"""What the model card says, and that it says it whatever things are called."""

import json
import re
import shutil

import pytest
from bundles import edited, members_of
from conftest import NAME
from sharing_calibration import made_up_calibration

from spinecls import files
from spinecls.inference.models import ModelChoice, checkpoint_hashes, choose_model
from spinecls.sharing.model_card import card_of, escaped
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def card(members):
    return members["MODEL_CARD.md"].decode()


def row(card, label):
    return next(line for line in card.splitlines() if line.startswith(f"| {label} |"))


def summary_of(model):
    return files.read_json(model.path / "fold_0/validation/summary.json")


def test_cases_and_patients_are_counted_as_planning_saw_them(model, phantom, monkeypatch):
    monkeypatch.setenv("spinecls_preprocessed", str(phantom / "preprocessed"))
    card = card_of(model, checkpoint_hashes(model), None)
    assert row(card, "cases").endswith("| 8 |")
    assert row(card, "patients").endswith("| 8 |")


def test_cases_that_nobody_looked_at_are_counted(model, phantom, tmp_path, monkeypatch):
    folder = tmp_path / "Dataset001_Phantom"
    shutil.copytree(phantom / "preprocessed/Dataset001_Phantom", folder)
    monkeypatch.setenv("spinecls_preprocessed", str(tmp_path))
    label = "cases whose vertebrae a model drafted, and nobody looked at"
    assert row(card_of(model, checkpoint_hashes(model), None), label).endswith("| 0 |")
    content = files.read_json(folder / "fingerprint.json")
    case = next(iter(content["fingerprint"]["cases"].values()))
    case["annotation_forms"]["vertebrae"] = "draft"
    files.write_json(folder / "fingerprint.json", content)
    assert row(card_of(model, checkpoint_hashes(model), None), label).endswith("| 1 |")


def test_what_is_no_longer_known_is_called_so(model, tmp_path, monkeypatch):
    monkeypatch.setenv("spinecls_preprocessed", str(tmp_path))
    card = card_of(model, checkpoint_hashes(model), None)
    assert row(card, "cases").endswith("| 8 |")
    assert row(card, "patients").endswith("| not recorded |")


def test_scores_stand_with_their_intervals(card, model):
    score = summary_of(model)["classification"]["end_to_end"]["auc_macro"]
    # A fold of the phantom validates one patient.
    assert (score["low"], score["high"]) == (None, None)
    text = f"{score['estimate']:.3f} (no interval: one patient)"
    assert row(card, "macro AUC end to end") == f"| macro AUC end to end | {text} | {text} |"


def parameters(model, network):
    """How many numbers of a network are in the checkpoint of fold 0, each counted once."""
    weights = load_checkpoint(model.path / "fold_0/checkpoint_final.pt")["weights"]
    own = {(w.data_ptr(), w.numel()) for name, w in weights.items() if name.startswith(f"{network}.")}
    return sum(count for _, count in own)


def test_preprocessing_networks_and_training_are_those_of_the_plan(card, model):
    assert "spacing 4 x 2 x 2 mm, patch 8 x 48 x 32 voxels" in card
    shape = "PlainConvUNet, 3 stages of 8 x 12 x 16 features"
    assert f"- Finder, which locates, names and outlines: {shape}, {parameters(model, 'finder')} parameters." in card
    reader = parameters(model, "readers.0")
    assert f"the class comes, 2 of them, whose mean it is: {shape}, {reader} parameters each." in card
    assert "Sealing level S2: the class comes from the vertebra's own region and two numbers" in card
    tasks = r"centre, level, class, vertebra\_map, structures, sealed\_structures, lesion"
    steps = "3 (finder 1, each reader 1)"
    assert f"| 0 | AuxSegTrainer | {steps} | 0 | {tasks} | random weights | 0.1.0 |" in card
    assert "| mean over 2 folds of 2 readers each |" in row(card, "Ensembling")


def test_a_model_without_readers_is_told_to_tell_no_classes(phantom_results, tmp_path):
    folder = tmp_path / NAME
    shutil.copytree(phantom_results / NAME, folder)
    path = folder / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    weights = {name: w for name, w in content["weights"].items() if not name.startswith("readers.")}
    spec = json.dumps(json.loads(content["spec"]) | {"members": 0})
    save_checkpoint(path, content | {"weights": weights, "spec": spec, "steps": 1})
    card = card_of(choose_model(ModelChoice(folder=folder, folds=("0",))), {"0": "0"}, None)
    assert "- No reader: the model tells no classes." in card
    assert "| 1 (finder 1) |" in card
    assert row(card, "Ensembling").endswith("| none |")


def test_limits_name_levels_that_were_never_scored(card, model):
    scored = summary_of(model)["location"]["identification_rate_by_level"]
    listed = re.search(r"Levels without a scored vertebra: (.*)\.", card)[1].split(", ")
    assert len(scored) + len(listed) == 27
    assert not set(scored) & set(listed)
    assert "Not a medical device" in card


def test_the_card_names_the_weights_as_predictions_do(card, model):
    for fold, digits in checkpoint_hashes(model).items():
        assert f"fold {fold} `{digits}`" in card


def test_a_model_without_calibration_is_called_uncalibrated(card):
    assert "## Calibration\nUncalibrated" in card


def test_calibration_is_told_with_what_it_brought(model):
    hashes = checkpoint_hashes(model)
    made = made_up_calibration(model)
    card = card_of(model, hashes, made)
    assert f"Temperature {made.temperature:.3f}, from out-of-fold predictions of folds 0, 1." in card
    assert f"{made.quality.nll_before:.3f} before and {made.quality.nll_after:.3f} after" in card
    assert "Uncalibrated" not in card
    items = card[card.index("## Reporting items") :].splitlines()[1:]
    assert all(line.startswith("| ") or line.startswith("|-") for line in items if line)
    assert "" not in items


def test_every_item_of_tripod_is_known_or_left_to_fill(card):
    items = card[card.index("## Reporting items") :]
    rows = [line.split(" | ") for line in items.splitlines() if line.startswith("| ") and " | " in line][2:]
    numbers = {int(n) for cells in rows for n in re.findall(r"\d+", cells[1])}
    assert numbers == set(range(3, 28)) | {1, 18}
    assert all(cells[3].strip(" |") for cells in rows)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<script>", r"\<script\>"),
        ("[x](http://y)", r"\[x\](http\:\/\/y)"),
        ("two\nlines # no heading", r"two lines \# no heading"),
        ("`code` *bold* _it_", r"\`code\` \*bold\* \_it\_"),
        ("back\\slash", r"back\\slash"),
        ("STIR 1.5 T", "STIR 1.5 T"),
    ],
)
def test_text_of_users_is_shown_as_it_is(text, shown):
    assert escaped(text) == shown


def test_names_of_classes_cannot_break_the_table(phantom_results, tmp_path):
    folder = tmp_path / NAME
    shutil.copytree(phantom_results / NAME, folder)
    plan = folder / "fold_0/plan.json"
    plan.write_bytes(edited(plan.read_bytes(), "class_counts", value={"a | b\n# c": 3}))
    model = choose_model(ModelChoice(folder=folder, folds=("0",)))
    lines = card_of(model, checkpoint_hashes(model), None).splitlines()
    assert sum(r"a \| b \# c 3" in line for line in lines) == 1
    assert not [line for line in lines if line.startswith("# c")]


def test_members_of_the_bundle_and_the_card_agree(bundle, card):
    assert members_of(bundle)["MODEL_CARD.md"].decode() == card
