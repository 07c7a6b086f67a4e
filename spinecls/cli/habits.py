"""What users of nnU-Net type that spinecls does not have, and what to write instead."""

from __future__ import annotations

ANY = "any command"

PLANNING = ("plan_and_preprocess", "extract_fingerprint", "plan_experiment", "preprocess")
PREDICTING = ("predict",)
CHOOSING = ("predict", "export_model", "verify_evidence", "audit", "find_best_configuration")
TRAINING = ("train", "compare")

_TRAINING_WORDS = "its place is a word without option: spinecls_train DATASET CONFIGURATION FOLD, as in 1 3d_fullres 0"
_SPEAKS = "progress goes to standard error and results to standard output; leave it out (2> /dev/null silences)"
_SETTING = "is a planned number: write --set"
_ONE_CHECKPOINT = (
    "prediction takes the final checkpoint of each fold, and there is no other; leave it out (-f chooses folds)"
)
_PARTS = "move the images into as many folders and predict each into a folder of its own"
_TABLE = "classes and labels are read from the dataset of -gt; leave it out"

_ROWS: tuple[tuple[tuple[str, ...], tuple[str, ...] | str, str], ...] = (
    (("--verbose", "--no_pbar", "--disable_progress_bar"), ANY, _SPEAKS),
    (("-fpe",), PLANNING, "there is one fingerprint, with nothing to choose; leave it out"),
    (("-npfp",), PLANNING, "write -np N, which holds for measuring and preprocessing"),
    (
        ("--no_pp",),
        PLANNING,
        "run spinecls_extract_fingerprint and spinecls_plan_experiment, which stop before preprocessing, or plan with "
        "--dry_run",
    ),
    (
        ("--clean",),
        PLANNING,
        "what changed is found by the content of the files and made anew; leave it out. To judge every file again: "
        "--verify_dataset_integrity",
    ),
    (
        ("-pl",),
        PLANNING,
        "there is one planner; its presets are -gpu_memory_target M, L or XL, its numbers change by --set key=value",
    ),
    (("-preprocessor_name",), PLANNING, "there is one preprocessor; its numbers change by --set key=value"),
    (("-overwrite_target_spacing",), PLANNING, "write --set spacing_mm=4,0.6,0.6 (slice, row, column)"),
    (("-overwrite_plans_name", "-plans_name", "-sp", "-tp"), ANY, "write -p NAME"),
    (
        ("--npz",),
        TRAINING,
        "what ensembling and the choice of a configuration need is always written with the validation; leave it out",
    ),
    (("--val_best",), TRAINING, "write --val: a training has one final checkpoint, none that is best by chance"),
    (
        ("--disable_checkpointing",),
        TRAINING,
        "checkpoints are few and small, and a training that is stopped goes on from them; leave it out",
    ),
    (("-c", "--continue", "--continue_training", "--resume"), ("train",), "write --c to go on; " + _TRAINING_WORDS),
    (("-d", "-f", "--fold"), ("train",), _TRAINING_WORDS),
    (("--from_scratch",), TRAINING, "leave it out: a training starts anew unless --c or -pretrained_weights is given"),
    (("-overwrite_ckpt_path",), TRAINING, "write -pretrained_weights FILE"),
    (("--epochs", "-epochs", "--num_epochs", "--steps"), TRAINING, f"the length of a training {_SETTING} steps=4000"),
    (("--batch_size", "-batch_size", "--batch-size"), TRAINING, f"it {_SETTING} batch_size=4"),
    (("--lr", "-lr", "--learning_rate", "--initial_lr"), TRAINING, f"it {_SETTING} learning_rate=0.001"),
    (("-chk", "-checkpoint", "--checkpoint"), ANY, _ONE_CHECKPOINT),
    (
        ("-step_size", "--step_size", "-tile_step_size"),
        PREDICTING,
        "tiles overlap by half, and this is not to be set; leave it out",
    ),
    (
        ("-npp", "-nps", "-np", "--num_threads_preprocessing"),
        PREDICTING,
        "images are read, predicted and written one after the other; leave it out",
    ),
    (("-prev_stage_predictions",), PREDICTING, "there are no cascades, so no earlier stage; leave it out"),
    (("-num_parts", "-part_id"), PREDICTING, f"there are no parts; {_PARTS}"),
    (("--c", "--continue"), PREDICTING, "write --continue_prediction"),
    (("--overwrite_existing",), PREDICTING, "leave it out: only --continue_prediction keeps results that are there"),
    (("--npz", "--save_npz", "-z"), PREDICTING, "write --save_probabilities"),
    (("--not_on_device", "--perform_everything_on_gpu"), PREDICTING, "leave it out; -device cpu predicts on the CPU"),
    (("--disable_mirroring",), PREDICTING, "write --disable_tta"),
    (("--only_run_validation", "-val", "-validation_only"), ("train",), "write --val"),
    (("-np",), ("find_best_configuration", "ensemble", "evaluate"), "it runs in one process; leave it out"),
    (("--no_overwrite",), CHOOSING, "what is found is always written anew; leave it out"),
    (("--save_npz", "--npz"), ("ensemble",), "the mean cannot be averaged again; give all folders at once by -i A B C"),
    (("-djfile", "-pfile", "-plans_json", "-dataset_json", "-l", "-il"), ("evaluate", "ensemble"), _TABLE),
    (("-ref", "-gt_folder"), ("evaluate",), "write -gt DATASET: number, name or path"),
    (("--chill",), ("evaluate",), "cases without a prediction count as missed; leave it out"),
    (("--not_strict",), ("export_model",), "the finished folds are exported; leave it out (-f chooses folds)"),
    (("--exp_cv_preds",), ("export_model",), "predictions hold patients' images and are never exported; leave it out"),
    (("-pp_pkl_file",), ANY, "there is no postprocessing to apply: prediction does all; leave it out"),
    (("-channel_idx", "--use_raw", "-overlay_intensity"), ANY, "leave it out: spinecls has no pictures of overlays"),
)  # fmt: skip

