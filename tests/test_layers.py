"""Imports go one way, and each library stays in its room."""

import ast
import itertools
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "spinecls"

LAYERS = [
    {
        "errors",
        "anatomy",
        "geometry",
        "files",
        "plain",
        "paths",
        "registry",
        "records",
        "beliefs",
        "curve",
        "hard_cases",
        "environment",
        "model_folder",
        "types",
        "__init__",
    },
    {"io"},
    {"sealing"},
    {"planning"},
    {"networks", "dataloading", "evaluation"},
    {"tasks", "calibration"},
    {"inference"},
    {"trainers", "simulation", "verification", "sharing"},
    {"testing", "drafting"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ROOMS = {
    "SimpleITK": {"io", "testing"},
    "typer": {"cli"},
    "batchgenerators": {"dataloading"},
    "blosc2": {"io"},
    "dynamic_network_architectures": {"networks"},
    "sklearn": {"evaluation"},
    "matplotlib": {"evaluation"},
    "captum": {"verification"},
    "safetensors": {"sharing"},
}
INSTRUMENTS = {"simulation", "verification"}
"""What makes data or examines models and is part of no training or prediction; commands alone import them."""

TORCH_FREE = {"plan", "planner", "topology", "memory", "splits", "inputs", "fingerprint"}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_layer_or_below(path):
    own = RANK[room_of(path)]
    for name in imports(path):
        if not name.startswith("spinecls."):
            continue
        other = name.split(".")[1]
        if other == "__version__":
            continue
        assert RANK[other] < own or other == room_of(path) or (RANK[other] == own == 0), f"{path} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_commands_import_an_instrument(path):
    if room_of(path) != "cli":
        others = INSTRUMENTS - {room_of(path)}
        assert not [name for name in imports(path) if name.startswith("spinecls.") and name.split(".")[1] in others]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_library_is_used_only_in_its_room(path):
    for name in imports(path):
        library = name.split(".")[0]
        assert room_of(path) in ROOMS.get(library, {room_of(path)}), f"{path} imports {name}"


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.parent.name == "planning" and (p.stem in TORCH_FREE or p.stem.startswith("rules_"))],
    ids=lambda p: p.stem,
)
def test_planning_rules_need_no_torch(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "torch"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_code_that_runs_what_a_file_says(path):
    text = path.read_text()
    for word in (
        "import pickle",
        "eval(",
        "exec(",
        "os.system",
        "shell=True",
        "allow_pickle=True",
        "pydoc",
        "weights_only=" + "False",
        "import *",
    ):
        if word in ("eval(", "exec("):
            nodes = ast.walk(ast.parse(text))
            calls = [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
            assert word[:-1] not in calls
        else:
            assert word not in text


def test_training_does_not_import_simpleitk():
    import subprocess
    import sys

    code = (
        "import sys, spinecls.trainers.run, spinecls.trainers.auxiliary;"
        "sys.exit(int('SimpleITK' in sys.modules or 'torchvision' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_training_loop_does_not_import_the_audit():
    import subprocess
    import sys

    code = "import sys, spinecls.trainers.trainer; sys.exit(int('spinecls.evaluation.label_audit' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_two_modules_share_a_name_beside_those_of_commands():
    stems = [path.stem for path in SOURCES if path.stem != "__init__" and path.parent.name != "cli"]
    assert not {stem for stem in stems if stems.count(stem) > 1}


def stages():
    """Command -> for each of its stages the files that data go through, as the page on architecture says."""
    page = (PACKAGE.parent / "documentation/explanation/architecture.md").read_text()
    rows = page.split("## Through which files data go")[1].split("\n## ")[0].splitlines()
    commands = {}
    for row in rows:
        if named := re.match(r"\| \*\*`spinecls_(\w+)`", row):
            commands[named[1]] = []
        elif files := re.findall(r"`([a-z_]+/[a-z_]+\.py)`", row.rpartition("| ")[2] if commands else ""):
            commands[list(commands)[-1]].append(files)
    return commands


def test_data_go_through_few_stages():
    assert {command: len(chains) for command, chains in stages().items()} == {
        "plan_and_preprocess": 4,
        "train": 5,
        "predict": 4,
    }


@pytest.mark.parametrize("chain", [chain for chains in stages().values() for chain in chains], ids=" ".join)
def test_each_stage_is_three_files_that_import_each_other(chain):
    assert len(chain) == 3
    for upper, lower in itertools.pairwise(chain):
        module = "spinecls." + lower.removesuffix(".py").replace("/", ".")
        assert any(f"{name}.".startswith(f"{module}.") for name in imports(PACKAGE / upper)), f"{upper} -> {lower}"
