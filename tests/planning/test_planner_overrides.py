import pytest
from made_up_datasets import CPU, describe, gpu, make_dataset

from spinecls.errors import SpineclsError, UsageError
from spinecls.planning.memory import training_memory_gb
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
    assert full.spacing_mm == (4.0, 1.0, 1.0)
    # Three vertebrae of 36 mm.
    assert full.patch_size[1] >= 108
    assert full.network.divisor[1] >= 8
    assert made.reasons["3d_fullres.spacing_mm"].startswith("set by --set; the rule says")


def test_readers_do_not_follow_the_spacing_of_the_finder():
    ruled, set_here = (_plan(**settings).configurations["3d_fullres"] for settings in ({}, {"spacing_mm": "4,1,1"}))
    for field in ("sealed_spacing_mm", "sealed_size", "reader_network", "estimated_reader_step_seconds"):
        assert getattr(set_here, field) == getattr(ruled, field)


def test_what_depends_on_the_spacing_of_readers_follows():
    ruled, full = (_plan(**settings).configurations["3d_fullres"] for settings in ({}, {"sealed_spacing_mm": "4,1,1"}))
    # 30 mm of bone and 3 mm margin a side, but for half a voxel.
    assert full.sealed_size[1] >= 36
    assert full.reader_network.divisor[1] == 2 * ruled.reader_network.divisor[1]
    assert full.spacing_mm == ruled.spacing_mm


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


def test_the_network_of_readers_follows_the_sealed_size():
    full = _plan(sealed_size="16,48,48").configurations["3d_fullres"]
    assert full.sealed_size == (16, 48, 48)
    assert all(48 % d == 0 for d in full.reader_network.divisor[1:])
    assert full.network == _plan().configurations["3d_fullres"].network


def test_widths_set_the_depth():
    made = _plan(network__features="8,16,24")
    full = made.configurations["3d_fullres"]
    assert made.reasons["3d_fullres.network.features"].startswith("set by --set; the rule says 16, 32, 64")
    assert full.network.features == (8, 16, 24)
    assert len(full.network.strides) == 3


def test_finder_and_readers_have_widths_of_their_own():
    full = _plan(reader_network__features="8,12", reader_network__convs_per_stage="3").configurations["3d_fullres"]
    assert (full.reader_network.features, full.reader_network.convs_per_stage) == ((8, 12), 3)
    assert full.network == _plan().configurations["3d_fullres"].network


@pytest.mark.parametrize("network", ["network", "reader_network"])
def test_more_widths_than_the_input_allows_are_refused(network):
    with pytest.raises(UsageError, match=rf"--set {network}.features: 7 stages; the size of its input allows \d here"):
        _plan(**{f"{network}__features": "8,8,8,8,8,8,8"})


def test_the_network_that_needs_most_sets_the_memory():
    def needed(full, finder):
        network, size, batch = (
            (full.network, full.patch_size, full.batch_size) if finder
            else (full.reader_network, full.sealed_size, full.sealed_batch_size)
        )  # fmt: skip
        return round(training_memory_gb(network, size, batch, 1 if finder else 2, half_precision=True), 3)

    finder = _plan(gpu(24), sealed_batch_size="1").configurations["3d_fullres"]
    readers = _plan(gpu(24), batch_size="1", sealed_batch_size="200").configurations["3d_fullres"]
    assert finder.estimated_memory_gb == needed(finder, True) > needed(finder, False)
    assert readers.estimated_memory_gb == needed(readers, False) > needed(readers, True)


def test_who_shortens_the_finder_shortens_the_readers():
    made = _plan(steps="50").configurations["3d_fullres"]
    assert (made.steps, made.reader_steps) == (50, 50)
    apart = _plan(steps="50", reader_steps="70").configurations["3d_fullres"]
    assert (apart.steps, apart.reader_steps) == (50, 70)


def test_who_lengthens_the_finder_leaves_the_readers():
    ruled = _plan().configurations["3d_fullres"].reader_steps
    assert _plan(steps="100000").configurations["3d_fullres"].reader_steps == ruled


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