_WORDS = {
    "predict_from_modelfolder": "write spinecls_predict -m FOLDER",
    "train_pretrained": "write spinecls_train with -pretrained_weights FILE",
    "accumulate_crossval_results": "write spinecls_find_best_configuration, which takes all folds together",
    "determine_postprocessing": "leave it out: there is no postprocessing to determine",
    "apply_postprocessing": "leave it out: there is no postprocessing to apply",
    "evaluate_folder": "write spinecls_evaluate -i PREDICTIONS -gt DATASET",
    "evaluate_simple": "write spinecls_evaluate -i PREDICTIONS -gt DATASET",
    "export_model_to_zip": "write spinecls_export_model",
    "install_pretrained_model_from_zip": "write spinecls_import_model FILE",
    "download_pretrained_model_by_url": "download the file yourself, then spinecls_import_model FILE",
    "verify_dataset_integrity": "write spinecls_check DATASET",
    "plot_overlay_pngs": "leave it out: there are no pictures of overlays",
    "preprocess_like_nnssl": "write spinecls_train with -tr PretrainAETrainer, whose weights others start from",
    "plan_like_dynamic": "write spinecls_plan_and_preprocess; there is one planner",
    "move_plans_between_datasets": "write spinecls_train with -pretrained_weights FILE; plans stay where they are",
    "convert_old_nnUNet_dataset": "leave it out: a dataset of nnU-Net v2 is read as it is",
    "convert_MSD_dataset": "write imagesTr, labelsTr and dataset.json; documentation/how_to/prepare_a_dataset.md",
}


def _by_option() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for options, commands, line in _ROWS:
        for option in options:
            for command in (commands,) if isinstance(commands, str) else commands:
                table.setdefault(option, {})[command] = line
    return table


HABITS = _by_option()
"""Option -> command or `ANY` -> what to do instead."""


def instead_of(option: str, command: str) -> str | None:
    """What to do in place of an option that a command lacks; None when nnU-Net has no such option either."""
    known = HABITS.get(option, {})
    return known.get(command) or known.get(ANY)


def instead_of_command(word: str) -> str | None:
    """What to do in place of a command of nnU-Net, with or without `nnUNetv2_`."""
    return _WORDS.get(word.removeprefix("nnUNetv2_"))
