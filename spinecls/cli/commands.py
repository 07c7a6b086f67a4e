"""The one list of commands; it imports nothing, for the installation reads it before there is any library."""

SEVERAL = ("-d", "-c", "--set")
"""Options of planning that take several values, as in nnU-Net."""
NUMERIC = ("-d", "-f")
"""Those among all such options whose values are numbers, so `0-4` and `0,1` work too."""

COMMANDS = {
    "plan_and_preprocess": ("plan_and_preprocess", SEVERAL),
    "extract_fingerprint": ("plan_and_preprocess", SEVERAL),
    "plan_experiment": ("plan_and_preprocess", SEVERAL),
    "preprocess": ("plan_and_preprocess", SEVERAL),
    "train": ("train", ("--set",)),
    "predict": ("predict", ("-f", "--prevalence")),
    "find_best_configuration": ("find_best_configuration", ("-c", "-tr", "-p", "-f")),
    "ensemble": ("ensemble", ("-i",)),
    "evaluate": ("evaluate", ("--accept",)),
    "audit": ("audit", ("-f",)),
    "prelabel": ("prelabel", ()),
    "check": ("check", ()),
    "demo": ("demo", ()),
    "verify_evidence": ("verify_evidence", ("-f",)),
    "compare": ("compare", ("-tr", "--patients", "--set")),
    "loosen": ("loosen", ("--slack_mm", "--readers")),
    "export_model": ("export_model", ("-f",)),
    "import_model": ("import_model", ()),
    "simulate": ("simulate", ("--cases", "--exclude_cases", "--kinds", "--shortcut")),
}
"""Word, which is also the name of its function -> module in `spinecls.cli`, options that take several values."""
