"""A second round: what is taken from the first, what training sees of it, where it goes, and what is refused."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from support import plan_phantom, run_cli, set_roots
from test_uncertain import PLANS_CONFIG, first_batch

from spinecls import files
from spinecls.errors import UsageError
from spinecls.inference.models import ModelChoice, choose_model
from spinecls.io.predictions import write_case_json
from spinecls.io.preprocessed import StoredCases
from spinecls.io.preprocessed_records import read_native
from spinecls.model_folder import model_folder_at
from spinecls.planning.plan import load_plan, save_plan
from spinecls.records import CasePrediction, VertebraPrediction
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.second_round import refinement
from spinecls.trainers.trainer import RunSettings
from spinecls.trainers.training_data import load_training_data

NAMES = ("normal", "inflammatory", "structural")
SAID = {"normal": (0.8, 0.1, 0.1), "inflammatory": (0.1, 0.8, 0.1), "structural": (0.1, 0.1, 0.8)}
OF_A_SET = (0.2, 0.6, 0.2)
TRAINER = "UncertainLabelsTrainer"


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory):
    """Roots with five preprocessed phantoms; of every case the third class is `normal|inflammatory`."""
    from spinecls.testing.phantom import write_dataset

    root = tmp_path_factory.mktemp("doubtful")
    raw = root / "raw/Dataset001_Phantom"
    write_dataset(raw, 5, seed=4)
    rows, seen = files.read_csv(raw / "vertebraeTr.csv"), Counter()
    for row in rows:
        # The first ones may be cut off by the image, which widens labels as well.
        row["class"] = "normal|inflammatory" if seen[row["case"]] == 2 else row["class"]
        seen[row["case"]] += 1
    # Numbers, or the writer would guard negative ones as if they were formulas.
    numbers = [{k: float(v) if k.endswith("_mm") and v else v for k, v in row.items()} for row in rows]
    files.write_csv(raw / "vertebraeTr.csv", list(rows[0]), numbers)
    plan_phantom(root)
    with pytest.MonkeyPatch.context() as patch:
        set_roots(patch, root)
        write_first_round(root)
    return root


@pytest.fixture
def roots(doubtful, tmp_path, monkeypatch):
    """The same with results of the test's own, that hold the first round."""
    set_roots(monkeypatch, doubtful, results=tmp_path / "results")
    shutil.copytree(doubtful / "results", tmp_path / "results")
    return doubtful


def preprocessed_of(root):
    return root / "preprocessed/Dataset001_Phantom"


def model_of(results, name=TRAINER):
    return results / f"Dataset001_Phantom/{name}__spineclsPlans__3d_fullres"


def vertebrae_of(root, case):
    return read_native(preprocessed_of(root), case).vertebrae


def write_first_round(root):
    """Untrained folds with predictions that share all labels."""
    plan = load_plan(preprocessed_of(root) / "spineclsPlans.json")
    folder = model_of(root / "results")
    for number, split in enumerate(files.read_json(preprocessed_of(root) / "splits_final.json")):
        fold = folder / f"fold_{number}"
        (fold / "validation").mkdir(parents=True)
        run = RunSettings(fold, torch.device("cpu"), seed=number, show_progress=False)
        find_trainer(TRAINER)(plan, plan.configuration("3d_fullres"), run).save_final()
        save_plan(fold / "plan.json", plan)
        files.write_json(fold / "run.json", {"cases": split["train"]})
        files.write_csv(fold / "validation/vertebrae.csv", ["case", "level", "found"], [])
        files.write_json(fold / "validation/summary.json", {})
        for case in split["val"]:
            write_prediction(root, fold / "validation", case)
    save_plan(folder / "plan.json", plan)


def write_prediction(root, folder, case, said=SAID):
    found = []
    for vertebra in vertebrae_of(root, case):
        classes = vertebra.readings[0].classes
        found.append(
            VertebraPrediction(
                level=vertebra.level, level_probability=0.9, runner_up="L1", runner_up_probability=0.1,
                centre_lps=(0.0, 0.0, 0.0), box_lps=((0.0,) * 3, (1.0,) * 3), score=1.0,
                class_probabilities=said[classes[0]] if len(classes) == 1 else OF_A_SET, prediction_set=(), entropy=0.5,
                visible_fraction=1.0, region={},
            )
        )  # fmt: skip
    write_case_json(folder, CasePrediction(identifier=case, class_names=NAMES, vertebrae=tuple(found), model={}))


