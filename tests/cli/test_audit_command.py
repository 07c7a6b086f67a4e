"""`spinecls_audit`, from out-of-fold predictions to a corrected table."""

import csv
import shutil

import numpy as np
import pytest
from support import run_cli

from spinecls import files
from spinecls.io.dataset import load_dataset
from spinecls.io.predictions import write_case_json
from spinecls.records import CasePrediction, VertebraPrediction

MODEL = "results/Dataset001_Phantom/AuxSegTrainer__spineclsPlans__3d_fullres"


def predicted(vertebra, probabilities):
    return VertebraPrediction(
        level=vertebra.level, level_probability=0.9, runner_up="L1", runner_up_probability=0.1,
        centre_lps=(0.0, 0.0, 0.0), box_lps=((0.0,) * 3, (1.0,) * 3), score=1.0,
        class_probabilities=tuple(map(float, probabilities)), prediction_set=(), entropy=0.5, visible_fraction=1.0,
        region={},
    )  # fmt: skip


@pytest.fixture
def doubted(trained_phantom, tmp_path, monkeypatch):
    """Roots whose out-of-fold predictions share all labels but the first: case, vertebra and what they say of it."""
    shutil.copytree(trained_phantom / "raw/Dataset001_Phantom", tmp_path / "raw/Dataset001_Phantom")
    shutil.copytree(trained_phantom / MODEL, tmp_path / MODEL)
    for name in ("raw", "results"):
        monkeypatch.setenv(f"spinecls_{name}", str(tmp_path / name))
    raw = load_dataset(tmp_path / "raw/Dataset001_Phantom", verify_voxels=False)
    names = raw.description.class_names
    folder = tmp_path / MODEL / "fold_0/validation"
    for path in (*folder.glob("*.json"), folder / "vertebrae.csv"):
        path.unlink()
    wrong = None
    for case in raw.cases:
        rows = []
        for vertebra in case.vertebrae:
            index = names.index(vertebra.readings[0].classes[0])
            if wrong is None:
                index = (index + 1) % len(names)
                wrong = (case.identifier, vertebra.level, names[index])
            rows.append(predicted(vertebra, np.where(np.arange(len(names)) == index, 0.8, 0.1)))
        write_case_json(
            folder, CasePrediction(identifier=case.identifier, class_names=names, vertebrae=tuple(rows), model={})
        )
    return tmp_path, wrong


@pytest.mark.slow
def test_the_wrong_label_is_listed_corrected_and_not_listed_again(doubted, capsys):
    root, (case, level, said) = doubted
    assert run_cli("audit", "-d", "1", "-o", root / "audit.csv") == 0
    rows = files.read_csv(root / "audit.csv")
    assert [(row["case"], row["vertebra"], row["predicted"]) for row in rows] == [(case, level, said)]
    assert "of the labels with confidence" in capsys.readouterr().out
    with open(root / "audit.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerow({**rows[0], "corrected": said})
    table = root / "raw/Dataset001_Phantom/vertebraeTr.csv"
    before = table.read_bytes()
    assert run_cli("audit", "-d", "1", "--apply", root / "audit.csv") == 0
    assert table.with_name("vertebraeTr_before_audit_1.csv").read_bytes() == before
    assert run_cli("audit", "-d", "1", "-o", root / "again.csv") == 0
    assert files.read_csv(root / "again.csv") == []


@pytest.mark.slow
def test_a_vertebra_that_was_named_wrong_says_nothing_of_its_label(doubted):
    root, (case, level, _) = doubted
    files.write_csv(
        root / MODEL / "fold_0/validation/vertebrae.csv",
        ["case", "level", "found", "named"],
        [{"case": case, "level": level, "found": "off_by_one", "named": "L5"}],
    )
    assert run_cli("audit", "-d", "1", "-o", root / "audit.csv") == 0
    assert files.read_csv(root / "audit.csv") == []


@pytest.mark.slow
def test_without_predictions_the_command_says_what_is_missing(doubted, capsys):
    root, _ = doubted
    for path in (root / MODEL / "fold_0/validation").glob("*.json"):
        path.unlink()
    assert run_cli("audit", "-d", "1", "-o", root / "audit.csv") == 3
    assert "spinecls_train" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dataset_without_classes_has_no_labels_to_audit(doubted, capsys):
    root, _ = doubted
    folder = root / "raw/Dataset001_Phantom"
    content = files.read_json(folder / "dataset.json") | {"classes": {}, "lesion_structures": {}}
    files.write_json(folder / "dataset.json", content)
    rows = [row | {"class": ""} for row in files.read_csv(folder / "vertebraeTr.csv")]
    plain = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (folder / "vertebraeTr.csv").write_text("\n".join(plain) + "\n")
    assert run_cli("audit", "-d", "1", "-o", root / "audit.csv") == 2
    assert "no labels to audit" in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_without_corrections_changes_nothing(doubted, capsys):
    root, _ = doubted
    assert run_cli("audit", "-d", "1", "-o", root / "audit.csv") == 0
    before = sorted((root / "raw/Dataset001_Phantom").iterdir())
    assert run_cli("audit", "-d", "1", "--apply", root / "audit.csv") == 0
    assert "Nothing to correct" in capsys.readouterr().out
    assert sorted((root / "raw/Dataset001_Phantom").iterdir()) == before
