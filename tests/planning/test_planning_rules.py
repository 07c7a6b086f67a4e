import pytest
from made_up_datasets import describe, make_dataset

from spinecls.planning import rules_grid, rules_training


@pytest.mark.parametrize(
    ("spacings", "expected"),
    [
        ([4.0] * 39 + [2.0] * 14, 4.0),
        # 3.3 and 4.4 differ by a third, so they are one group of 85.
        ([0.9] * 15 + [3.3] * 40 + [4.4] * 45, 4.4),
        ([0.9] * 60 + [4.4] * 40, 0.9),
        ([1.0] * 5 + [4.0] * 5, 4.0),
        ([3.0, 3.3, 3.6, 4.0, 4.4], 3.6),
        ([5.0], 5.0),
    ],
)
def test_the_most_frequent_slice_distance_decides(spacings, expected):
    assert rules_grid.slice_spacing(spacings)[0] == expected


def test_the_plane_is_the_median_where_lesions_are_large():
    assert rules_grid.target_spacing(make_dataset(lesions_mm=(6.0,)))[0] == (4.0, 1.0, 1.0)


def test_the_plane_is_never_finer_than_what_was_acquired():
    assert rules_grid.target_spacing(make_dataset(lesions_mm=(0.5,)))[0] == (4.0, 1.0, 1.0)


def test_coarsening_stops_at_the_limit():
    assert rules_grid.coarsened((4.0, 1.0, 1.0), 1.5, 2.0) == (4.0, 1.5, 1.5)
    assert rules_grid.coarsened((4.0, 1.4, 1.4), 2.0, 2.0) == (4.0, 2.0, 2.0)
    assert rules_grid.coarsened((4.0, 2.5, 2.5), 2.0, 2.0) == (4.0, 2.5, 2.5)


def test_slices_are_coarsened_with_an_isotropic_plane():
    assert rules_grid.coarsened((1.0, 1.0, 1.0), 2.0, 2.0) == (2.0, 2.0, 2.0)


def test_half_a_lesion_may_be_coarser_than_two_mm():
    assert rules_grid.coarsest_in_plane_mm(make_dataset(lesions_mm=(6.0,))) == 3.0
    assert rules_grid.coarsest_in_plane_mm(make_dataset(lesions_mm=(1.0,))) == 2.0


def test_the_sealed_crop_holds_margin_and_slack_within_the_plane():
    # 46 + 2 x 2; 30 + 2 x (3 + 2); 36 + 2 x (3 + 2)
    room, reason = rules_grid.sealed_extent_mm(make_dataset(), 3.0, tight=False)
    assert room == (50.0, 40.0, 46.0)
    assert "125 vertebrae" in reason


def test_the_sealed_crop_is_no_wider_than_the_slices_together():
    few_slices = make_dataset(shape=(4, 320, 320), spacing_mm=(6.0, 1.0, 1.0))
    room, _ = rules_grid.sealed_extent_mm(few_slices, 3.0, tight=False)
    assert room[0] == 24.0


def test_a_tight_sealed_crop_holds_nineteen_of_twenty_vertebrae_without_slack():
    # One case of 25 has bodies of 60 mm along the spine: above the 95th percentile. 30 + 2 x 3; 36 + 2 x 3
    fingerprint = make_dataset(each=lambda i: {"extent_mm": (46.0, 60.0, 36.0)} if i == 0 else {})
    assert rules_grid.sealed_extent_mm(fingerprint, 3.0, tight=True)[0] == (46.0, 36.0, 42.0)


def test_the_least_patch_holds_three_vertebrae():
    # 46 + 2 x 2; 3 x 36; 36 + 20
    assert rules_grid.minimum_patch_mm(make_dataset()) == (50.0, 108.0, 56.0)


def test_the_least_patch_is_no_larger_than_the_body():
    small = make_dataset(shape=(19, 80, 40))
    assert rules_grid.patch_bounds(small, (4.0, 1.0, 1.0), flat=False) == ((13, 80, 40), (19, 80, 40))


def test_a_patch_grows_head_to_feet_first():
    grown = rules_grid.grow_patch(
        (8, 16, 16), (40, 64, 64), (4, 8, 8), lambda size: size[0] * size[1] * size[2] <= 8192
    )
    assert grown == (8, 64, 16)


def test_few_slices_are_kept_whole():
    grown = rules_grid.grow_patch(
        (8, 16, 16), (19, 64, 64), (4, 8, 8), lambda size: size[0] * size[1] * size[2] <= 12000
    )
    assert grown == (20, 32, 16)


