"""What the documentation says is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import run_cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "documentation").rglob("*.md"))]
COMMANDS = (
    "plan_and_preprocess",
    "train",
    "predict",
    "evaluate",
    "check",
    "demo",
    "audit",
    "prelabel",
    "export_model",
    "import_model",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:tests|benchmarks|spinecls)/[\w/]+\.py)`", page.read_text()):
        assert (ROOT / name).exists(), name


def test_ci_runs_the_test_command_of_the_readme():
    fences = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    command = next(fence.strip() for fence in fences if "-m pytest" in fence)
    assert command in (ROOT / ".ci/run").read_text()


@pytest.mark.slow
def test_the_trainer_of_the_extension_page_trains(phantom_roots, tmp_path):
    page = (ROOT / "documentation/extending/your_own_trainer.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    (tmp_path / "my_trainer.py").write_text(code)
    name = f"{tmp_path / 'my_trainer.py'}:HeavySegTrainer"
    assert run_cli("train", "1", "3d_fullres", "0", "-tr", name, "-device", "cpu", "--set", "steps=2") == 0
    images = phantom_roots / "raw/Dataset001_Phantom/imagesTs"
    assert run_cli("predict", "-i", images, "-o", tmp_path / "out", "-tr", name, "--disable_tta") == 0


@pytest.mark.parametrize("word", COMMANDS)
def test_every_option_in_the_command_table_is_known_to_the_command(word, capfd):
    assert run_cli(word, "--help") == 0
    known = set(re.findall(r"--?[a-zA-Z_]+", capfd.readouterr().out))
    table = (ROOT / "documentation/reference/commands.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith(f"| `spinecls_{word}"))
    for option in re.findall(r"(?<![\w-])--?[a-zA-Z_]+", row.split("|")[1]):
        assert option in known, option


def test_help_does_not_wait_for_torch():
    code = "import sys; from spinecls.cli.main import run; run('train', ['--help'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "torch" not in done.stderr
