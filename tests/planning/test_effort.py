"""Guards against estimates of preprocessing that know only the cases of the fingerprint."""

import dataclasses
from pathlib import Path

import pytest
from made_up_datasets import CPU, describe, make_dataset

from spinecls.planning.effort import CASE_SECONDS, preprocessing_effort
from spinecls.planning.outdated import Job
from spinecls.planning.planner import plan
from spinecls.records import Case


def job(made, name: str) -> Job:
    return Job(
        case=Case(identifier=name, patient=name, images=(Path(f"{name}_0000.nii.gz"),)),
        levels={},
        register_channels=False,
        plans_name=made.plans_name,
        configurations=tuple(made.configurations.values()),
        native=True,
        inputs="",
        folder=Path("nowhere"),
    )


def test_a_scan_without_annotation_is_taken_for_the_middle_one_of_those_measured():
    sizes = [(10, 100, 100), (20, 200, 200), (30, 300, 300)]
    fingerprint = make_dataset(num_cases=3, each=lambda i: {"shape": sizes[i]})
    made = plan(fingerprint, describe(fingerprint), CPU)
    like_the_middle = preprocessing_effort([job(made, "case_001")], fingerprint, 1)
    assert preprocessing_effort([job(made, "never_measured")], fingerprint, 1) == like_the_middle
    assert like_the_middle.gigabytes > 0


def test_nothing_to_do_takes_nothing():
    effort = preprocessing_effort([], make_dataset(num_cases=1), 2)
    assert dataclasses.astuple(effort) == (0, 0.0, 0.0)


def test_every_case_costs_its_share_whoever_measured_it():
    fingerprint = make_dataset(num_cases=1)
    made = plan(fingerprint, describe(fingerprint), CPU)
    one, two = (preprocessing_effort([job(made, "unmeasured")] * n, fingerprint, 1) for n in (1, 2))
    assert two.seconds - one.seconds > CASE_SECONDS
    assert two.gigabytes == pytest.approx(2 * one.gigabytes)
