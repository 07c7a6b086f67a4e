"""A model that was exported and imported is the model."""

import json
import shutil
import zipfile

import pytest
import torch
from bundles import edited, listing, members_of, pack
from conftest import HEAT, NAME
from safetensors.torch import load
from sharing_calibration import made_up_calibration
from support import run_cli

from spinecls import files
from spinecls.calibration.record import save_calibration
from spinecls.errors import ModelError, UsageError
from spinecls.inference.models import ModelChoice, TrainedModel, checkpoint_hashes, choose_model, load_predictor
from spinecls.sharing.export import export_model
from spinecls.sharing.install import import_model
from spinecls.tasks.checkpoint import load_checkpoint, model_hash, save_checkpoint


@pytest.fixture
def copy(phantom_results, empty):
    """A copy of the model for the test to change."""
    folder = empty / "mine" / NAME
    shutil.copytree(phantom_results / NAME, folder)
    return folder


def chosen(folder, *folds):
    return choose_model(ModelChoice(folder=folder, folds=folds))


def predict(model, phantom, target, *options):
    source = target.parent / "in"
    source.mkdir(exist_ok=True)
    image = sorted((phantom / "raw/Dataset001_Phantom/imagesTs").iterdir())[0]
    shutil.copy(image, source)
    assert run_cli("predict", "-i", source, "-o", target, "-m", model, "-device", "cpu", "--disable_tta", *options) == 0


def test_original_and_imported_model_predict_the_same_files(bundle, phantom_results, phantom, empty):
    imported = import_model(bundle)
    predict(phantom_results / NAME, phantom, empty / "before", "--save_probabilities")
    predict(imported.path, phantom, empty / "after", "--save_probabilities")
    assert listing(empty / "before") == listing(empty / "after")
    assert "model.json" in listing(empty / "after")
    assert len(files.read_csv(empty / "after/predictions.csv")) > 0


def test_predictions_of_the_original_are_continued_by_the_imported_model(bundle, phantom_results, phantom, empty):
    predict(phantom_results / NAME, phantom, empty / "out")
    case = next(path for path in (empty / "out").glob("*.nii.gz"))
    before = case.stat().st_mtime_ns
    predict(import_model(bundle).path, phantom, empty / "out", "--continue_prediction")
    assert case.stat().st_mtime_ns == before


def test_the_imported_model_is_found_without_options(bundle, empty):
    imported = import_model(bundle)
    assert imported == TrainedModel(
        empty / "results", "Dataset001_Phantom", "AuxSegTrainer", "spineclsPlans", "3d_fullres", ("0", "1")
    )
    assert choose_model(ModelChoice()) == imported


def test_a_model_of_a_trainer_that_is_not_here_predicts(members, phantom, empty):
    foreign = {**members, "model.json": edited(members["model.json"], "trainer", value="SomebodysTrainer")}
    (empty / "model.spinecls").write_bytes(pack(foreign))
    imported = import_model(empty / "model.spinecls")
    predict(imported.path, phantom, empty / "out")
    assert files.read_json(empty / "out/model.json")["trainer"] == "SomebodysTrainer"


def test_weights_and_description_are_the_same_to_the_bit(bundle, model, empty):
    imported = import_model(bundle)
    for fold in model.folds:
        name = f"fold_{fold}/checkpoint_final.pt"
        before, after = load_checkpoint(model.path / name), load_checkpoint(imported.path / name)
        assert before.keys() == after.keys()
        assert {k: v for k, v in before.items() if k != "weights"} == {k: v for k, v in after.items() if k != "weights"}
        assert before["weights"].keys() == after["weights"].keys()
        assert all(torch.equal(tensor, after["weights"][key]) for key, tensor in before["weights"].items())


def test_every_reader_is_carried_and_none_for_another(bundle, model, empty):
    predictors = [load_predictor(m, torch.device("cpu"), augment=False) for m in (model, import_model(bundle))]
    crops = torch.rand(2, 2, *predictors[0].configuration.sealed_size)
    for before, after in zip(*(predictor.models for predictor in predictors), strict=True):
        assert len(before.readers) == len(after.readers) == 2
        with torch.inference_mode():
            logits = [[r.sealed_pass(crops)[0] for r in one.readers] for one in (before, after)]
        assert all(torch.equal(x, y) for x, y in zip(*logits, strict=True))
        assert not torch.equal(*logits[0])


def test_the_imported_checkpoint_holds_every_tensor_once(bundle, model, empty):
    imported = import_model(bundle)
    sizes = [(m.path / "fold_0/checkpoint_final.pt").stat().st_size for m in (model, imported)]
    assert sizes[1] < 1.01 * sizes[0]


def test_two_exports_have_the_same_bytes(bundle, model, empty):
    export_model(model, empty / "again.spinecls")
    assert (empty / "again.spinecls").read_bytes() == bundle.read_bytes()


