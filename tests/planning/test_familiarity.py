"""Limits of familiar images, and what is said of others."""

import dataclasses
import math

import numpy as np
import pytest
from made_up_datasets import CPU, describe, make_case, make_dataset
from scipy import stats

from spinecls import files
from spinecls.planning.familiarity import (
    CHANNEL,
    CONTRAST,
    CONTRAST_ALARMS,
    GRID,
    WIDENING,
    familiar_images,
    grid_numbers,
    unfamiliar,
)
from spinecls.planning.plan import load_plan, save_plan
from spinecls.planning.planner import explain, plan

USUAL = {
    "asymmetry": 0.2, "evenness": 0.4, "bright_tail": 0.2, "detail": 0.3, "stripes": 0.12, "noise": 0.02,
    "fineness_head_feet": 0.6, "fineness_front_back": 0.6, "saturated": 0.0,
}  # fmt: skip
SHAPE, SPACING_MM = (19, 224, 224), (4.0, 1.0, 1.0)


def scan(index, appearance=(USUAL,), **other):
    return dataclasses.replace(make_case(index, **other), appearance=tuple(appearance))


def varied(index, rng):
    """Contrast that differs from patient to patient, the rest alike."""
    return {name: USUAL[name] + (rng.normal(0, 0.03) if name in CONTRAST else 0) for name in CHANNEL}


def plan_of(cases, channel_names=("T2",)):
    dataset = make_dataset(num_cases=3)
    made = plan(dataset, describe(dataset, channel_names), CPU)
    return dataclasses.replace(made, familiar=familiar_images(cases))


@pytest.fixture(scope="module")
def lumbar():
    return plan_of([scan(i) for i in range(12)])


def test_the_grid_gives_voxel_sizes_and_the_field_of_view():
    assert list(grid_numbers((10, 200, 300), (4.0, 1.5, 0.5)).values()) == [4.0, 1.5, 0.5, 40.0, 300.0, 150.0]


def test_limits_are_the_usual_range_widened_by_the_share_for_that_many_patients():
    # Ten patients: the 5th and 95th percentile are the smallest and the largest, widened by 0.94 of their ratio's log.
    cases = [scan(i, shape=(19, 200 + 10 * i, 224)) for i in range(10)]
    found = familiar_images(cases).grid["head_feet_mm"]
    assert found.usual == pytest.approx((200, 290))
    ratio = (290 / 200) ** 0.94
    assert found.allowed == pytest.approx((200 / ratio, 290 * ratio))


def test_numbers_that_never_differ_still_have_some_slack(lumbar):
    found = lumbar.familiar.grid["head_feet_mm"]
    assert found.usual == pytest.approx((224, 224))
    assert found.allowed == pytest.approx((224 * math.exp(-0.22), 224 * math.exp(0.22)))


def test_a_patient_counts_once_however_often_scanned():
    others = [scan(i, shape=(19, 200, 224)) for i in range(30)]
    often = [scan(40 + i, shape=(19, 400, 224), patient="often") for i in range(60)]
    found = familiar_images([*others, *often])
    assert found.patients == 31
    # One patient of 31 is beyond the 95th percentile, as a single scan of that patient would be.
    assert found.grid["head_feet_mm"].usual[1] == pytest.approx(
        familiar_images([*others, often[0]]).grid["head_feet_mm"].usual[1]
    )


def test_a_tenth_of_the_patients_with_a_larger_field_of_view_are_familiar():
    cases = [scan(i, shape=(19, 400 if i < 4 else 224, 224)) for i in range(40)]
    assert unfamiliar((19, 400, 224), SPACING_MM, (USUAL,), plan_of(cases)) == ()


def test_fewer_than_three_patients_give_no_limits():
    assert familiar_images([scan(0), scan(1)]) is None
    assert unfamiliar((1, 1, 1), SPACING_MM, (USUAL,), plan_of([scan(0), scan(1)])) == ()


