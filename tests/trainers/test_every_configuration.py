"""Every configuration that the planner can make, of every made-up dataset: trained, resumed, and predicted with.

Guards against datasets of a shape that only some part of training or prediction cannot take: two slices, four slices,
slice distances that differ, no map, no class, one case, several channels or readers. Nothing is learnt.
"""

import dataclasses

import pytest
from made_up_raw import KINDS, write_made_up
from support import run_cli, set_roots

from spinecls import files
from spinecls.planning.plan import load_plan, save_plan
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import TRAINERS

pytestmark = pytest.mark.slow

STEPS = 2
MACHINE = MachineProfile(device="cpu", memory_gb=8, cores=2, gflop_per_second=100)
MEMBERS = 2
CHEAP = {"batch_size": 1, "sealed_batch_size": 2, "steps": STEPS, "reader_steps": STEPS, "members": MEMBERS}
ALL_TRAINERS = tuple(TRAINERS.names())
FOR_MAPS = ("AuxSegTrainer", "AuxSegAETrainer", "UncertainLabelsTrainer", "UncertainLabelsAETrainer")
FOR_ANY = ("BaselineTrainer", "AuxAETrainer", "UncertainLabelsAETrainer")


@pytest.fixture(scope="module", params=KINDS)
def planned(request, tmp_path_factory):
    """Roots with a made-up dataset, planned as it is and preprocessed, then given the thinnest of networks."""
    root = tmp_path_factory.mktemp("made_up")
    return plan_made_up(root, request.param)


def plan_made_up(root, kind):
    write_made_up(root / "raw" / "Dataset009_MadeUp", kind)
    words = ("-d", "9", "-np", "1", "-device", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        set_roots(patch, root)
        patch.setattr("spinecls.trainers.probe.machine_profile", lambda device: MACHINE)
        assert run_cli("plan_and_preprocess", *words, "--dry_run") == 0
        assert run_cli("plan_and_preprocess", *words) == 0
    path = root / "preprocessed" / "Dataset009_MadeUp" / "spineclsPlans.json"
    plan = load_plan(path)
    thin = {
        name: dataclasses.replace(
            c, network=thinnest(c.network), reader_network=thinnest(c.reader_network), **CHEAP
        )
        for name, c in plan.configurations.items()
    }  # fmt: skip
    save_plan(path, dataclasses.replace(plan, configurations=thin))
    return root, kind, tuple(thin)


def thinnest(network):
    return dataclasses.replace(network, features=(4,) * len(network.features), convs_per_stage=1)


def predict(root, model, fold, checkpoint):
    """Predict with a finder that sees vertebrae at many places, though not at more than there can be."""
    source = root / "raw/Dataset009_MadeUp/imagesTs"
    words = ("-i", source, "-o", checkpoint.parent / "out", "-m", model, "-f", fold, "-device", "cpu", "--disable_tta")
    content = load_checkpoint(checkpoint)
    bias = content["weights"]["finder.heads.heatmap.bias"].clone()
    for raised in (3.0, 2.0, 1.0, 0.0):
        content["weights"]["finder.heads.heatmap.bias"] = bias + raised
        save_checkpoint(checkpoint, content)
        if run_cli("predict", *words) == 0:
            return
    pytest.fail("every prediction failed")


def train_resume_predict(root, kind, configuration, trainer):
    fold = "all" if kind == "one case" else "0"
    words = ("9", configuration, fold, "-tr", trainer, "-device", "cpu")
    assert run_cli("train", *words) == 0
    folder = root / f"results/Dataset009_MadeUp/{trainer}__spineclsPlans__{configuration}/fold_{fold}"
    final = folder / find_trainer(trainer).final_name
    # As if it had been stopped before its last step.
    final.unlink()
    total = load_checkpoint(folder / "checkpoint_latest.pt")["step"]
    # Without classes, or in a training of the finder alone, there is nothing for readers to learn.
    assert total == sum(files.read_json(folder / "run.json")["parts"].values()) in (STEPS, (1 + MEMBERS) * STEPS)
    (folder / "checkpoint_latest.pt").unlink()
    assert run_cli("train", *words, "--c") == 0
    assert load_checkpoint(folder / "checkpoint_latest.pt")["step"] == total
    if final.name != "checkpoint_final.pt":
        return
    predict(root, folder.parent, fold, final)
    assert (folder / "out" / "test_000.json").exists()


def trainers_of(kind):
    """Of the trainers, in turn, those that make something of what the dataset has."""
    return FOR_ANY if kind in ("points", "boxes", "partly placed") else (*FOR_ANY, *FOR_MAPS)


def test_it_trains_resumes_and_predicts(planned, monkeypatch):
    root, kind, configurations = planned
    set_roots(monkeypatch, root)
    able = trainers_of(kind)
    for number, configuration in enumerate(configurations):
        train_resume_predict(root, kind, configuration, able[(list(KINDS).index(kind) + number) % len(able)])