def test_a_fold_that_was_begun_since_changes_nothing(copy, empty):
    export_model(chosen(copy), empty / "one.spinecls")
    plan = files.read_json(copy / "plan.json")
    plan["overrides"] = {"steps": "400"}
    files.write_json(copy / "plan.json", plan)
    export_model(chosen(copy), empty / "two.spinecls")
    assert (empty / "one.spinecls").read_bytes() == (empty / "two.spinecls").read_bytes()


def test_an_imported_model_is_exported_to_the_same_bytes(bundle, empty):
    export_model(import_model(bundle), empty / "again.spinecls")
    assert (empty / "again.spinecls").read_bytes() == bundle.read_bytes()


def test_the_order_in_which_folds_are_named_changes_nothing(bundle, phantom_results, empty):
    export_model(chosen(phantom_results / NAME, "1", "0", "1"), empty / "again.spinecls")
    assert (empty / "again.spinecls").read_bytes() == bundle.read_bytes()


def test_the_bundle_holds_json_text_and_tensors_only(bundle):
    with zipfile.ZipFile(bundle) as archive:
        assert archive.namelist() == [
            "MODEL_CARD.md",
            *(f"fold_{k}/{n}" for k in "01" for n in ("model.json", "model.safetensors", "plan.json", "summary.json")),
            "model.json",
            "plan.json",
            "SHA256SUMS",
        ]
        for name in archive.namelist():
            if name.endswith(".json"):
                json.loads(archive.read(name))
            elif name.endswith(".safetensors"):
                assert HEAT in load(archive.read(name))
            else:
                archive.read(name).decode()


def test_names_of_cases_readers_sites_and_paths_stay_at_home(copy, empty):
    fold = copy / "fold_0"
    run = files.read_json(fold / "run.json")
    run |= {"cases": ["CANARY_case"], "unlabelled": ["CANARY_scan"], "pretrained": {"file": "/home/CANARY/x.pt"}}
    files.write_json(fold / "run.json", run)
    summary = fold / "validation/summary.json"
    text = edited(summary.read_bytes(), "predicted", value=["CANARY_validated"])
    summary.write_bytes(edited(text, "classification", "by_site", value={"CANARY_hospital": {"vertebrae": 3}}))
    for path in (copy / "plan.json", fold / "plan.json"):
        path.write_bytes(edited(path.read_bytes(), "readers", value=["CANARY_reader_1", "CANARY_reader_2"]))
    export_model(chosen(copy), empty / "model.spinecls")
    content = (empty / "model.spinecls").read_bytes()
    assert b"CANARY" not in content
    # Members are not compressed, so that the search above sees what they say.
    assert b"BaselineTrainer" not in content
    assert b"AuxSegTrainer" in content
    assert str(empty).encode() not in content
    # These are named in the files of the training.
    assert b"phantom_000" not in content
    assert json.loads(members_of(empty / "model.spinecls")["fold_0/summary.json"])["classification"]["by_site"] == {
        "site 1": {"vertebrae": 3}
    }


def test_the_calibration_is_carried_byte_for_byte_and_used(copy, empty, caplog):
    made = made_up_calibration(chosen(copy))
    save_calibration(copy / "calibration.json", made)
    export_model(chosen(copy), empty / "model.spinecls")
    imported = import_model(empty / "model.spinecls")
    assert (imported.path / "calibration.json").read_bytes() == (copy / "calibration.json").read_bytes()
    assert load_predictor(imported, torch.device("cpu"), augment=True).calibration == made
    assert "not calibrated" not in caplog.text


def test_a_calibration_of_other_weights_stays_at_home(copy, empty, caplog):
    save_calibration(copy / "calibration.json", made_up_calibration(chosen(copy)))
    shutil.copy(copy / "fold_0/checkpoint_final.pt", copy / "fold_1/checkpoint_final.pt")
    card = export_model(chosen(copy), empty / "model.spinecls")
    assert "calibration.json" not in members_of(empty / "model.spinecls")
    assert "Uncalibrated" in card
    assert "trained again" in caplog.text


def test_chosen_folds_alone_are_exported(copy, empty):
    export_model(chosen(copy, "1"), empty / "model.spinecls")
    assert import_model(empty / "model.spinecls").folds == ("1",)
    assert not (empty / "results" / NAME / "fold_0").exists()


def test_a_model_without_validation_and_records_is_exported(copy, empty):
    (copy / "fold_0").rename(copy / "fold_all")
    shutil.rmtree(copy / "fold_1")
    shutil.rmtree(copy / "fold_all/validation")
    (copy / "fold_all/run.json").unlink()
    card = export_model(chosen(copy), empty / "model.spinecls")
    assert "No fold was validated" in card
    imported = import_model(empty / "model.spinecls")
    assert imported.folds == ("all",)
    assert not (imported.path / "fold_all/validation").exists()