@pytest.mark.parametrize(("patients", "share"), [entry for entry in WIDENING if entry[0] <= 100])
def test_one_in_400_further_patients_lies_outside_when_numbers_are_normal(patients, share):
    samples = np.random.default_rng(5).standard_normal((2_000_000 // patients, patients))
    low, high = np.quantile(samples, (0.05, 0.95), axis=1, method="hazen")
    margin = share * (high - low)
    outside = stats.norm.cdf(low - margin) + stats.norm.sf(high + margin)
    assert outside.mean() == pytest.approx(0.0025, rel=0.12)


def test_one_in_100_further_patients_is_too_far_in_contrast_when_numbers_are_normal():
    rng = np.random.default_rng(6)
    outside = 0
    for _ in range(1500):
        made = plan_of_contrast(rng, 15)
        outside += any("together" in text for text in said_of(varied(0, rng), made))
    assert outside / 1500 == pytest.approx(CONTRAST_ALARMS, abs=0.008)


def plan_of_contrast(rng, patients):
    return plan_with(familiar_images([scan(i, [varied(i, rng)]) for i in range(patients)]))


PLAN = plan_of([scan(i) for i in range(12)])


def plan_with(familiar):
    return dataclasses.replace(PLAN, familiar=familiar)


def said_of(appearance, made):
    return unfamiliar(SHAPE, SPACING_MM, (appearance,), made)


def test_an_image_like_those_of_training_is_familiar(lumbar):
    assert said_of(USUAL, lumbar) == ()


@pytest.mark.parametrize("name", GRID)
def test_each_length_far_from_training_is_named(lumbar, name):
    position = list(GRID).index(name)
    spacing_mm, shape = list(SPACING_MM), list(SHAPE)
    if position < 3:
        spacing_mm[position] *= 2
        shape[position] = shape[position] // 2 + (position == 0)
    else:
        shape[position - 3] = shape[position - 3] // 2
    said = unfamiliar(shape, spacing_mm, (USUAL,), lumbar)
    assert len(said) == 1
    assert said[0].startswith(GRID[name].words)


def test_a_short_field_of_view_is_told_with_that_of_training(lumbar):
    said = unfamiliar((19, 95, 224), SPACING_MM, (USUAL,), lumbar)
    assert said == ("field of view head-feet 95 mm; training scans 224 mm",)


def test_a_range_of_training_is_told_by_its_ends():
    cases = [scan(i, shape=(19, 230 + 8 * i, 224)) for i in range(11)]
    said = unfamiliar((19, 95, 224), SPACING_MM, (USUAL,), plan_of(cases))
    assert said == ("field of view head-feet 95 mm; training scans 230 to 310 mm",)


@pytest.mark.parametrize("name", CHANNEL)
def test_each_number_of_a_channel_far_from_training_is_named(lumbar, name):
    said = said_of({**USUAL, name: USUAL[name] + 0.6}, lumbar)
    single = [text for text in said if "together" not in text]
    assert len(single) == 1
    assert single[0].startswith(f"T2: {CHANNEL[name].words} ")
    assert any("together" in text for text in said) == (name in CONTRAST)


def test_contrast_numbers_that_do_not_go_together_are_told_although_each_is_usual():
    rng = np.random.default_rng(7)
    cases = []
    for i in range(40):
        shift = rng.normal(0, 0.05)
        cases.append(scan(i, [{**varied(i, rng), "asymmetry": 0.2 + shift, "stripes": 0.12 + shift}]))
    made = plan_of(cases)
    assert said_of({**USUAL, "asymmetry": 0.26, "stripes": 0.18}, made) == ()
    (said,) = said_of({**USUAL, "asymmetry": 0.26, "stripes": 0.06}, made)
    assert said.startswith("T2: contrast, all its numbers together, ")
    assert said.endswith("perhaps another sequence")


def test_fewer_than_ten_patients_do_not_say_how_contrast_goes_together():
    assert familiar_images([scan(i) for i in range(9)]).channels[0].contrast is None


def test_an_image_that_cannot_be_measured_is_unfamiliar(lumbar):
    assert said_of({}, lumbar) == ("T2: too small or too uniform an image to be judged",)


def test_each_channel_is_compared_with_its_own_kind():
    noisy = {**USUAL, "noise": 0.3}
    made = plan_of([scan(i, [USUAL, noisy]) for i in range(12)], ("T2", "STIR"))
    assert unfamiliar(SHAPE, SPACING_MM, (USUAL, noisy), made) == ()
    said = unfamiliar(SHAPE, SPACING_MM, (noisy, USUAL), made)
    assert said == ("T2: noise 0.3; training scans 0.02", "STIR: noise 0.02; training scans 0.3")


def test_training_scans_that_could_not_be_measured_are_left_out():
    made = plan_of([*(scan(i) for i in range(12)), scan(12, [{}])])
    assert made.familiar.patients == 13
    assert said_of(USUAL, made) == ()


def test_limits_survive_the_file_of_the_plan(lumbar, tmp_path):
    save_plan(tmp_path / "plan.json", lumbar)
    assert load_plan(tmp_path / "plan.json") == lumbar


def test_a_plan_made_before_there_were_limits_is_read_and_finds_nothing(lumbar, tmp_path):
    save_plan(tmp_path / "plan.json", lumbar)
    content = files.read_json(tmp_path / "plan.json")
    del content["familiar"]
    files.write_json(tmp_path / "plan.json", content)
    old = load_plan(tmp_path / "plan.json")
    assert old.familiar is None
    assert said_of({}, old) == ()


def test_the_plan_explains_the_limits_in_a_sentence():
    dataset = make_dataset(num_cases=12)
    rows = {key: (value, reason) for key, value, reason in explain(plan(dataset, describe(dataset), CPU))}
    value, reason = rows["familiar"]
    assert value == "6 numbers"
    assert "field of view 224 mm head-feet" in reason
