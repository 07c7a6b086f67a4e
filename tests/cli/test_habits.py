"""What users of nnU-Net type out of habit, and near misses: each is refused with the line that says what to write.

Guards against an option that is taken for another (`-chk x` was read as `-c hk x`), and against a refusal that leaves a
person to guess.
"""

import pytest
from support import run_cli

from spinecls.cli.commands import COMMANDS
from spinecls.cli.common import options_of
from spinecls.cli.habits import ANY, HABITS, instead_of_command
from spinecls.cli.main import function_of, umbrella

NNUNET = {
    "plan_and_preprocess": (
        "-fpe -npfp --no_pp --clean -pl -preprocessor_name -overwrite_target_spacing -overwrite_plans_name --verbose "
        "--no_pbar -d -c -np -gpu_memory_target --verify_dataset_integrity"
    ),
    "extract_fingerprint": "-d -fpe -np --verify_dataset_integrity --clean --verbose --no_pbar",
    "plan_experiment": "-d -pl -gpu_memory_target -preprocessor_name -overwrite_target_spacing -overwrite_plans_name",
    "preprocess": "-d -plans_name -c -np --verbose --no_pbar",
    "train": (
        "-tr -p -pretrained_weights -num_gpus --npz --c --val --val_best --disable_checkpointing -device "
        "--from_scratch -overwrite_ckpt_path --only_run_validation"
    ),
    "predict": (
        "-i -o -d -c -p -tr -f -m -step_size --disable_tta --verbose --save_probabilities --continue_prediction "
        "--c -chk -npp -nps -prev_stage_predictions -num_parts -part_id -device --disable_progress_bar --not_on_device"
    ),
    "find_best_configuration": "-p -c -tr -np -f --disable_ensembling --no_overwrite",
    "ensemble": "-i -o -np --save_npz",
    "evaluate": "-djfile -pfile -o -np --chill -l -il",
    "export_model": "-d -o -c -tr -p -f -chk --not_strict --exp_cv_preds",
}
"""Options of each command of nnU-Net v2 2.8.1, under the name that the command has here."""

REMEDIES = ("leave it out", "write ", "there is", "there are", "its place is", "run ", "what changed", "give all")


def options(word):
    _, several = COMMANDS[word]
    return options_of(function_of(word), word, several)


@pytest.mark.parametrize(
    ("word", "option"), [(word, option) for word, names in NNUNET.items() for option in names.split()]
)
def test_every_option_of_nnunet_is_known_or_replaced(word, option, capfd):
    known = options(word)
    if option in known.valued or option in known.flags:
        return
    assert run_cli(word, option, "3") == 2
    told = capfd.readouterr().err
    assert told.startswith(f"Error: {option}: not an option of spinecls_{word}; ")
    assert any(remedy in told for remedy in REMEDIES), told


@pytest.mark.parametrize("option", HABITS)
def test_no_option_that_a_command_has_is_called_foreign(option):
    for word in COMMANDS:
        if word in HABITS[option] or ANY in HABITS[option]:
            known = options(word)
            assert option not in known.valued
            assert option not in known.flags


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("predict -i a -o b -chk checkpoint_best.pth", "-chk: not an option of spinecls_predict; prediction takes the"),
        ("predict -i a -o b --disable_ta", "Did you mean --disable_tta?"),
        ("predict -i a -o b --DISABLE_TTA", "Did you mean --disable_tta?"),
        ("predict -i a -o b -cuda", "-cuda: spinecls_predict has no such option."),
        ("predict -i a -o --disable_tta", "-o: needs a value, and the option --disable_tta follows."),
        ("predict -i a -o", "-o: needs a value, and nothing follows."),
        ("predict -i a -o b c", "c: a word too many. -o takes one value."),
        ("predict -i a -o b -o c", "-o: given twice."),
        ("predict -i a -o b --disable_tta=yes", "--disable_tta takes no value."),
        ("plan_and_preprocess -d1", "Did you mean -d 1?"),
        ("plan_and_preprocess -d 1 -np 8 4 8", "4: a word too many. -np takes one value."),
        ("plan_and_preprocess -d 1 -np many", "-np many: expected a whole number."),
        ("plan_and_preprocess -d 1 -np 2.5", "-np 2.5: expected a whole number."),
        ("plan_and_preprocess -d 1 -np 10000", "-np"),
        ("plan_and_preprocess -d 1 -np 0", "-np"),
        ("plan_and_preprocess -d 1 -np -3", "-np"),
        ("plan_and_preprocess -d 1 --time_budget nan", "--time_budget nan: expected a number."),
        ("plan_and_preprocess -d 1 --time_budget inf", "--time_budget inf: expected a number."),
        ("plan_and_preprocess -d 1 --time_budget 0", "--time_budget"),
        ("plan_and_preprocess -d 1 --time_budget -5", "--time_budget"),
        ("plan_and_preprocess -d 1 -gpu_memory_target 0", "nor one of M, L, XL"),
        ("plan_and_preprocess -d 1 -gpu_memory_target nan", "nor one of M, L, XL"),
        ("plan_and_preprocess -d 1 -c 3d_fulres", "Did you mean 3d_fullres?"),
        ("plan_and_preprocess -d 1 --set stepps=3", "Did you mean steps?"),
        ("plan_and_preprocess -d 1 --set steps=3 steps=4", "--set steps: given twice."),
        ("train 1 3d_fullres 0 -device cudaa", "Did you mean cuda?"),
        ("train 1 3d_fullres 0 -device gpu", "Did you mean cuda?"),
        ("train 1 3d_fullres 0 -device xpu", "Write one of cpu, cuda, cuda:1, mps."),
        ("train 1 3d_fullres 0 --seed -1", "--seed"),
        ("train 1 3d_fullres 0 --seed 1180591620717411303424", "--seed"),
        ("train 1 3d_fullres 0 --seed 1.5", "--seed 1.5: expected a whole number."),
        ("train 1 3d_fullres 0 -num_gpus two", "-num_gpus two: expected a whole number."),
        ("loosen -d 1 -o x/y --form box --slack_mm 1 a", "--slack_mm a: expected a number."),
        ("loosen -d 1 -o x/y --form boks", "Did you mean box?"),
        ("simulate -d 1 -o x/y --task nominl", "Did you mean nominal?"),
        ("evaluate -i a -gt 1 --split Tx", "'Tr', 'Ts'"),
        ("compare 1 -tr A B -np -1", "-np"),
    ],
)
def test_a_slip_of_the_pen_is_told_and_nothing_is_begun(words, said, roots, capfd, monkeypatch):
    monkeypatch.chdir(roots)
    (roots / "raw" / "Dataset001_Any").mkdir()
    assert run_cli(*words.split()) == 2
    told = capfd.readouterr()
    assert said in told.err, told.err
    assert not told.out
    assert sorted(path.name for path in roots.iterdir()) == ["preprocessed", "raw", "results"]


