import json

import pytest
from support import run_cli

from spinecls.cli.simulate import new_dataset_folder
from spinecls.errors import UsageError
from spinecls.files import read_csv
from spinecls.testing.phantom import PhantomOptions, write_dataset


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "Dataset001_Phantom"
    return write_dataset(folder, 4, seed=5, options=PhantomOptions(shape=(8, 64, 48)))


def test_the_command_makes_a_dataset_that_the_check_passes(phantoms, roots, capfd):
    words = ("--seed", 4, "--prevalence", 0.7, "--shortcut", "m1", "m5", "--shortcut_correlation", 1.0)
    assert run_cli("simulate", "-d", phantoms, "-o", "Dataset002_Simulated", *words) == 0
    output = capfd.readouterr().out
    assert "Vertebrae:" in output
    folder = roots / "raw/Dataset002_Simulated"
    options = json.loads((folder / "simulation.json").read_text())["options"]
    assert (options["shortcuts"], options["seed"], options["prevalence"]) == (["m1", "m5"], 4, 0.7)
    assert {"m1", "m5"} <= {row["kind"] for row in read_csv(folder / "lesions.csv")}
    assert run_cli("check", folder, "-np", 1) == 0


def test_phantoms_are_drawn_as_the_demo_draws_them(roots, tmp_path, capfd):
    assert run_cli("simulate", "--phantom", 1, "--seed", 3, "-o", "Dataset003_Drawn") == 0
    assert "1 phantom with" in capfd.readouterr().out
    drawn = roots / "raw/Dataset003_Drawn"
    expected = write_dataset(tmp_path / "Dataset003_Drawn", 1, 3)
    for part in ("vertebraeTr.csv", "imagesTr/phantom_000_0000.nii.gz", "labelsTr/phantom_000.nii.gz"):
        assert (drawn / part).read_bytes() == (expected / part).read_bytes()


WRONG = {
    "neither scans nor phantoms": (["-o", "Dataset002_New"], 2, "either -d"),
    "scans and phantoms": (["-d", "{source}", "--phantom", "2", "-o", "Dataset002_New"], 2, "either -d"),
    "a shortcut in phantoms": (["--phantom", "2", "--shortcut", "m1", "-o", "Dataset002_New"], 2, "--prevalence only"),
    "no such source": (["-d", "77", "-o", "Dataset002_New"], 3, "77"),
    "no target": (["-d", "{source}"], 2, "-o"),
    "target without a number": (["-d", "{source}", "-o", "New"], 2, "Dataset011_Simulated"),
    "unknown kind": (["-d", "{source}", "-o", "Dataset002_New", "--kinds", "corner_edema"], 2, "corner_oedema?"),
    "unknown shortcut": (["-d", "{source}", "-o", "Dataset002_New", "--shortcut", "m1", "m9"], 2, "m9"),
    "unknown case": (["-d", "{source}", "-o", "Dataset002_New", "--cases", "phantom_00"], 2, "Did you mean phantom_00"),
    "no case left": (
        ["-d", "{source}", "-o", "Dataset002_New", "--exclude_cases", *[f"phantom_00{number}" for number in range(4)]],
        2, "leave no case"),
    "prevalence above 1": (["-d", "{source}", "-o", "Dataset002_New", "--prevalence", "40"], 2, "prevalence"),
    "the source itself": (["-d", "{source}", "-o", "{source}"], 2, "not made by this command"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_command_is_refused_with_one_message_and_writes_nothing(fault, phantoms, roots, capfd):
    words, expected, said = WRONG[fault]
    code = run_cli("simulate", *(word.format(source=phantoms) for word in words))
    output = "".join(capfd.readouterr())
    assert code == expected, output
    assert said in output
    assert "Traceback" not in output
    assert not any((roots / "raw").iterdir())


def test_a_number_that_is_taken_is_refused(roots):
    (roots / "raw/Dataset011_Other").mkdir()
    with pytest.raises(UsageError, match="Dataset011_Other"):
        new_dataset_folder("Dataset011_Simulated")
    assert new_dataset_folder("Dataset012_Simulated") == roots / "raw/Dataset012_Simulated"
