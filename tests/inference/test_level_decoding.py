"""Decoding of level names, against an enumeration of every chain."""

import itertools
import math
import time

import numpy as np
import pytest

from spinecls.anatomy import LEVELS
from spinecls.errors import DatasetError, ModelError
from spinecls.geometry import Geometry
from spinecls.inference.level_decoding import TransitionCosts, complete_pitch_mm, decode_levels, see_anchors

NO_PITCH: dict[str, float] = {}


# ---------------------------------------------------------------------------------------------------------------------
# The written definition in plain Python. Shares nothing with the decoder but the level names.

RULES = {("T12", "T13"): 4.0, ("T11", "L1"): 4.0, ("L5", "L6"): 3.0, ("L4", "S1"): 3.5}
RULES |= {("T13", "L1"): 0.0, ("L6", "S1"): 0.0}
COMMON = [*(f"C{i}" for i in range(1, 8)), *(f"T{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 6)), "S1"]
for _upper, _lower in itertools.pairwise(COMMON):
    RULES[_upper, _lower] = 0.0


def pair_cost(upper, lower, distance_mm, pitch):
    """Nats of two successive detections."""
    distance_mm = max(distance_mm, 1.0)
    if upper == lower == "S1":
        return min(5.0, 3.5 + max(0.0, math.log(distance_mm / pitch["S1"])) ** 2 / (2 * 0.15**2))
    if upper == lower:
        return 5.0 + max(0.0, math.log(distance_mm / (0.5 * pitch[upper]))) ** 2 / (2 * 0.15**2)
    options = []
    if (upper, lower) in RULES:
        options.append(RULES[upper, lower] + math.log(distance_mm / pitch[upper]) ** 2 / (2 * 0.15**2))
    for middle in LEVELS:
        if (upper, middle) in RULES and (middle, lower) in RULES:
            price = 4.0 + RULES[upper, middle] + RULES[middle, lower]
            options.append(price + math.log(distance_mm / (pitch[upper] + pitch[middle])) ** 2 / (2 * 0.15**2))
    return min(options, default=math.inf)


def all_chains(steps_mm, logs, visibility, pitch):
    """Every possible chain of names with its cost."""
    chains = [((level,), emission(logs, visibility, 0, level)) for level in LEVELS]
    for i, distance_mm in enumerate(steps_mm, start=1):
        table = {(a, b): pair_cost(a, b, distance_mm, pitch) for a in LEVELS for b in LEVELS}
        reach = {a: [b for b in LEVELS if math.isfinite(table[a, b])] for a in LEVELS}
        chains = [
            ((*names, level), cost + table[names[-1], level] + emission(logs, visibility, i, level, names[-1]))
            for names, cost in chains
            for level in reach[names[-1]]
            if level == "S1" or names[-2:] != (level, level)
        ]
    return chains


def emission(logs, visibility, i, level, before=None):
    own = -visibility[i] * max(logs[i][LEVELS.index(level)], math.log(1e-9))
    # What lies below S1 may be no vertebra at all; its name is then one of 27.
    return min(own, visibility[i] * math.log(27)) if before == level == "S1" else own


def random_column(rng, most=5):
    """Detections of a made-up spine with variants, misses and doubles, and noisy probabilities."""
    spine = list(COMMON)
    if rng.random() < 0.25:
        spine.insert(spine.index("L1"), "T13")
    elif rng.random() < 0.25:
        spine.remove("T12")
    if rng.random() < 0.25:
        spine.insert(spine.index("S1"), "L6")
    elif rng.random() < 0.25:
        spine.remove("L5")
    pitch = {level: 15 + 20 * i / 26 for i, level in enumerate(LEVELS)}
    count = int(rng.integers(1, most + 1))
    first = int(rng.integers(10, len(spine) - 1)) if rng.random() < 0.8 else int(rng.integers(0, 10))
    positions, levels, here = [], [], 0.0
    for level in spine[first : first + count + 2]:
        if rng.random() > 0.15:
            positions.append(here + rng.normal(0, 2))
            levels.append(level)
            if rng.random() < 0.15:
                positions.append(here + rng.uniform(2, 18))
                levels.append(level)
        here += pitch[level]
    rows = np.argsort(positions)[:count] if positions else np.array([0])
    positions, levels = np.array(positions or [0.0])[rows], [(levels or ["L3"])[i] for i in rows]
    logits = rng.normal(0, 1.5, (len(rows), len(LEVELS)))
    shift = int(rng.integers(-1, 2)) if rng.random() < 0.5 else 0
    sharpness = rng.choice([0.3, 1.0, 3.0])
    for i, level in enumerate(levels):
        logits[i] -= sharpness * (np.arange(len(LEVELS)) - LEVELS.index(level) - shift) ** 2
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    centres = np.column_stack([np.zeros(len(rows)), np.zeros(len(rows)), -positions])
    return centres, logs, rng.uniform(0.3, 1, len(rows)), pitch


def compare(rng):
    """Decoder against enumeration on one random column."""
    centres, logs, visibility, pitch = random_column(rng)
    got = decode_levels(centres, logs, pitch, visibility=visibility)
    steps_mm = np.abs(np.diff(centres[:, 2]))
    chains = all_chains(steps_mm, logs, visibility, pitch)
    cheapest = min(cost for _, cost in chains)
    assert got.cost == pytest.approx(cheapest, abs=1e-9)
    assert min(abs(cost - cheapest) for names, cost in chains if names == got.labels) < 1e-9
    seconds = {lower for _, lower in got.doubled}
    firsts = [i for i in range(len(centres)) if i not in seconds]
    shifted = [cost for names, cost in chains if all(names[i] != got.labels[i] for i in firsts)]
    assert got.shift_margin_nats == pytest.approx(min(shifted, default=math.inf) - cheapest, abs=1e-9)
    posterior = np.zeros((len(centres), len(LEVELS)))
    rows = np.arange(len(centres))
    for names, cost in chains:
        posterior[rows, [LEVELS.index(name) for name in names]] += math.exp(cheapest - cost)
    np.testing.assert_allclose(got.posterior, posterior / posterior.sum(axis=1, keepdims=True), atol=1e-9)
    return got


# ---------------------------------------------------------------------------------------------------------------------


def column(*steps_mm):
    return np.array([[0.0, 0.0, -down] for down in np.concatenate([[0.0], np.cumsum(steps_mm)])])


def sure_of(*levels, probability=0.9):
    """Log-probabilities with `probability` on each named level; None = nothing known."""
    logs = np.full((len(levels), len(LEVELS)), math.log((1 - probability) / (len(LEVELS) - 1)))
    for i, level in enumerate(levels):
        if level is None:
            logs[i] = -math.log(len(LEVELS))
        else:
            logs[i, LEVELS.index(level)] = math.log(probability)
    return logs


SEEDS = range(8)
COLUMNS = 50
FLAT_PITCH = dict.fromkeys(LEVELS, 30.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_decoder_equals_enumeration_of_every_chain(seed):
    rng = np.random.default_rng(seed)
    for _ in range(COLUMNS):
        compare(rng)


def test_random_columns_bring_every_kind_of_step():
    # Guards the comparison above: what never occurs in it is not tested by it.
    seen = set()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for _ in range(COLUMNS):
            centres, logs, visibility, pitch = random_column(rng)
            labels = decode_levels(centres, logs, pitch, visibility=visibility).labels
            seen |= set(itertools.pairwise(labels))
    wanted = {("T12", "T13"), ("T13", "L1"), ("T11", "L1"), ("L5", "L6"), ("L6", "S1"), ("L4", "S1"), ("L2", "L4")}
    assert wanted <= seen
    assert any(upper == lower for upper, lower in seen)


def test_one_blunder_of_the_network_is_overruled_by_the_column():
    logs = sure_of("L1", "L2", "T5", "L4", "L5", "S1")
    decoding = decode_levels(column(30, 30, 30, 30, 30), logs, FLAT_PITCH)
    assert decoding.labels == ("L1", "L2", "L3", "L4", "L5", "S1")
    assert decoding.runner_up[2] != "L3"


def test_cost_of_a_regular_column_is_its_emissions():
    decoding = decode_levels(column(30, 30), sure_of("L1", "L2", "L3", probability=0.5), FLAT_PITCH)
    assert decoding.cost == pytest.approx(3 * math.log(2))


def test_gap_of_two_pitches_is_a_missed_vertebra():
    decoding = decode_levels(column(30, 60, 30), sure_of("T9", None, None, "L1"), FLAT_PITCH)
    assert decoding.labels == ("T9", "T10", "T12", "L1")
    assert decoding.relative_names == ("lowest-4", "lowest-3", "lowest-1", "lowest")


def test_thirteenth_thoracic_vertebra_is_named_when_the_network_sees_it():
    decoding = decode_levels(column(30, 30, 30, 30), sure_of("T11", "T12", "T13", "L1", "L2"), FLAT_PITCH)
    assert decoding.labels == ("T11", "T12", "T13", "L1", "L2")


def test_double_gap_from_t11_to_l1_is_a_missed_t12_and_a_single_gap_an_absent_one():
    logs = sure_of("T10", "T11", "L1", "L2")
    missed = decode_levels(column(30, 60, 30), logs, FLAT_PITCH)
    absent = decode_levels(column(30, 30, 30), logs, FLAT_PITCH)
    assert missed.labels == absent.labels == ("T10", "T11", "L1", "L2")
    assert missed.relative_names[0] == "lowest-4"
    assert absent.relative_names[0] == "lowest-3"


def test_sixth_and_absent_fifth_lumbar_vertebra_are_named():
    six = decode_levels(column(30, 30, 30), sure_of("L4", "L5", "L6", "S1"), FLAT_PITCH)
    four = decode_levels(column(30, 30), sure_of("L3", "L4", "S1"), FLAT_PITCH)
    assert six.labels == ("L4", "L5", "L6", "S1")
    assert four.labels == ("L3", "L4", "S1")


def test_two_near_detections_are_one_vertebra():
    logs = sure_of("L2", "L3", "L3", "L4")
    logs[1] = sure_of("L3", probability=0.6)
    decoding = decode_levels(column(30, 8, 22), logs, FLAT_PITCH)
    assert decoding.labels == ("L2", "L3", "L3", "L4")
    assert decoding.doubled == ((1, 2),)
    assert decoding.merged_away == (1,)
    assert decoding.relative_names == ("lowest-2", "lowest-1", "lowest-1", "lowest")


def test_doubled_detection_costs_five_nats_up_to_half_a_pitch():
    logs = sure_of("L3", "L3", probability=0.99)
    own = -2 * math.log(0.99)
    assert decode_levels(column(14.9), logs, FLAT_PITCH).cost == pytest.approx(own + 5)
    assert decode_levels(column(18), logs, FLAT_PITCH).cost == pytest.approx(own + 5 + math.log(1.2) ** 2 / 0.045)


def test_next_segment_of_the_sacrum_is_no_vertebra_of_its_own():
    # Both look like S1; the lower one, a whole pitch below, is S2 and goes.
    logs = sure_of("L4", "L5", "S1", "S1", probability=0.99)
    decoding = decode_levels(column(30, 30, 30), logs, FLAT_PITCH)
    assert decoding.labels == ("L4", "L5", "S1", "S1")
    assert decoding.cost == pytest.approx(-4 * math.log(0.99) + 3.5)
    assert decoding.merged_away == (3,)


def test_what_lies_below_the_sacrum_is_no_vertebra_however_far_and_whatever_its_name():
    # 70 mm below S1, and 10 mm below that: in the soft tissue of the pelvis.
    logs = sure_of("L4", "L5", "S1", "L1", "L5", probability=0.99)
    decoding = decode_levels(column(30, 30, 70, 10), logs, FLAT_PITCH)
    assert decoding.labels == ("L4", "L5", "S1", "S1", "S1")
    # The farther one: 5 nats for being below; the nearer 3.5, as a further segment would have; each named by lot.
    assert decoding.cost == pytest.approx(-3 * math.log(0.99) + 5 + 3.5 + 2 * math.log(27))
    assert decoding.merged_away == (3, 4)


def test_the_margin_does_not_ask_for_other_names_of_what_is_no_vertebra():
    sure = sure_of("L5", "S1", "S1", probability=0.9)
    # L4, L5 and below it S1: that the last is named S1 again is no obstacle.
    found = decode_levels(column(30, 30), sure, FLAT_PITCH)
    assert found.labels == ("L5", "S1", "S1")
    other = -2 * math.log(0.1 / 26) - math.log(0.9)
    assert found.shift_margin_nats == pytest.approx(other - (-3 * math.log(0.9) + 3.5))


def test_three_detections_in_a_row_are_never_one_vertebra():
    labels = decode_levels(column(5, 5), sure_of("L3", "L3", "L3", probability=0.999), FLAT_PITCH).labels
    assert labels.count("L3") < 3


def test_nothing_follows_s1():
    labels = decode_levels(column(30, 30), sure_of("L5", "S1", "S1", probability=0.999), FLAT_PITCH).labels
    assert labels == ("L5", "S1", "S1")


def test_invisible_vertebra_is_named_by_its_neighbours():
    logs = sure_of("L1", "T3", "L3", probability=0.999999)
    decoding = decode_levels(column(30, 30), logs, FLAT_PITCH, visibility=np.array([1.0, 0.0, 1.0]))
    assert decoding.labels == ("L1", "L2", "L3")


def test_impossible_for_the_network_is_still_possible_for_the_column():
    logs = sure_of("L1", "L2", "L3", "L4", "L5")
    logs[2, LEVELS.index("L3")] = -np.inf
    assert decode_levels(column(30, 30, 30, 30), logs, FLAT_PITCH).labels[2] == "L3"


def test_column_without_an_anchor_is_ambiguous_however_sure():
    decoding = decode_levels(column(30, 30), sure_of("T5", "T6", "T7", probability=0.999), FLAT_PITCH)
    assert decoding.anchors == ()
    assert decoding.shift_margin_nats > 10
    assert decoding.ambiguous


def test_sure_column_down_to_s1_is_not_ambiguous():
    decoding = decode_levels(column(30, 30), sure_of("L4", "L5", "S1"), FLAT_PITCH)
    assert decoding.anchors == ("S1",)
    assert not decoding.ambiguous


def test_column_that_fits_one_level_lower_as_well_has_a_small_margin():
    # L3, L4, L5 and L4, L5, S1 equally probable but for one nat of the first vertebra.
    logs = np.full((3, len(LEVELS)), math.log(1e-6))
    for i, (first, second) in enumerate((("L3", "L4"), ("L4", "L5"), ("L5", "S1"))):
        logs[i, [LEVELS.index(first), LEVELS.index(second)]] = math.log(0.5)
    logs[0, LEVELS.index("L3")] -= 1.0
    decoding = decode_levels(column(30, 30), logs, FLAT_PITCH)
    assert decoding.labels == ("L4", "L5", "S1")
    assert decoding.shift_margin_nats == pytest.approx(1.0)
    assert decoding.anchors == ("S1",)
    assert decoding.ambiguous
    assert decoding.runner_up == ("L3", "L4", "L5")


def test_a_single_vertebra_is_ambiguous_however_sure_the_network_is():
    assert decode_levels(column()[:1], sure_of("S1", probability=0.999), FLAT_PITCH).ambiguous
    assert not decode_levels(column(30), sure_of("L5", "S1", probability=0.999), FLAT_PITCH).ambiguous


def test_two_detections_of_a_single_vertebra_are_ambiguous():
    decoding = decode_levels(column(3), sure_of("S1", "S1", probability=0.999), FLAT_PITCH)
    assert len(decoding.kept) == 1
    assert decoding.ambiguous


def test_less_certainty_leaves_the_names_and_flattens_their_probabilities():
    centres, logs, visibility, pitch = random_column(np.random.default_rng(4))
    whole = decode_levels(centres, logs, pitch, visibility=visibility)
    half = decode_levels(centres, logs, pitch, visibility=visibility, certainty=0.5)
    assert half.labels == whole.labels
    assert half.shift_margin_nats == pytest.approx(0.5 * whole.shift_margin_nats)
    chains = all_chains(np.abs(np.diff(centres[:, 2])), logs, visibility, pitch)
    posterior = np.zeros((len(centres), len(LEVELS)))
    for names, cost in chains:
        posterior[np.arange(len(centres)), [LEVELS.index(name) for name in names]] += math.exp(
            0.5 * (whole.cost - cost)
        )
    np.testing.assert_allclose(half.posterior, posterior / posterior.sum(axis=1, keepdims=True), atol=1e-9)


def image_of(rows, first_row_mm):
    """Upright canonical grid of 2 mm rows that begins `first_row_mm` above the first detection of `column`."""
    return Geometry(
        shape=(10, rows, 100), spacing_mm=(4.0, 2.0, 2.0), origin_lps=(-20.0, -100.0, first_row_mm),
        direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
    )  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), [(60, ("S1",)), (50, ())])
def test_sacrum_in_view_is_an_anchor_though_nobody_detects_it(rows, expected):
    # L4 at 0, L5 at 30 mm, S1 expected at 60 mm; the image reaches from -40 mm to 79 mm or to 59 mm.
    centres = column(30)
    decoding = decode_levels(centres, sure_of("L4", "L5"), FLAT_PITCH)
    assert decoding.ambiguous
    seen = see_anchors(decoding, centres, image_of(rows, centres[0, 2] + 40), FLAT_PITCH)
    assert seen.anchors == expected
    assert seen.ambiguous == (not expected)


def test_second_vertebra_in_view_above_the_third_is_an_anchor():
    centres = column(30)
    decoding = decode_levels(centres, sure_of("C3", "C4"), FLAT_PITCH)
    assert see_anchors(decoding, centres, image_of(60, centres[0, 2] + 35), FLAT_PITCH).anchors == ("C2",)
    assert see_anchors(decoding, centres, image_of(60, centres[0, 2] + 25), FLAT_PITCH).anchors == ()


def test_nothing_is_an_anchor_below_a_thoracic_vertebra():
    centres = column(30)
    decoding = decode_levels(centres, sure_of("T7", "T8"), FLAT_PITCH)
    assert see_anchors(decoding, centres, image_of(100, centres[0, 2] + 40), FLAT_PITCH).anchors == ()


def test_empty_column_has_no_names():
    decoding = decode_levels(np.zeros((0, 3)), np.zeros((0, len(LEVELS))))
    assert decoding.labels == decoding.runner_up == decoding.relative_names == decoding.doubled == ()
    assert decoding.posterior.shape == (0, 27)
    assert decoding.cost == 0
    assert decoding.ambiguous


def test_single_detection_is_named_by_its_own_probabilities():
    logs = sure_of("C2", probability=0.7)
    logs[0, LEVELS.index("C3")] = math.log(0.2)
    decoding = decode_levels(np.zeros((1, 3)), logs)
    assert decoding.labels == ("C2",)
    assert decoding.runner_up == ("C3",)
    assert decoding.anchors == ("C2",)
    assert decoding.relative_names == ("lowest",)
    assert decoding.shift_margin_nats == pytest.approx(math.log(0.7 / 0.2))
    np.testing.assert_allclose(decoding.posterior, np.exp(logs) / np.exp(logs).sum())


def test_rows_of_a_decoding_keep_their_names():
    decoding = decode_levels(column(30, 8, 22), sure_of("L2", "L3", "L3", "L4"), FLAT_PITCH)
    kept = decoding.rows([0, 1, 3])
    assert kept.labels == ("L2", "L3", "L4")
    assert kept.doubled == ()
    assert kept.relative_names == ("lowest-2", "lowest-1", "lowest")
    np.testing.assert_array_equal(kept.posterior, decoding.posterior[[0, 1, 3]])
    assert kept.shift_margin_nats == decoding.shift_margin_nats


def test_pitch_that_is_absent_or_zero_rises_evenly_from_16_to_34_mm():
    pitch = complete_pitch_mm({"L1": 31.0, "L2": 0.0})
    assert pitch["C1"] == 16
    assert pitch["L5"] == pitch["S1"] == 34
    assert pitch["L1"] == 31
    # L2 is the 22nd of the 25 levels down to L5.
    assert pitch["L2"] == pytest.approx(16 + 18 * 21 / 24)


def test_prices_of_variants_decide():
    logs = sure_of("L5", None, "S1")
    dear = decode_levels(column(30, 30), logs, FLAT_PITCH, costs=TransitionCosts(l6=50.0))
    cheap = decode_levels(column(30, 30), logs, FLAT_PITCH)
    assert cheap.labels == ("L5", "L6", "S1")
    assert "L6" not in dear.labels


def test_two_detections_at_one_place_are_decoded():
    assert decode_levels(column(0), sure_of("L3", "L3"), FLAT_PITCH).doubled == ((0, 1),)


def test_probabilities_that_are_not_numbers_are_an_error():
    logs = sure_of("L1", "L2")
    logs[1, 3] = np.nan
    with pytest.raises(ModelError, match="detection 1"):
        decode_levels(column(30), logs, FLAT_PITCH)


def test_more_detections_than_a_doubled_spine_are_an_error():
    with pytest.raises(DatasetError, match="55 detections"):
        decode_levels(column(*[10.0] * 54), sure_of(*[None] * 55), FLAT_PITCH)


def test_probabilities_of_another_number_of_detections_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 27\)"):
        decode_levels(column(30), sure_of("L1", "L2", "L3"), FLAT_PITCH)


def test_whole_spine_takes_milliseconds():
    rng = np.random.default_rng(0)
    centres, logs = column(*rng.uniform(15, 35, 29)), np.log(rng.dirichlet(np.ones(27), 30))
    decode_levels(centres, logs, NO_PITCH)
    start = time.process_time()
    for _ in range(5):
        decode_levels(centres, logs, NO_PITCH)
    # 20 ms each is asked; the bound leaves room for a busy machine.
    assert (time.process_time() - start) / 5 < 0.06