def test_a_checkpoint_of_an_earlier_version_is_exported(copy, empty):
    path = copy / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    spec = json.loads(content["spec"])
    earlier = {key: value for key, value in spec.items() if key not in ("pooling", "ordinal")}
    del content["seal"]
    save_checkpoint(path, content | {"spec": json.dumps(earlier), "sealed": 1})
    export_model(chosen(copy), empty / "model.spinecls")
    imported = import_model(empty / "model.spinecls")
    assert checkpoint_hashes(imported) == checkpoint_hashes(chosen(copy))


def test_a_card_that_was_filled_in_goes_into_the_bundle(copy, empty):
    card = export_model(chosen(copy), empty / "model.spinecls").replace("TO FILL", "Berlin, 2026")
    (copy / "MODEL_CARD.md").write_text(card)
    assert export_model(chosen(copy), empty / "model.spinecls") == card
    assert (import_model(empty / "model.spinecls").path / "MODEL_CARD.md").read_text() == card


def test_a_card_about_other_weights_is_refused(copy, empty):
    (copy / "MODEL_CARD.md").write_text(export_model(chosen(copy), empty / "model.spinecls"))
    path = copy / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"][HEAT] += 1
    save_checkpoint(path, content)
    before = listing(empty)
    with pytest.raises(ModelError, match="other weights"):
        export_model(chosen(copy), empty / "model.spinecls")
    assert listing(empty) == before


@pytest.mark.parametrize("folder", ["Phantom", "Dataset001_Rücken", "Dataset001_a__b"])
def test_a_dataset_whose_name_others_cannot_take_is_not_exported(copy, empty, folder):
    moved = copy.parent.rename(copy.parent.with_name(folder)) / copy.name
    with pytest.raises(ModelError, match="dataset"):
        export_model(chosen(moved), empty / "model.spinecls")
    assert not (empty / "model.spinecls").exists()


def test_a_model_that_could_not_be_imported_is_not_exported(copy, empty):
    path = copy / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"][HEAT][0] = float("nan")
    save_checkpoint(path, content)
    before = listing(empty)
    with pytest.raises(ModelError, match="not finite"):
        export_model(chosen(copy), empty / "model.spinecls")
    assert listing(empty) == before


@pytest.mark.parametrize("name", ["image.nii.gz", "model.zip", "model"])
def test_no_other_kind_of_file_is_overwritten(model, empty, name):
    (empty / name).write_text("mine")
    with pytest.raises(UsageError, match=r"ends with \.spinecls"):
        export_model(model, empty / name)
    assert (empty / name).read_text() == "mine"


def test_the_hash_of_a_checkpoint_does_not_depend_on_its_packing(model, empty):
    content = load_checkpoint(model.path / "fold_0/checkpoint_final.pt")
    weights = {name: tensor.clone() for name, tensor in reversed(content["weights"].items())}
    torch.save(content | {"weights": weights}, empty / "other_name.pt")
    again = load_checkpoint(empty / "other_name.pt")
    assert (empty / "other_name.pt").stat().st_size > (model.path / "fold_0/checkpoint_final.pt").stat().st_size
    assert model_hash(again, empty) == model_hash(content, empty)


def test_the_hash_of_a_checkpoint_tells_weights_types_sealing_and_network_apart(model, empty):
    content = load_checkpoint(model.path / "fold_0/checkpoint_final.pt")
    name, tensor = next(iter(content["weights"].items()))
    nudged = tensor.clone()
    nudged.view(-1)[0] = torch.nextafter(nudged.view(-1)[0], torch.tensor(9.0))
    variants = [
        content,
        content | {"weights": {**content["weights"], name: nudged}},
        content | {"weights": {**content["weights"], name: tensor.double()}},
        content | {"weights": {**content["weights"], name: tensor.flatten()}},
        content | {"seal": "S3"},
        content | {"spec": content["spec"].replace('"lse"', '"extent"')},
    ]
    assert len({model_hash(variant, empty) for variant in variants}) == len(variants)


def test_weights_that_half_precision_can_hold_are_stored_in_it_and_come_back_whole(copy, empty):
    path = copy / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    content["weights"] = {name: tensor.half().float() for name, tensor in content["weights"].items()}
    save_checkpoint(path, content)
    export_model(chosen(copy, "0"), empty / "model.spinecls")
    with zipfile.ZipFile(empty / "model.spinecls") as archive:
        stored = load(archive.read("fold_0/model.safetensors"))
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    imported = load_checkpoint(import_model(empty / "model.spinecls").fold("0").final)["weights"]
    assert all(torch.equal(imported[name], tensor) for name, tensor in content["weights"].items() if name in imported)
    assert imported[HEAT].dtype == torch.float32


def test_other_weights_are_stored_as_they_are(members):
    stored = load(members["fold_0/model.safetensors"])
    assert torch.float32 in {tensor.dtype for tensor in stored.values()}