def test_no_patch_is_smaller_than_the_least():
    assert rules_grid.grow_patch((8, 16, 16), (8, 16, 16), (4, 8, 8), lambda size: False) is None


def test_the_margin_is_half_a_disc_at_most():
    # (36 - 30) / 2 = 3; (33 - 30) / 2 = 1.5; (30.5 - 30) / 2 is below 1.
    for pitch, expected in ((40.0, 3.0), (36.0, 3.0), (33.0, 1.5), (30.5, 1.0)):
        assert rules_training.sealing_margin_mm(make_dataset(pitch_mm=pitch))[0] == expected


@pytest.mark.parametrize(("pitch", "slice_mm", "expected"), [(36, 4, 5.4), (36, 8, 6.4), (18, 1, 3.0)])
def test_the_heatmap_is_as_wide_as_pitch_and_slices_need(pitch, slice_mm, expected):
    assert rules_training.heatmap_sigma_mm(make_dataset(pitch_mm=float(pitch)), slice_mm)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("names", "open_axes", "sealed_axes"),
    [
        (("normal", "lesion"), (0,), (0, 1, 2)),
        (("normal", "left foraminal"), (), (1, 2)),
        (("normal", "upper_endplate"), (0,), (0, 2)),
        (("normal", "anterior corner", "posterior corner"), (0,), (0, 1)),
        (("normal", "cleft"), (0,), (0, 1, 2)),
    ],
)
def test_a_class_that_names_a_side_is_not_mirrored_onto_the_other(names, open_axes, sealed_axes):
    assert rules_training.mirror_axes(names)[0] == (open_axes, sealed_axes)


@pytest.mark.parametrize(
    ("counts", "tau", "share"),
    [
        ({"a": 10, "b": 10}, 0.0, 0.0),
        ({"a": 15, "b": 10}, 0.0, 0.0),
        ({"a": 16, "b": 10}, 1.0, 0.0),
        ({"a": 31, "b": 10}, 1.0, 1 / 3),
        ({"a": 20, "b": 10, "c": 0}, 1.0, 0.0),
        ({"a": 20, "b": 0}, 0.0, 0.0),
        ({}, 0.0, 0.0),
    ],
)
def test_logits_are_adjusted_for_uneven_classes(counts, tau, share):
    assert rules_training.logit_adjustment(counts)[0] == (tau, share)


@pytest.mark.parametrize(("patients", "steps"), [(25, 8000), (100, 16000), (1, 2000), (10_000, 50_000)])
def test_steps_grow_with_the_root_of_the_patients(patients, steps):
    assert rules_training.training_steps(patients, "cuda", 1.0, None)[0] == steps


def test_steps_fit_into_the_budget():
    # 0.92 x 30 x 60 / 1.2 = 1380
    assert rules_training.training_steps(53, "cpu", 1.2, 30)[0] == 1380
    assert rules_training.training_steps(25, "cpu", 0.001, 30)[0] == 8000


@pytest.mark.parametrize(
    ("minutes", "asked", "members", "steps"),
    [
        # Steps of 0.6 s, of which 0.92 x 60 / 0.6 = 92 fit into a minute; the rule wants 500 x 2 for 100 patients.
        (None, None, 5, 1000),
        (None, 2, 2, 1000),
        # 100 minutes: 9200 steps are nine times 1000, and five are enough.
        (100, None, 5, 1000),
        # 54: 4968 steps are four times 1000.
        (54, None, 4, 1000),
        # 30: 2760 steps are twice 1000, and three times at least 500: three of 920.
        (30, None, 3, 920),
        # 12: 1104 steps are no more than two times 500: two of 552.
        (12, None, 2, 552),
        # 6: 552 steps are for one.
        (6, None, 1, 552),
        # 1: 92 steps are fewer than the least.
        (1, None, 1, 200),
        (30, 1, 1, 1000),
        (30, 10, 10, 276),
        (30, 20, 20, 200),
    ],
)
def test_readers_share_the_time_that_is_left_for_them(minutes, asked, members, steps):
    found = rules_training.reader_steps(100, 0.6, minutes, asked)
    assert found[:2] == (members, steps)
    # More time than there is goes into no plan without a word.
    assert ("Warning: too few" in found[2]) == (minutes is not None and members * 200 > minutes * 92)


@pytest.mark.parametrize(("patients", "steps"), [(25, 500), (100, 1000), (1, 500), (1_000_000, 10_000)])
def test_steps_of_a_reader_grow_with_the_root_of_the_patients(patients, steps):
    assert rules_training.reader_steps(patients, 1.0, None)[1] == steps


