import json
import shutil
from pathlib import Path

import pytest
import torch
from inference.conftest import MODEL as NAME

from spinecls import files
from spinecls.errors import ModelError, UsageError
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.plain import from_plain
from spinecls.planning.plan import Plan
from spinecls.tasks.checkpoint import load_checkpoint, meaning_text, save_checkpoint


def set_score(model, value):
    path = model / "fold_0/validation/summary.json"
    content = files.read_json(path)
    content["classification"]["end_to_end"]["auc_macro"]["estimate"] = value
    path.write_text(json.dumps(content))


def set_seal(model, seal):
    """As if the fold had been trained at another sealing level."""
    path = model / "fold_0/checkpoint_final.pt"
    save_checkpoint(path, load_checkpoint(path) | {"seal": seal})
    set_plan_seal(model, seal)


def set_plan_seal(model, seal):
    path = model / "fold_0/plan.json"
    plan = files.read_json(path)
    plan["configurations"]["3d_fullres"]["seal"] = seal
    path.write_text(json.dumps(plan))


def test_the_only_model_is_taken(results):
    assert choose_model(ModelChoice()).path == results / NAME


def test_of_several_the_best_by_validation_is_taken(results):
    other = results / NAME.replace("AuxSeg", "Baseline")
    shutil.copytree(results / NAME, other)
    set_score(results / NAME, 0.6)
    set_score(other, 0.7)
    assert choose_model(ModelChoice()).path == other


def test_a_comparator_that_is_not_sealed_is_never_taken_unasked(results):
    other = results / NAME.replace("AuxSeg", "Open")
    shutil.copytree(results / NAME, other)
    set_seal(other, "S0")
    set_score(results / NAME, 0.6)
    set_score(other, 0.9)
    assert choose_model(ModelChoice()).path == results / NAME
    assert choose_model(ModelChoice(trainer="OpenTrainer")).path == other


@pytest.mark.parametrize("seal", ["S0", "S1"])
def test_a_model_that_is_not_sealed_must_be_named_even_if_it_is_the_only_one(results, seal):
    set_seal(results / NAME, seal)
    with pytest.raises(ModelError, match=rf"not sealed.*{NAME} \({seal}\).*-tr or -m"):
        choose_model(ModelChoice())
    assert choose_model(ModelChoice(trainer="AuxSegTrainer")).path == results / NAME
    assert choose_model(ModelChoice(folder=results / NAME)).path == results / NAME


def test_a_sealed_model_is_preferred_to_an_open_one_of_the_same_trainer(results):
    other = results / NAME.replace("spineclsPlans", "openPlans")
    shutil.copytree(results / NAME, other)
    set_seal(other, "S1")
    set_score(results / NAME, 0.6)
    set_score(other, 0.9)
    assert choose_model(ModelChoice(trainer="AuxSegTrainer")).path == results / NAME


def test_a_plan_that_says_another_level_than_the_checkpoint_is_refused(results):
    set_plan_seal(results / NAME, "S1")
    with pytest.raises(ModelError, match=r"seal: S2 in the checkpoint, S1 in the plan.json beside it"):
        load_predictor(choose_model(ModelChoice(folder=results / NAME)), torch.device("cpu"), augment=False)


def test_a_model_of_an_earlier_version_is_sealed_by_case_numbers_and_pools_softly(results):
    path = results / NAME / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    spec = json.loads(content["spec"])
    earlier = {key: value for key, value in spec.items() if key not in ("pooling", "ordinal")}
    del content["seal"]
    save_checkpoint(path, content | {"spec": json.dumps(earlier), "sealed": 1})
    plan_path = path.with_name("plan.json")
    plan = files.read_json(plan_path)
    for key in ("seal", "pooling"):
        del plan["configurations"]["3d_fullres"][key]
    plan_path.write_text(json.dumps(plan))
    predictor = load_predictor(choose_model(ModelChoice()), torch.device("cpu"), augment=False)
    assert predictor.configuration.seal == "S2"
    assert {type(reader.pooling).__name__ for reader in predictor.models[0].readers} == {"LogSumExpPooling"}


