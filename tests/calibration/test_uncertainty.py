import numpy as np
import pytest

from spinecls.calibration.uncertainty import decompose


def test_members_that_agree_have_no_mutual_information():
    parts = decompose(np.asarray([[[0.5, 0.5], [1.0, 0.0]]] * 3))
    assert parts.total == pytest.approx([np.log(2), 0.0])
    assert parts.aleatoric == pytest.approx([np.log(2), 0.0])
    assert parts.mutual_information == pytest.approx([0.0, 0.0])


def test_sure_members_that_contradict_each_other_have_mutual_information_only():
    parts = decompose(np.asarray([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert parts.mutual_information == pytest.approx([np.log(2)])
    assert parts.aleatoric == pytest.approx([0.0])


def test_mutual_information_is_the_mean_divergence_from_the_mean():
    members = np.random.default_rng(0).dirichlet(np.ones(4), (5, 7))
    mean = members.mean(axis=0)
    divergence = (members * np.log(members / mean)).sum(axis=2).mean(axis=0)
    parts = decompose(members)
    assert parts.mutual_information == pytest.approx(divergence)
    assert parts.total == pytest.approx(parts.aleatoric + parts.mutual_information)


def test_rounding_never_makes_mutual_information_negative():
    members = np.random.default_rng(1).dirichlet(np.ones(3), (1, 200)).repeat(7, axis=0)
    assert decompose(members).mutual_information.min() >= 0
