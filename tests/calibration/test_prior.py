import numpy as np
import pytest

from spinecls.calibration.prior import checked_prior, move_prior
from spinecls.errors import UsageError

NAMES = ("normal", "oedema", "fatty")
OLD = np.asarray([0.5, 0.3, 0.2])


def test_shares_come_in_the_order_of_the_classes():
    assert checked_prior({"fatty": 0.1, "normal": 0.7, "oedema": 0.2}, NAMES, OLD) == pytest.approx([0.7, 0.2, 0.1])


def test_shares_that_are_rounded_are_made_to_add_up():
    shares = checked_prior({"normal": 0.3333, "oedema": 0.3333, "fatty": 0.3333}, NAMES, OLD)
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=1e-12)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"normal": 0.5, "oedema": 0.3, "fatty": 0.1, "tumour": 0.1}, "'tumour' is not a class. Known: normal, oedema"),
        ({"normal": 0.5, "oedema": 0.5}, "the share of 'fatty' is missing"),
        ({"normal": 1.1, "oedema": -0.1, "fatty": 0.0}, "'normal' is 1.1, expected 0 to 1"),
        ({"normal": 0.9, "oedema": -0.1, "fatty": 0.2}, "'oedema' is -0.1, expected 0 to 1"),
        ({"normal": float("nan"), "oedema": 0.5, "fatty": 0.5}, "'normal' is nan"),
        ({"normal": 0.5, "oedema": 0.3, "fatty": 0.198}, "add up to 0.998, expected 1"),
    ],
)
def test_faulty_shares_are_refused(shares, message):
    with pytest.raises(UsageError, match=message):
        checked_prior(shares, NAMES, OLD)


def test_class_that_was_never_calibrated_can_have_no_share():
    old, shares = np.asarray([0.6, 0.4, 0.0]), {"normal": 0.5, "oedema": 0.4, "fatty": 0.1}
    with pytest.raises(UsageError, match=r"'fatty' never occurred .* Got the share 0.1, expected 0"):
        checked_prior(shares, NAMES, old)
    assert checked_prior({"normal": 0.6, "oedema": 0.4, "fatty": 0}, NAMES, old).tolist() == [0.6, 0.4, 0.0]


def test_same_prior_changes_nothing():
    probabilities = np.asarray([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    assert move_prior(probabilities, OLD, OLD) == pytest.approx(probabilities)


def test_rarer_class_loses_odds_by_the_ratio_of_the_priors():
    # Even odds at even shares are odds of 1 to 9 where one vertebra in ten has the class.
    moved = move_prior(np.asarray([[0.5, 0.5]]), np.asarray([0.5, 0.5]), np.asarray([0.9, 0.1]))
    assert moved == pytest.approx(np.asarray([[0.9, 0.1]]))


def test_moving_there_and_back_gives_the_same():
    probabilities, new = np.random.default_rng(0).dirichlet(np.ones(3), 20), np.asarray([0.8, 0.15, 0.05])
    assert move_prior(move_prior(probabilities, OLD, new), new, OLD) == pytest.approx(probabilities)


def test_moved_probabilities_are_those_of_bayes():
    # Two classes, one measurement x: normal with mean 0 or 1. The posterior by Bayes at either prior.
    x = np.linspace(-2, 3, 11)
    likelihood = np.stack([np.exp(-(x**2) / 2), np.exp(-((x - 1) ** 2) / 2)], axis=1)

    def posterior(prior):
        return likelihood * prior / (likelihood * prior).sum(axis=1, keepdims=True)

    old, new = np.asarray([0.7, 0.3]), np.asarray([0.95, 0.05])
    assert move_prior(posterior(old), old, new) == pytest.approx(posterior(new))


def test_the_only_possible_class_takes_all_though_the_model_had_excluded_it():
    moved = move_prior(np.asarray([[1.0, 0.0, 0.0]]), OLD, np.asarray([0.0, 1.0, 0.0]))
    assert moved == pytest.approx(np.asarray([[0.0, 1.0, 0.0]]))