def test_a_checkpoint_of_one_network_for_all_is_refused_with_its_version(results):
    path = results / NAME / "fold_0/checkpoint_final.pt"
    content = load_checkpoint(path)
    spec = {k: v for k, v in json.loads(content["spec"]).items() if k not in ("reader", "members", "reader_heads")}
    save_checkpoint(path, content | {"spec": json.dumps(spec), "spinecls_version": "0.0.9"})
    with pytest.raises(ModelError, match=r"earlier version \(0\.0\.9\), in which one network did all.*Train again"):
        load_predictor(choose_model(ModelChoice()), torch.device("cpu"), augment=False)


def test_folds_with_other_numbers_of_readers_are_not_averaged(results):
    model = results / NAME
    shutil.copytree(model / "fold_0", model / "fold_1")
    path = model / "fold_1/checkpoint_final.pt"
    content = load_checkpoint(path)
    weights = {key: w for key, w in content["weights"].items() if not key.startswith("readers.")}
    spec = json.loads(content["spec"]) | {"members": 0}
    save_checkpoint(path, content | {"spec": json.dumps(spec), "weights": weights})
    with pytest.raises(ModelError, match="members: 2 in fold 0, 0 in fold 1"):
        load_predictor(choose_model(ModelChoice()), torch.device("cpu"), augment=False)


def test_a_model_that_does_not_exist_is_named_with_those_that_do(results):
    with pytest.raises(ModelError, match=f"trainer NoTrainer.*{NAME}"):
        choose_model(ModelChoice(trainer="NoTrainer"))


def test_models_of_two_datasets_are_not_chosen_between(results):
    shutil.copytree(results, results.parent / "Dataset002_Other")
    with pytest.raises(ModelError, match="Choose one by -d"):
        choose_model(ModelChoice())


def test_folds_trained_by_other_numbers_are_not_averaged(results):
    model = results / NAME
    shutil.copytree(model / "fold_0", model / "fold_1")
    plan = json.loads((model / "fold_1/plan.json").read_text())
    plan["configurations"]["3d_fullres"]["sealing_margin_mm"] = 5.0
    (model / "fold_1/plan.json").write_text(json.dumps(plan))
    with pytest.raises(ModelError, match="sealing_margin_mm"):
        load_predictor(choose_model(ModelChoice()), torch.device("cpu"), augment=False)


def test_a_prevalence_needs_classes(results):
    path = results / NAME / "fold_0/plan.json"
    plan = json.loads(path.read_text()) | {"class_names": [], "class_counts": {}, "lesion_structures": {}}
    path.write_text(json.dumps(plan))
    checkpoint = path.with_name("checkpoint_final.pt")
    content = load_checkpoint(checkpoint)
    spec = json.loads(content["spec"]) | {"num_classes": 0, "members": 0}
    weights = {key: w for key, w in content["weights"].items() if not key.startswith("readers.")}
    told = meaning_text(from_plain(Plan, plan, ""), from_plain(Plan, plan, "").configuration("3d_fullres"))
    save_checkpoint(checkpoint, content | {"spec": json.dumps(spec), "weights": weights, "meaning": told})
    with pytest.raises(UsageError, match="trained without classes"):
        load_predictor(choose_model(ModelChoice()), torch.device("cpu"), augment=False, prevalence={"normal": 1.0})


def test_a_file_that_holds_code_is_refused_and_not_run(results, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_here"), "w"))

    torch.save({"weights": Evil()}, results / NAME / "fold_0/checkpoint_final.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        load_predictor(choose_model(ModelChoice()), torch.device("cpu"), augment=False)
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("nowhere", r"-m nowhere: not a model folder, there is no such folder"),
        ("mine", r"<trainer>__<plans>__<configuration>, as in .*\. Give it its name back"),
        (f"{NAME}/fold_0", rf"a fold of a model\. Write -m {NAME} -f 0"),
        (".", r"not a model folder with a finished fold"),
    ],
)
def test_a_folder_that_is_no_model_is_told_for_what_it_is(folder, told, results, monkeypatch):
    monkeypatch.chdir(results)
    shutil.copytree(NAME, "mine")
    with pytest.raises(ModelError, match=told):
        choose_model(ModelChoice(folder=Path(folder)))


def test_a_near_miss_of_a_trainer_or_configuration_is_told(results):
    with pytest.raises(ModelError, match=r"Did you mean AuxSegTrainer\? Did you mean 3d_fullres\?"):
        choose_model(ModelChoice(trainer="AuxSegTrainr", configuration="3d_fulres"))