def refined_by(root, results, fold="0"):
    train, _ = fold_cases(preprocessed_of(root), fold)
    return refinement(model_folder_at(model_of(results)), preprocessed_of(root), train, NAMES)


def loaded(root, expected):
    folder = preprocessed_of(root)
    plan = load_plan(folder / "spineclsPlans.json")
    train, _ = fold_cases(folder, "0")
    configuration = plan.configuration("3d_fullres")
    return load_training_data(
        StoredCases(folder, PLANS_CONFIG, train), plan, configuration, masks=True, beliefs=True, expected=expected
    )


def test_training_cases_are_expected_to_be_what_the_fold_said_that_held_them_out(roots, tmp_path):
    train, validation = fold_cases(preprocessed_of(roots), "0")
    made = refined_by(roots, tmp_path / "results")
    assert sorted(made.expected) == sorted(train)
    assert not set(made.expected) & set(validation)
    vertebra = next(v for v in vertebrae_of(roots, train[0]) if len(v.readings[0].classes) > 1)
    assert made.expected[train[0]][vertebra.level] == pytest.approx(OF_A_SET)
    assert (made.sets, made.refined) == (len(train), len(train))


def test_labels_that_the_models_share_ask_for_the_plain_loss(roots, tmp_path):
    made = refined_by(roots, tmp_path / "results")
    assert (made.noise_rate, made.q) == (0.0, 0.0)


def contradict(root, results):
    """Let the first round take every structural vertebra for a normal one."""
    said = {**SAID, "structural": SAID["normal"]}
    for number in range(5):
        for case in fold_cases(preprocessed_of(root), str(number))[1]:
            write_prediction(root, model_of(results) / f"fold_{number}/validation", case, said)


def test_misnamed_vertebrae_are_not_refined(roots, tmp_path):
    fold = model_of(tmp_path / "results") / "fold_1"
    case = fold_cases(preprocessed_of(roots), "1")[1][0]
    level = next(v.level for v in vertebrae_of(roots, case) if len(v.readings[0].classes) > 1)
    rows = [{"case": case, "level": level, "found": "misnamed"}]
    files.write_csv(fold / "validation/vertebrae.csv", ["case", "level", "found"], rows)
    made = refined_by(roots, tmp_path / "results")
    assert level not in made.expected[case]
    assert made.refined == made.sets - 1


def test_training_sees_refined_sets_and_others_as_they_were_read(roots, tmp_path):
    plain = loaded(roots, None).sealed
    sharper = loaded(roots, refined_by(roots, tmp_path / "results").expected).sealed
    assert len(plain) == len(sharper)
    for before, after in zip(plain, sharper, strict=True):
        assert after.label.weight == pytest.approx(before.label.weight)
        if before.label.singletons().any():
            assert after.label.singletons() == pytest.approx(before.label.singletons())
        else:
            # Normal and inflammatory have 1/4 and 3/4 of the set, of which half moves.
            assert after.label.singletons() == pytest.approx(before.label.weight * np.array([1 / 8, 3 / 8, 0]))


def test_batches_of_refined_labels_are_learnt_from(roots, tmp_path):
    data = loaded(roots, refined_by(roots, tmp_path / "results").expected)
    plan = load_plan(preprocessed_of(roots) / "spineclsPlans.json")
    configuration = plan.configuration("3d_fullres")
    trainer = find_trainer(TRAINER)(plan, configuration, RunSettings(tmp_path, torch.device("cpu")))
    reader = trainer.parts[1]
    reader.begin()
    batch = first_batch(trainer, data, sealed=True)
    assert np.isfinite(reader.train_step(batch, reader.first_step, 0, trainer.gradient_log)["class"])


