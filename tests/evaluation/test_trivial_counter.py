from spinecls.evaluation.trivial_counter import commonest_lowest_level, count_upwards


def test_commonest_lowest_level_ignores_the_order_of_levels():
    assert commonest_lowest_level([["L5", "L4"], ["S1", "L5"], ["T12", "L5"], []]) == "L5"


def test_of_two_equally_common_levels_the_lower_is_taken():
    assert commonest_lowest_level([["L4"], ["S1"]]) == "S1"


def test_no_level_has_no_lowest():
    assert commonest_lowest_level([[], []]) is None


def test_bodies_are_counted_from_the_feet_whatever_their_order():
    centres = [(0, 0, 70), (0, 9, 0), (5, 0, 110), (0, 0, 35)]
    assert count_upwards(centres, "L5") == ["L3", "L5", "L2", "L4"]


def test_numerical_variants_are_not_counted():
    assert count_upwards([(0, 0, 10.0 * i) for i in range(8)], "S1") == [
        "S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11",
    ]  # fmt: skip


def test_variant_that_is_the_lowest_level_is_kept():
    assert count_upwards([(0, 0, 0), (0, 0, 30)], "L6") == ["L6", "L5"]


def test_bodies_above_c1_have_no_name():
    assert count_upwards([(0, 0, 0), (0, 0, 20), (0, 0, 40)], "C2") == ["C2", "C1", None]


def test_nothing_detected_is_nothing_named():
    assert count_upwards([], "L5") == []
