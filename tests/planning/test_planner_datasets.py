"""Plans of made-up datasets: what is decided for each, and that it is said why."""

import dataclasses

import numpy as np
import pytest
from made_up_datasets import CERVICAL, CPU, LUMBAR, THORACIC, describe, gpu, make_dataset

from spinecls.errors import PlanError, UsageError
from spinecls.planning.plan import load_plan, save_plan
from spinecls.planning.planner import explain, plan

WHOLE = (*CERVICAL, *THORACIC, *LUMBAR, "S1")

LUMBAR_SAGITTAL = make_dataset(num_cases=53)
CERVICAL_SPINE = make_dataset(
    shape=(15, 320, 320), spacing_mm=(3.3, 0.7, 0.7), levels=CERVICAL, extent_mm=(26.0, 16.0, 18.0), pitch_mm=18.0
)
WHOLE_SPINE = make_dataset(
    shape=(16, 1024, 384), spacing_mm=(3.3, 0.86, 0.86), levels=WHOLE, extent_mm=(45.0, 28.0, 34.0), pitch_mm=27.0
)
ISOTROPIC = make_dataset(shape=(64, 350, 250), spacing_mm=(1.0, 1.0, 1.0))
FOUR_SLICES = make_dataset(shape=(4, 320, 320), spacing_mm=(6.0, 0.9, 0.9))
TWO_CHANNELS = make_dataset(channels=2)
ONE_CASE = make_dataset(num_cases=1)
MANY = make_dataset(num_cases=700)
GRADES = make_dataset(
    class_names=("none", "mild", "severe"), class_order=True, classes=("none", "none", "none", "mild", "severe")
)
RARE = make_dataset(each=lambda i: {} if i < 2 else {"classes": ("normal",)})
MIXED = make_dataset(
    num_cases=40,
    each=lambda i: (
        {"spacing_mm": (0.9, 0.9, 0.9), "shape": (90, 250, 250)} if i < 6 else {"spacing_mm": (3.8, 0.9, 0.9)}
    ),
)
NO_LESIONS = make_dataset(lesions_mm=())
POINTS = make_dataset(outlined=False, lesions_mm=())
NO_CLASSES = make_dataset(class_names=(), classes=())
TINY_LESIONS = make_dataset(
    lesions_mm=(1.4, 1.4, 1.4), each=lambda i: {"spacing_mm": (4, 0.5, 0.5)} if i % 4 == 0 else {}
)


def _plan(fingerprint, machine=CPU, channel_names=("T2",), **options):
    return plan(fingerprint, describe(fingerprint, channel_names), machine, **options)


