import numpy as np
import pytest
from simulation_scans import body_map, scan, simulated

from spinecls.simulation.tissue import Channel, changed, rounded

COMB = np.array([0, 4, 8, 12, 100], np.float32)


def channel(levels=COMB, **values) -> Channel:
    low, high = (0.0, 100.0) if levels is None else (float(levels[0]), float(levels[-1]))
    known = {"sequence": "T2", "median": 8.0, "deviation": 2.0, "dark": 0.0, "bright": 90.0}
    return Channel(**{**known, **values}, grey_levels=levels, value_range=(low, high))


def test_a_quantised_image_keeps_to_the_values_that_occur_in_it():
    values = np.random.default_rng(0).uniform(-5, 120, 1000)
    assert set(rounded(values, channel(), np.random.default_rng(1).random(1000))) <= set(COMB.tolist())


def test_rounding_keeps_the_mean():
    # Between 4 and 8, 5 is drawn as 4 with probability 3/4 and as 8 with 1/4.
    drawn = rounded(np.full(40000, 5.0), channel(), np.random.default_rng(1).random(40000))
    assert drawn.mean() == pytest.approx(5.0, abs=4 * 4 * np.sqrt(0.75 * 0.25 / 40000))


def test_values_that_occur_are_not_rounded():
    np.testing.assert_array_equal(rounded(COMB.astype(float), channel(), np.zeros(5)), COMB)
    np.testing.assert_array_equal(rounded(COMB.astype(float), channel(), np.full(5, 1 - 1e-12)), COMB)


def test_a_continuous_image_keeps_its_fractions_and_its_range():
    values = rounded(np.array([-1.0, 3.25, 104.0]), channel(None), np.zeros(3))
    np.testing.assert_array_equal(values, np.array([0, 3.25, 100], np.float32))


def test_no_change_is_none():
    before = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    after = changed(before, np.ones((3, 3, 3)), before > 5, channel(None), 0.0, np.zeros((3, 3, 3)))
    assert after is before


def test_the_brightest_lesion_goes_three_quarters_of_the_way_to_fluid():
    before, everywhere = np.full((2, 5, 5), 10, np.float32), np.ones((2, 5, 5), bool)
    after = changed(before, everywhere * 1.0, everywhere, channel(None), 1000.0, np.zeros((2, 5, 5)))
    np.testing.assert_allclose(after, 10 + 0.75 * (90 - 10), rtol=0.01)


def test_clipping_at_the_top_of_the_image_is_made_up_for():
    rng = np.random.default_rng(0)
    before = rng.uniform(60, 95, (4, 20, 20)).astype(np.float32)
    everywhere = np.ones(before.shape, bool)
    after = changed(before, everywhere * 1.0, everywhere, channel(None, bright=110.0), 9.0, rng.random(before.shape))
    assert (after == 100).any()
    assert (after - before).mean() == pytest.approx(18, rel=0.02)  # 9 deviations of 2


def test_lesions_in_a_scan_of_whole_numbers_are_whole_numbers_that_the_scan_has():
    before = scan()
    before[before % 3 == 1] += 1  # a comb: grey values that never occur
    after = simulated(image=before, prevalence=0.99).image
    inside = body_map() > 0
    assert (after[0][inside] != before[0][inside]).sum() > 50
    assert set(np.unique(after)) <= set(np.unique(before))


def test_lesions_in_a_scan_with_fractions_have_fractions():
    before = scan(whole=False)
    after = simulated(image=before, prevalence=0.99).image
    moved = after[after != before]
    assert len(moved) > 50
    assert np.mean(moved == np.rint(moved)) < 0.05


def test_the_noise_of_the_scan_stays_in_a_lesion():
    case = simulated(prevalence=0.99, kinds=("corner_oedema",))
    change = (case.image[0].astype(float) - scan()[0])[case.outlines > 0]
    noise = (scan()[0] - 80.0)[case.outlines > 0]
    assert abs(np.corrcoef(change, noise)[0, 1]) < 0.15
