import pytest
from made_up_datasets import CPU, describe, gpu, make_dataset

from spinecls.errors import SpineclsError, UsageError
from spinecls.planning.planner import plan
from spinecls.planning.rules_override import parse_overrides

DATASET = make_dataset(num_cases=53)


def _plan(machine=CPU, **overrides):
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return plan(DATASET, describe(DATASET), machine, overrides=named)


def test_the_short_form_sets_all_configurations():
    made = _plan(steps="500")
    assert {c.steps for c in made.configurations.values()} == {500}


def test_the_long_form_sets_one():
    made = plan(DATASET, describe(DATASET), CPU, overrides={"configurations.3d_fullres.steps": "500"})
    assert made.configurations["3d_fullres"].steps == 500
    assert made.configurations["2d"].steps != 500


def test_the_long_form_wins_over_the_short_one():
    settings = parse_overrides({"configurations.2d.steps": "7", "steps": "9"})
    assert (settings["2d"]["steps"], settings["3d_fullres"]["steps"]) == (7, 9)


@pytest.mark.parametrize("text", ["4,1.5,1.5", "4x1.5x1.5", "[4, 1.5, 1.5]", " 4, 1.5 ,1.5 "])
def test_lists_can_be_written_in_three_ways(text):
    assert parse_overrides({"spacing_mm": text})["2d"]["spacing_mm"] == (4.0, 1.5, 1.5)


def test_what_depends_on_the_spacing_follows():
    made = _plan(spacing_mm="4,1,1")
    full = made.configurations["3d_fullres"]
    assert full.spacing_mm == full.sealed_spacing_mm == (4.0, 1.0, 1.0)
    # 30 mm of bone, 3 mm margin and 2 mm slack a side: 40 mm.
    assert full.sealed_size[1] >= 40
    assert full.network.divisor[1] >= 8
    assert made.reasons["3d_fullres.spacing_mm"].startswith("set by --set; the rule says")


def test_the_network_follows_the_patch():
    made = _plan(patch_size="20,72,72")
    full = made.configurations["3d_fullres"]
    assert full.patch_size == (20, 72, 72)
    assert all(n % d == 0 for n, d in zip(full.patch_size, full.network.divisor, strict=True))
    # A patch of many slices is not meant for 2d.
    assert made.configurations["2d"].patch_size[0] == 1


def test_a_patch_of_many_slices_is_refused_for_2d():
    with pytest.raises(UsageError, match=r"20 slice.*2d needs 1 slice"):
        parse_overrides({"configurations.2d.patch_size": "20,72,72"})


def test_the_network_follows_the_sealed_size():
    full = _plan(sealed_size="16,48,48").configurations["3d_fullres"]
    assert full.sealed_size == (16, 48, 48)
    assert all(48 % d == 0 for d in full.network.divisor[1:])


def test_widths_set_the_depth():
    made = _plan(network__features="8,16,24")
    full = made.configurations["3d_fullres"]
    assert made.reasons["3d_fullres.network.features"].startswith("set by --set; the rule says 16, 32, 64")
    assert full.network.features == (8, 16, 24)
    assert len(full.network.strides) == 3


def test_more_widths_than_the_crop_allows_are_refused():
    with pytest.raises(UsageError, match=r"7 stages; patch and sealed crop allow \d here"):
        _plan(network__features="8,8,8,8,8,8,8")


def test_a_larger_batch_costs_estimated_memory():
    few, many = (_plan(gpu(24), batch_size=n).configurations["3d_fullres"] for n in ("1", "16"))
    assert many.batch_size == 16
    assert many.estimated_memory_gb > few.estimated_memory_gb


def test_a_margin_enlarges_the_sealed_crop():
    tight = _plan(gpu(24), sealing_margin_mm="0").configurations["3d_fullres"]
    wide = _plan(gpu(24), sealing_margin_mm="15").configurations["3d_fullres"]
    assert wide.sealed_size[1] > tight.sealed_size[1]


def test_overrides_are_recorded():
    assert _plan(steps="500").overrides == {"steps": "500"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("step", "5", "Did you mean steps"),
        ("configurations.3d_fulres.steps", "5", "Did you mean 3d_fullres"),
        ("configurations.3d_fullres", "5", "no key ''"),
        ("configurations.3d_fullres.learnin_rate", "5", "Did you mean learning_rate"),
        ("estimated_memory_gb", "5", "no key 'estimated_memory_gb'"),
        ("steps", "many", "expected int"),
        ("steps", "5.5", "expected int"),
        ("steps", "0", "out of bounds"),
        ("steps", "-3", "out of bounds"),
        ("learning_rate", "nan", "out of bounds"),
        ("learning_rate", "2", "out of bounds"),
        ("spacing_mm", "4,2", "expected 3 values, got 2"),
        ("spacing_mm", "4,2,x", "expected 3 values, got 2"),
        ("spacing_mm", "[4,2", "not a list"),
        ("spacing_mm", "0,1,1", "out of bounds"),
        ("patch_size", "20,64.5,64", "expected int"),
        ("mirror_axes", "3", "out of bounds"),
        ("scale_range", "1.2,0.8", "must not exceed"),
        ("normalisation", "zscore", "'zscore' is not known"),
        ("balanced_crop_share", "1.5", "out of bounds"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(key, value, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_overrides({key: value})
    assert str(caught.value).startswith(f"--set {key}")


def test_a_configuration_that_is_not_planned_cannot_be_set():
    with pytest.raises(UsageError, match=r"no configuration 3d_lowres\. It has: 2d, 3d_fullres"):
        plan(DATASET, describe(DATASET), CPU, overrides={"configurations.3d_lowres.steps": "5"})


def test_mirroring_head_to_feet_is_refused():
    with pytest.raises(SpineclsError, match="axis 1 runs head to feet"):
        _plan(mirror_axes="0,1")


def test_a_patch_that_cannot_be_halved_is_refused():
    with pytest.raises(SpineclsError, match="neither in-plane axis can be halved"):
        _plan(patch_size="20,71,71")