ALL = {
    "lumbar": LUMBAR_SAGITTAL,
    "cervical": CERVICAL_SPINE,
    "whole spine": WHOLE_SPINE,
    "isotropic": ISOTROPIC,
    "four slices": FOUR_SLICES,
    "one case": ONE_CASE,
    "many": MANY,
    "grades": GRADES,
    "rare": RARE,
    "mixed": MIXED,
    "no lesions": NO_LESIONS,
    "points": POINTS,
    "no classes": NO_CLASSES,
    "tiny lesions": TINY_LESIONS,
}
MACHINES = {"cpu": CPU, "gpu 8 GB": gpu(8), "gpu 24 GB": gpu(24)}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("fingerprint", ALL.values(), ids=ALL)
def test_a_plan_is_sound_and_survives_its_file(fingerprint, machine, tmp_path):
    made = _plan(fingerprint, machine)
    for configuration in made.configurations.values():
        assert configuration.estimated_memory_gb <= 0.85 * machine.memory_gb
        divisor = configuration.reader_network.divisor
        bottleneck = [n // d for n, d in zip(configuration.sealed_size, divisor, strict=True)]
        assert bottleneck[0] >= 2
        assert min(bottleneck[1:]) >= (3 if machine is CPU else 4)
        for network in (configuration.network, configuration.reader_network):
            assert network.kernels[-1][1:] == (3, 3)
        room = [n * s for n, s in zip(configuration.sealed_size, configuration.sealed_spacing_mm, strict=True)]
        extents = fingerprint.extents_mm()
        for axis in (1, 2) if len(extents) else ():
            if machine is CPU:
                # Nineteen of twenty vertebrae with their margin, but for half a voxel.
                needed = np.percentile(extents[:, axis], 95) + 2 * configuration.sealing_margin_mm
                assert room[axis] >= needed - configuration.sealed_spacing_mm[axis] / 2
            else:
                assert room[axis] >= extents[:, axis].max() + 6
    save_plan(tmp_path / "plan.json", made)
    assert load_plan(tmp_path / "plan.json") == made


@pytest.mark.parametrize("fingerprint", ALL.values(), ids=ALL)
def test_every_field_of_a_configuration_has_its_reason(fingerprint):
    made = _plan(fingerprint)
    for name, configuration in made.configurations.items():
        for field in type(configuration).__dataclass_fields__:
            if field not in ("name", "network", "reader_network"):
                assert len(made.reasons[f"{name}.{field}"]) > 10


def test_planning_is_pure():
    assert _plan(LUMBAR_SAGITTAL) == _plan(LUMBAR_SAGITTAL)


def test_lumbar_on_a_cpu_is_coarsened_to_two_mm():
    made = _plan(LUMBAR_SAGITTAL)
    full = made.configurations["3d_fullres"]
    assert full.spacing_mm == (4.0, 2.0, 2.0)
    assert full.sealed_spacing_mm == full.spacing_mm
    assert full.patch_size[1] == 112
    assert 150_000 < full.patch_size[0] * full.patch_size[1] * full.patch_size[2] <= 200_000
    assert full.network.features[0] == 16
    assert (full.batch_size, full.sealed_batch_size) == (1, 16)
    assert "x1 " in made.reasons["3d_fullres.spacing_mm"]
    assert set(made.configurations) == {"2d", "3d_fullres"}


def test_more_time_keeps_the_fine_grid():
    full = _plan(LUMBAR_SAGITTAL, time_budget_minutes=600).configurations["3d_fullres"]
    assert full.spacing_mm[1] < 2.0


def test_lumbar_on_a_gpu_keeps_the_grid_and_sees_the_whole_body():
    full = _plan(LUMBAR_SAGITTAL, gpu(24)).configurations["3d_fullres"]
    assert full.spacing_mm == (4.0, 1.0, 1.0)
    assert full.patch_size[1:] == (224, 224)
    # 19 slices in multiples of 4; 24, in multiples of 8, would be more than a quarter more.
    assert full.patch_size[0] == 20
    assert full.batch_size >= 2
    assert full.sealed_batch_size == 16
    # 8000 x sqrt(53 / 25) = 11648.1
    assert full.steps == 11648


def test_cervical_vertebrae_get_a_smaller_sealed_crop():
    cervical = _plan(CERVICAL_SPINE, gpu(24)).configurations["3d_fullres"]
    # 16 mm of bone, 1 mm margin (half the disc of 2 mm) and 2 mm slack a side: 22 mm; 31.4 voxels of 0.7 mm.
    assert cervical.sealing_margin_mm == 1.0
    assert cervical.sealed_size[1] == 32
    # 0.15 x 18 = 2.7 and 0.8 x 3.3 = 2.64 both lie below 3.
    assert cervical.heatmap_sigma_mm == 3.0


def test_a_whole_spine_gets_a_coarse_view():
    made = _plan(WHOLE_SPINE)
    full, low = made.configurations["3d_fullres"], made.configurations["3d_lowres"]
    assert low.spacing_mm[1] > full.spacing_mm[1]
    seen = [min(1, n * s / mm) for n, s, mm in zip(low.patch_size, low.spacing_mm, (52.8, 880.6, 330.2), strict=True)]
    assert seen[0] * seen[1] * seen[2] >= 0.25
    assert "3d_lowres" in made.reasons["configurations"]


def test_the_open_patch_holds_three_vertebrae():
    for fingerprint, pitch in ((WHOLE_SPINE, 27), (CERVICAL_SPINE, 18), (ISOTROPIC, 36)):
        for machine in (CPU, gpu(8)):
            full = _plan(fingerprint, machine).configurations["3d_fullres"]
            assert full.patch_size[1] * full.spacing_mm[1] >= 3 * pitch


def test_isotropic_voxels_are_pooled_alike_as_far_as_the_patch_reaches():
    full = _plan(ISOTROPIC, gpu(24)).configurations["3d_fullres"]
    for network in (full.network, full.reader_network):
        assert set(network.kernels) == {(3, 3, 3)}
        assert max(network.divisor) <= 2 * min(network.divisor)


def test_four_slices_are_planned_in_two_dimensions_only():
    made = _plan(FOUR_SLICES)
    assert set(made.configurations) == {"2d"}
    assert "2d only: median 4 slices" in made.reasons["configurations"]
    assert made.configurations["2d"].patch_size[0] == 1
    assert made.configurations["2d"].sealed_size[0] == 4
    assert {k[0] for k in made.configurations["2d"].network.kernels} == {1}


def test_each_channel_is_normalised():
    made = _plan(TWO_CHANNELS, channel_names=("T1", "noNorm"))
    assert made.configurations["3d_fullres"].normalisation == ("robust_zscore", "none")


def test_one_case_can_be_planned():
    full = _plan(ONE_CASE, gpu(24)).configurations["3d_fullres"]
    assert full.network.features[0] == 24
    # 8000 x sqrt(1 / 25) = 1600 lies below the least.
    assert full.steps == 2000


def test_many_patients_train_longer():
    # 8000 x sqrt(700 / 25) = 42332.0
    assert _plan(MANY, gpu(24)).configurations["3d_fullres"].steps == 42332
    assert _plan(MANY, gpu(24)).configurations["3d_fullres"].network.features[0] == 32


def test_ordered_grades_are_kept_in_order():
    made = _plan(GRADES)
    assert made.class_order
    assert made.class_counts == {"none": 75, "mild": 25, "severe": 25}
    # 75 / 25 = 3 is above 1.5 and not above 3.
    assert made.configurations["3d_fullres"].logit_adjustment == 1.0
    assert made.configurations["3d_fullres"].balanced_crop_share == 0.0


def test_a_class_of_two_patients_is_warned_of():
    made = _plan(RARE)
    assert "Warning: class 'lesion' comes from 2 patient(s)" in made.reasons["class_counts"]
    assert made.configurations["3d_fullres"].balanced_crop_share == pytest.approx(1 / 3)


def test_few_thin_slice_cases_do_not_decide_the_slice_distance():
    made = _plan(MIXED, gpu(24))
    assert made.configurations["3d_fullres"].spacing_mm == (3.8, 0.9, 0.9)
    assert "6 near 0.9 mm, 34 near 3.8 mm" in made.reasons["3d_fullres.spacing_mm"]


def test_without_lesions_the_plane_is_coarsened_to_two_mm_at_most():
    assert _plan(NO_LESIONS).configurations["3d_fullres"].spacing_mm[1] <= 2.0


def test_small_lesions_refine_the_plane():
    made = _plan(TINY_LESIONS, gpu(24))
    assert made.configurations["3d_fullres"].spacing_mm[1:] == (0.7, 0.7)
    assert "smallest lesions measure 1.4 mm" in made.reasons["3d_fullres.spacing_mm"]


def test_points_alone_borrow_the_size_of_adults():
    made = _plan(POINTS)
    assert made.level_statistics["L3"].extent_mm == (46.0, 27.0, 35.0)
    assert made.level_statistics["L3"].pitch_mm == 36.0
    assert "typical adults" in made.reasons["3d_fullres.sealed_size"]


def test_without_classes_nothing_is_balanced():
    made = _plan(NO_CLASSES)
    assert made.configurations["3d_fullres"].logit_adjustment == 0.0
    assert "located and named only" in made.reasons["class_counts"]


def test_without_classes_there_are_no_readers():
    made = _plan(NO_CLASSES)
    assert made.configurations["3d_fullres"].members == 0
    assert made.reasons["3d_fullres.members"] == "no classes, so there are no readers."
    assert "Warning" not in made.reasons["3d_fullres.reader_steps"]


def test_a_larger_gpu_gives_no_smaller_patch_and_batch():
    small, large = (_plan(WHOLE_SPINE, gpu(gb)).configurations["3d_fullres"] for gb in (2, 24))
    assert all(a <= b for a, b in zip(small.patch_size, large.patch_size, strict=True))
    assert small.patch_size != large.patch_size or small.batch_size < large.batch_size


def test_the_memory_target_is_kept():
    for target in (2.0, 4.0):
        made = _plan(ISOTROPIC, gpu(80), gpu_memory_target_gb=target)
        assert all(c.estimated_memory_gb <= target for c in made.configurations.values())


def test_too_little_memory_is_refused_with_its_numbers():
    with pytest.raises(PlanError, match=r"no patch fits.*limit is 0\.50 GB.*-gpu_memory_target"):
        _plan(LUMBAR_SAGITTAL, gpu(80), gpu_memory_target_gb=0.5)


def test_no_time_at_all_is_warned_of():
    made = _plan(LUMBAR_SAGITTAL, time_budget_minutes=0.5)
    assert made.configurations["3d_fullres"].steps == 200
    assert "Warning: too few" in made.reasons["3d_fullres.steps"]


@pytest.mark.parametrize("option", [{"time_budget_minutes": 0}, {"gpu_memory_target_gb": -1}])
def test_impossible_limits_are_refused(option):
    with pytest.raises(UsageError, match="not above 0"):
        _plan(LUMBAR_SAGITTAL, **option)


def test_an_empty_dataset_cannot_be_planned():
    with pytest.raises(PlanError, match="no case to plan for"):
        _plan(make_dataset(num_cases=0))


def test_the_explanation_shows_key_value_and_reason():
    rows = {key: (value, reason) for key, value, reason in explain(_plan(LUMBAR_SAGITTAL))}
    assert rows["3d_fullres.spacing_mm"][0] == "4, 2, 2"
    assert rows["3d_fullres.network.features"][0].startswith("16, 32")
    assert rows["class_counts"][0] == "normal 159, lesion 106"
    assert all(reason for _, reason in rows.values())


def test_a_plan_edited_by_hand_can_still_be_explained():
    made = _plan(LUMBAR_SAGITTAL)
    edited = dataclasses.replace(made, configurations={"2d": made.configurations["2d"]})
    assert {key.split(".")[0] for key, _, _ in explain(edited)} == {
        "configurations",
        "2d",
        "level_statistics",
        "class_counts",
        "register_channels",
        "familiar",
    }


def test_levels_follow_the_description():
    made = plan(LUMBAR_SAGITTAL, describe(LUMBAR_SAGITTAL, levels={"L1": 1, "L2": 2}), CPU)
    assert made.levels == {"L1": 1, "L2": 2}
    assert list(made.level_statistics) == ["L1", "L2"]
    assert made.level_statistics["L1"].count == 53