def test_crops_are_as_fine_as_the_scans_where_time_is_no_matter():
    made = make_dataset()
    assert rules_grid.reader_spacing(made, on_cpu=False) == rules_grid.target_spacing(made)


@pytest.mark.parametrize(
    ("plane_mm", "lesion_mm", "expected_mm"),
    # Twice the spacing, no more than 2 mm, and never finer than the scans; small lesions ask for finer ones.
    [(1.0, 6.0, 2.0), (1.4, 6.0, 2.0), (0.5, 3.0, 1.0), (3.2, 6.6, 3.2)],
)
def test_on_a_cpu_crops_are_coarser_than_scans_up_to_a_limit(plane_mm, lesion_mm, expected_mm):
    made = make_dataset(spacing_mm=(4.0, plane_mm, plane_mm), lesions_mm=(lesion_mm,))
    spacing, reason = rules_grid.reader_spacing(made, on_cpu=True)
    assert spacing == pytest.approx((4.0, expected_mm, expected_mm))
    assert "on a CPU coarsened up to" in reason


def test_with_little_time_lesions_alone_limit_how_coarse_crops_are():
    made = make_dataset(spacing_mm=(4.0, 1.6, 1.6), lesions_mm=(6.0,))
    spacing, reason = rules_grid.reader_spacing(made, on_cpu=True, budget_minutes=3.0)
    assert spacing == pytest.approx((4.0, 3.0, 3.0))
    assert "3 minutes are little" in reason


def test_likeness_within_patients_is_warned_of():
    made = make_dataset(num_cases=10, each=lambda i: {"classes": ("normal",) if i % 2 else ("lesion",)})
    assert made.class_icc == 1.0
    assert "(ICC) 1.00. Warning: above 0.3" in rules_training.class_reason(made)


def test_a_class_that_nobody_has_is_warned_of():
    made = make_dataset(class_names=("normal", "lesion", "tumour"))
    assert "'tumour' is declared and never seen" in rules_training.class_reason(made)


def test_one_channel_is_also_shown_inverted_and_several_are_not():
    one, two = make_dataset(), make_dataset(channels=2)
    assert rules_training.contrast_inversion_share(describe(one))[0] == 0.2
    assert rules_training.contrast_inversion_share(describe(two, ("T1", "STIR")))[0] == 0.0
    assert rules_training.contrast_curve_share(describe(one))[0] == 0.2
    assert rules_training.contrast_curve_share(describe(two, ("T1", "STIR")))[0] == 0.0


def test_slices_are_thickened_where_the_scans_differ_in_them():
    alike = make_dataset(each=lambda i: {"spacing_mm": (3.0 + (i % 2), 1.0, 1.0)})
    unlike = make_dataset(each=lambda i: {"spacing_mm": (2.0 + 2 * (i % 2), 1.0, 1.0)})
    assert rules_training.thick_slice_share(alike, 8)[0] == 0.0
    assert rules_training.thick_slice_share(unlike, 8)[0] == 0.25
    assert rules_training.thick_slice_share(unlike, 1)[0] == 0.0


def test_long_scans_are_also_shown_cut_short_and_short_ones_are_not():
    # Pitch 36 mm: 224 mm are 6.2 vertebrae, 120 mm are 3.3.
    assert rules_training.short_view_share(make_dataset())[0] == 0.3
    assert rules_training.short_view_share(make_dataset(shape=(19, 120, 224)))[0] == 0.0


def test_sizes_of_adults_grow_evenly_from_the_middle_of_a_region_to_that_of_the_next():
    # L1 lies 8 of the 10 steps (T13 among them) from T6 (29 mm wide) to L3 (46 mm).
    assert rules_grid.typical_extent_mm("T6")[0] == 29.0
    assert rules_grid.typical_extent_mm("L1")[0] == pytest.approx(29 + 17 * 0.8)
    assert rules_grid.typical_extent_mm("C3") == rules_grid.typical_extent_mm("C5")


def test_a_level_that_nobody_outlined_is_as_much_larger_than_typical_as_the_outlined_ones():
    outlined = make_dataset(1, levels=("L3",), extent_mm=(50.6, 27.0, 42.0))
    made, reason = rules_training.level_statistics(outlined, {"L3": 22, "S1": 26})
    assert made["L3"].extent_mm == (50.6, 27.0, 42.0)
    # 1.1, 1 and 1.2 times the typical 50 x 30 x 33 mm.
    assert made["S1"].extent_mm == (55.0, 30.0, 39.6)
    assert "as much larger as the outlined levels are, for S1" in reason
