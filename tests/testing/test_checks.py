"""The check that users run on their own trainers: it passes ours and finds what is broken."""

import dataclasses

import numpy as np
import pytest
import torch

from spinecls.tasks.task import Task, WeightedTask
from spinecls.testing.checks import BrokenRule, check_trainer
from spinecls.trainers.baseline import BaselineTrainer
from spinecls.trainers.trainer import TRAINERS
from spinecls.trainers.uncertain import UncertainLabelsTrainer


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS.names())
def test_our_trainers_keep_the_rules(name, capsys):
    check_trainer(TRAINERS.find(name))
    assert "keeps the rules" in capsys.readouterr().out


class Aside(Task):
    """A task whose head is broken in one way, set by a subclass."""

    name = "aside"
    predicts = False

    def dense_heads(self):
        return {"aside": 1}


class NotFinite(Aside):
    def loss(self, outputs, batch):
        return outputs.open["aside"].sum() * float("nan")


class Vector(Aside):
    def loss(self, outputs, batch):
        return outputs.open["aside"].flatten()[:3]


class Detached(Aside):
    def loss(self, outputs, batch):
        return outputs.open["aside"].detach().sum()


class Unreached(Aside):
    def loss(self, outputs, batch):
        return 0 * outputs.open["aside"].sum() + 1


class Demanding(Aside):
    def loss(self, outputs, batch):
        return outputs.open["aside"].square().mean()


class Counting(Aside):
    """Costs more every time it is asked."""

    calls = 0

    def loss(self, outputs, batch):
        self.calls += 1
        return self.calls * outputs.open["aside"].square().mean()


class Dicing(Aside):
    def loss(self, outputs, batch):
        return torch.rand(()) * outputs.open["aside"].square().mean()


class Wanting(Demanding):
    """Has a target; how, a subclass says."""

    def target(self, case, sampler):
        return {"number": np.array(1.0)}

    def empty(self):
        return {"number": np.array(0.0)}


class Remembering(Wanting):
    patches = 0

    def target(self, case, sampler):
        self.patches += 1
        return {"number": np.array(float(self.patches))}


class Guessing(Wanting):
    def target(self, case, sampler):
        return {"number": torch.rand(()).double().numpy()}


class Misfit(Wanting):
    def target(self, case, sampler):
        return {"number": np.zeros(len(case.centres))}


class WithoutEmpty(Wanting):
    def empty(self):
        return {}


class Flat(Wanting):
    """As a head gives channels, torch would compare every patch with every other."""

    def target(self, case, sampler):
        return self.empty()

    def empty(self):
        return {"number": np.zeros(self.size, np.float32)}


class Namesake(Demanding):
    name = "centre"


class NoTensor(Aside):
    def loss(self, outputs, batch):
        return float(outputs.open["aside"].detach().sum())


class Nothing(Aside):
    def loss(self, outputs, batch):
        return None


class Whole(Aside):
    def loss(self, outputs, batch):
        return (outputs.open["aside"] > 0).sum()


class Elsewhere(Aside):
    """Learns from a head that is not its own; its own is never looked at."""

    def loss(self, outputs, batch):
        return outputs.open["heatmap"].square().mean()


class Replaces(Demanding):
    def dense_heads(self):
        return {"heatmap": 3}


BROKEN = {
    NotFinite: "expected one finite number",
    Vector: r"its loss is a tensor of shape \(3,\), .*expected one number",
    NoTensor: "its loss is -?[0-9.]+, expected one number in a floating tensor",
    Nothing: "its loss is None, expected one number",
    Whole: r"shape \(\), torch.int64, expected one number",
    Elsewhere: "does not depend on its head 'aside'",
    Replaces: "head 'heatmap' is taken: every finder has heatmap, offset, level",
    Detached: "has no gradient",
    Unreached: "does not depend on its head 'aside'",
    Demanding: "nothing is annotated, expected 0",
    Namesake: "two tasks have the same name",
    Counting: "the same step from the same weights costs",
    Dicing: "the same step from the same weights costs",
    Remembering: "its target of one and the same batch differs",
    Guessing: "its target of one and the same batch differs",
    Misfit: r"'number' has the shape \(\d+,\) .*as in empty",
    WithoutEmpty: "its target is number, expected what empty.* has: nothing",
    Flat: "a head gives channels first",
}


@pytest.mark.slow
@pytest.mark.parametrize("task_class", BROKEN, ids=lambda t: t.__name__)
def test_a_broken_task_is_told_by_what_is_wrong(task_class):
    class Broken(BaselineTrainer):
        def build_tasks(self):
            return [*super().build_tasks(), WeightedTask(task_class(self.plan, self.configuration))]

    with pytest.raises(BrokenRule, match=BROKEN[task_class]):
        check_trainer(Broken)


class OpenClassesTrainer(UncertainLabelsTrainer):
    """The same with the classes of the open pass."""

    @classmethod
    def configured(cls, configuration):
        return dataclasses.replace(super().configured(configuration), task_weights={"open_class": 0.5})


@pytest.mark.slow
def test_the_classes_of_the_open_pass_keep_the_rules(capsys):
    check_trainer(OpenClassesTrainer)
    assert "open_class" in capsys.readouterr().out


def test_a_model_that_needs_its_trainer_is_refused():
    class Keeps(BaselineTrainer):
        def save_final(self):
            super().save_final()
            content = torch.load(self.final_path, weights_only=True)
            content["weights"]["unknown.weight"] = torch.zeros(1)
            torch.save(content, self.final_path)

    with pytest.raises(BrokenRule, match="cannot be used without the trainer"):
        check_trainer(Keeps)