@pytest.mark.parametrize("words", [("-d", ""), ("-d", "1", "-c", " "), ("-d", "1", "-p", "")])
def test_an_empty_word_is_told_with_its_option(words, capfd):
    assert run_cli("plan_and_preprocess", *words) == 2
    assert f"Error: {words[-2]} '': is empty." in capfd.readouterr().err


def test_values_behind_an_equals_sign_are_values(roots, capfd):
    # A parser of short options would look for dataset `=77`.
    assert run_cli("plan_and_preprocess", "-d=77") == 3
    assert "Dataset 77: not found" in capfd.readouterr().err


def spoken(monkeypatch, capfd, *words):
    monkeypatch.setattr("sys.argv", ["spinecls", *words])
    with pytest.raises(SystemExit) as left:
        umbrella()
    return left.value.code or 0, capfd.readouterr()


@pytest.mark.parametrize("words", [("version",), ("--version",), ("-V",), ("train", "--version"), ("train", "-V")])
def test_the_version_is_told_in_every_way_of_asking(words, monkeypatch, capfd):
    code, told = spoken(monkeypatch, capfd, *words)
    assert (code, told.out) == (0, "spinecls 0.1.0\n")


@pytest.mark.parametrize("words", [("help",), ("--help",), ("-h",)])
def test_help_names_every_command(words, monkeypatch, capfd):
    code, told = spoken(monkeypatch, capfd, *words)
    assert code == 0
    assert all(word in told.out for word in COMMANDS)


@pytest.mark.parametrize(
    "words", [("help", "train"), ("--help", "train"), ("train", "-h"), ("spinecls_train", "-h"), ("help", "train", "x")]
)
def test_help_of_a_command_is_told_in_every_way_of_asking(words, monkeypatch, capfd):
    code, told = spoken(monkeypatch, capfd, *words)
    assert code == 0
    assert told.out.startswith("Usage: spinecls_train ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", "Did you mean train?"),
        ("Train", "Did you mean train?"),
        ("nnUNetv2_predict_from_modelfolder", "write spinecls_predict -m FOLDER"),
        ("evaluate_folder", "write spinecls_evaluate -i PREDICTIONS -gt DATASET"),
    ],
)
def test_a_command_that_is_not_there_is_told_with_the_one_that_is(word, said, monkeypatch, capfd):
    code, told = spoken(monkeypatch, capfd, word)
    assert code == 2
    assert said in told.err
    assert not told.out


@pytest.mark.parametrize(
    "word",
    ["train_pretrained", "accumulate_crossval_results", "determine_postprocessing", "apply_postprocessing",
     "evaluate_simple", "plot_overlay_pngs", "move_plans_between_datasets", "export_model_to_zip",
     "install_pretrained_model_from_zip", "download_pretrained_model_by_url", "convert_old_nnUNet_dataset",
     "convert_MSD_dataset", "preprocess_like_nnssl", "plan_like_dynamic"],
)  # fmt: skip
def test_every_command_of_nnunet_is_known_or_replaced(word):
    assert instead_of_command(f"nnUNetv2_{word}")


def test_nothing_typed_is_wrong_usage(monkeypatch, capfd):
    code, told = spoken(monkeypatch, capfd)
    assert code == 2
    assert not told.out
    assert "Usage" in told.err
