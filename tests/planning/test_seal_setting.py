import dataclasses

import pytest
from made_up_datasets import CPU, describe, make_dataset

from spinecls.errors import PlanError
from spinecls.plain import from_plain
from spinecls.planning.plan import Configuration
from spinecls.planning.planner import plan

DATASET = make_dataset(num_cases=10)


def full_of(**overrides):
    return plan(DATASET, describe(DATASET), CPU, overrides=overrides).configurations["3d_fullres"]


def test_a_plan_seals_with_case_numbers_and_pools_softly_by_default():
    assert (full_of().seal, full_of().pooling) == ("S2", "lse")


def test_level_and_pooling_set_in_planning_stand_in_the_plan():
    found = full_of(seal="S3", pooling="extent")
    assert (found.seal, found.pooling) == ("S3", "extent")


@pytest.mark.parametrize(("key", "value"), [("seal", "S5"), ("pooling", "median")])
def test_a_plan_file_with_an_unknown_word_is_refused(key, value):
    plain = dataclasses.asdict(full_of()) | {key: value}
    with pytest.raises(PlanError, match=rf"3d_fullres.{key}: '{value}' is not known. Known: "):
        from_plain(Configuration, plain, "plan")


def test_a_plan_of_an_earlier_version_means_the_defaults():
    plain = dataclasses.asdict(full_of())
    del plain["seal"], plain["pooling"]
    assert from_plain(Configuration, plain, "plan") == full_of()