def train(*words):
    return run_cli("train", "1", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu", *words)


def test_the_second_round_has_a_folder_of_its_own_and_says_what_was_refined(roots, tmp_path):
    first = model_of(tmp_path / "results")
    before = (first / "fold_0/checkpoint_final.pt").read_bytes()
    contradict(roots, tmp_path / "results")
    assert train("--refine", "--set", "steps=2") == 0
    assert (first / "fold_0/checkpoint_final.pt").read_bytes() == before
    folder = model_of(tmp_path / "results", f"{TRAINER}Refined")
    run = files.read_json(folder / "fold_0/run.json")
    assert run["trainer"] == TRAINER
    assert run["refined"]["source"] == first.name
    assert len(run["refined"]["checkpoints"]) == 5
    assert run["refined"]["q"] > 0
    assert load_plan(folder / "fold_0/plan.json").configuration("3d_fullres").class_q == run["refined"]["q"]
    chosen = choose_model(ModelChoice(dataset="1", trainer=f"{TRAINER}Refined"))
    assert (chosen.path, chosen.folds) == (folder, ("0",))
    assert (folder / "fold_0/validation/summary.json").exists()


def test_a_refined_run_is_validated_again_without_the_first_round(roots, tmp_path):
    assert train("--refine", "--set", "steps=2") == 0
    shutil.rmtree(model_of(tmp_path / "results"))
    summary = model_of(tmp_path / "results", f"{TRAINER}Refined") / "fold_0/validation/summary.json"
    summary.unlink()
    assert train("--refine", "--val") == 0
    assert summary.exists()


def test_a_q_of_the_user_is_kept(roots, tmp_path):
    contradict(roots, tmp_path / "results")
    assert train("--refine", "--set", "steps=2", "class_q=0") == 0
    folder = model_of(tmp_path / "results", f"{TRAINER}Refined")
    assert load_plan(folder / "fold_0/plan.json").configuration("3d_fullres").class_q == 0


def test_where_readers_are_judged_how_far_they_err_is_not_counted_twice(roots, tmp_path, monkeypatch):
    contradict(roots, tmp_path / "results")
    monkeypatch.setattr("spinecls.trainers.fold_plan.known_readers", lambda *_: ("anna", "ben", "eve"))
    monkeypatch.setattr("spinecls.trainers.fold_plan.can_be_judged", lambda *_: True)
    assert train("--refine", "--set", "steps=2") == 0
    folder = model_of(tmp_path / "results", f"{TRAINER}Refined")
    assert load_plan(folder / "fold_0/plan.json").configuration("3d_fullres").class_q == 0


def test_a_refined_run_goes_on_with_the_labels_that_it_began_with_only(roots, tmp_path, capsys):
    assert train("--refine", "--set", "steps=2") == 0
    fold = model_of(tmp_path / "results", f"{TRAINER}Refined") / "fold_0"
    (fold / "checkpoint_final.pt").unlink()
    assert train("--refine", "--c") == 0
    (fold / "checkpoint_final.pt").unlink()
    contradict(roots, tmp_path / "results")
    assert train("--refine", "--c") == 2
    assert "was refined by" in capsys.readouterr().err


def test_a_trainer_without_beliefs_is_refused(roots, capsys):
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", "AuxSegTrainer", "-device", "cpu", "--refine") == 2
    assert "does not learn from beliefs" in capsys.readouterr().err


def test_an_incomplete_first_round_is_refused(roots, tmp_path):
    (model_of(tmp_path / "results") / "fold_3/validation/summary.json").unlink()
    with pytest.raises(UsageError, match=r"fold 3 of .* is not validated"):
        refined_by(roots, tmp_path / "results")


def test_a_first_round_of_other_folds_is_refused(roots, tmp_path):
    run = model_of(tmp_path / "results") / "fold_2/run.json"
    files.write_json(run, {"cases": fold_cases(preprocessed_of(roots), "1")[0]})
    with pytest.raises(UsageError, match="not trained on the present fold 2"):
        refined_by(roots, tmp_path / "results")


def test_a_dataset_without_classes_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no classes"):
        refinement(model_folder_at(tmp_path / "T__P__C"), tmp_path, [], ("normal",))


def test_a_first_round_of_other_classes_is_refused(roots, tmp_path):
    cases, _ = fold_cases(preprocessed_of(roots), "0")
    with pytest.raises(UsageError, match="was trained on the classes normal, inflammatory, structural"):
        refinement(model_folder_at(model_of(tmp_path / "results")), preprocessed_of(roots), cases, NAMES[:2])
