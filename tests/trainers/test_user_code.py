"""Guards against a user's own trainer being called a defect of ours, and against not telling where it fails."""

from pathlib import Path

import pytest
from support import run_cli

from spinecls.errors import TrainerError, UsageError
from spinecls.trainers import user_code
from spinecls.trainers.baseline import BaselineTrainer
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.user_code import made_trainer, told_as_the_users

HEAD = """
from torch import nn
from spinecls.tasks.task import Task, WeightedTask
from spinecls.trainers.baseline import BaselineTrainer


class Aside(Task):
    name = "aside"

    def dense_heads(self):
        return {"aside": 1}

    def loss(self, outputs, batch):
        return 0 * outputs.open["aside"].sum()


class Mine(BaselineTrainer):
    def build_tasks(self):
        return [*super().build_tasks(), WeightedTask(Aside(self.plan, self.configuration))]


"""
FAULTS = {
    "its __init__": ("Mine.__init__ = lambda self, *rest: 1 / 0", "ZeroDivisionError"),
    "an __init__ of other arguments": ("Mine.__init__ = lambda self: None", "cannot be made from plan, configuration"),
    "its tasks": ("Mine.build_tasks = lambda self: [].missing", "AttributeError"),
    "no list of tasks": ("Mine.build_tasks = lambda self: None", "expected a list of WeightedTask, got None"),
    "its configuration": ("Mine.configured = classmethod(lambda cls, c: c.steps[0])", "TypeError"),
    "a task's __init__": ("Aside.__init__ = lambda self, plan, configuration: {}['x']", "KeyError"),
    "a loss": ("Aside.loss = lambda self, outputs, batch: outputs.open['other']", "KeyError: 'other'"),
    "a loss that torch refuses": ("Aside.loss = lambda self, o, batch: o.open['aside'].view(3, -7)", "RuntimeError"),
    "a target": ("Aside.target = lambda self, case, sampler: case.outlines", "no attribute 'outlines'"),
    "a target of no shape": ("Aside.target = lambda self, case, sampler: {'x': 1}", "is x, expected what empty()"),
    "a target that nobody wants": ("Aside.loss = lambda self, o, batch: batch.targets['other']", "KeyError: 'other'"),
    "a loss that is none": ("Aside.loss = lambda self, o, batch: None", "its loss is None, expected one number"),
    "a loss of another shape": ("Aside.loss = lambda self, o, batch: o.open['aside']", "expected one number"),
    "a file that it reads": ("Aside.loss = lambda self, o, batch: open('nowhere.txt')", "FileNotFoundError"),
    "a head that is taken": ("Aside.dense_heads = lambda self: {'heatmap': 3}", "its head 'heatmap' is taken"),
    "its report": ("Aside.report = lambda self: 1 + 'one'", "TypeError"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_an_error_in_a_users_trainer_is_told_with_its_place(fault, said, phantom_roots, tmp_path, capfd):
    path = tmp_path / "my_trainer.py"
    path.write_text(HEAD + fault + "\n")
    words = ("train", "1", "3d_fullres", "0", "-tr", f"{path}:Mine", "-device", "cpu", "--set", "steps=1")
    assert run_cli(*words) == 3
    told = capfd.readouterr().err
    assert said in told
    assert "defect" not in told
    # What the user's code gives back wrongly has the name of its class instead.
    raised = f"{path}, line {len((HEAD + fault).splitlines())}, in <lambda>, not in spinecls:\n"
    assert raised in told or "expected" in told or "taken" in told or "settings" in told


FILES = {
    "a name that is missing": ("x = undefined_name", "NameError: name 'undefined_name' is not defined"),
    "a division": ("1 / 0", "ZeroDivisionError"),
    "a module that is missing": ("import not_there_at_all", "No module named 'not_there_at_all'"),
    "grammar": ("def broken(:", "SyntaxError"),
    "an end": ("import sys; sys.exit('enough')", "SystemExit: enough"),
}


@pytest.mark.parametrize(("text", "said"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_loaded_is_told_with_its_line(text, said, tmp_path):
    path = tmp_path / "unloadable.py"
    path.write_text(f"\n{text}\n")
    with pytest.raises(UsageError) as refused:
        find_trainer(f"{path}:Mine")
    assert "the file cannot be loaded" in str(refused.value)
    assert said in str(refused.value)
    assert f'{path}", line 2' in str(refused.value)


def test_a_link_to_a_file_of_another_ending_is_refused(tmp_path):
    (tmp_path / "blob").write_text("class Mine:\n    pass\n")
    link = tmp_path / "trainer.py"
    link.symlink_to("blob")
    with pytest.raises(UsageError, match=r"trainer\.py:Mine: the link leads to .*blob, whose name does not end with"):
        find_trainer(f"{link}:Mine")


def test_a_trainer_without_its_tasks_is_refused(tmp_path):
    path = tmp_path / "abstract.py"
    path.write_text("from spinecls.trainers.trainer import Trainer\nclass Mine(Trainer):\n    pass\n")
    with pytest.raises(UsageError, match=r"lacks build_tasks\(\), which every trainer must have"):
        find_trainer(f"{path}:Mine")


def test_an_error_in_a_trainer_of_ours_stays_a_defect():
    with pytest.raises(ZeroDivisionError), told_as_the_users(find_trainer("BaselineTrainer")):
        1 / 0  # noqa: B018


class OfATest(BaselineTrainer):
    """A trainer that is not the package's."""


def test_an_error_in_none_of_the_users_lines_stays_a_defect(monkeypatch):
    # As if this file were one of a library, and the trainer written elsewhere.
    monkeypatch.setattr(user_code, "LIBRARIES", (*user_code.LIBRARIES, Path(__file__).parent))
    monkeypatch.setattr(user_code, "_own_files", lambda trainer_class: set())
    with pytest.raises(ZeroDivisionError), told_as_the_users(OfATest):
        1 / 0  # noqa: B018


def test_memory_that_runs_out_is_not_the_users_fault():
    def short_of_memory():
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError), told_as_the_users(OfATest):
        short_of_memory()


def test_what_is_raised_while_a_trainer_is_made_passes():
    class Raises:
        def __init__(self):
            raise TypeError("deeper")

    with pytest.raises(TypeError, match="deeper"):
        made_trainer(Raises)
    with pytest.raises(TrainerError, match="cannot be made"):
        made_trainer(Raises, 1, 2)
