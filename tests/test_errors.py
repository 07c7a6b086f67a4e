"""The words that messages share: near misses, and counts with their noun."""

import pytest

from spinecls.errors import counted, nearest


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("3d_fulres", ("2d", "3d_fullres", "3d_lowres"), " Did you mean 3d_fullres?"),
        ("3D_FULLRES", ("2d", "3d_fullres", "3d_lowres"), " Did you mean 3d_fullres?"),
        ("auxsegtrainer", ("BaselineTrainer", "AuxSegTrainer"), " Did you mean AuxSegTrainer?"),
        ("xyz", ("2d", "3d_fullres"), ""),
        ("anything", (), ""),
    ],
)
def test_the_known_name_most_like_it_is_offered(name, known, told):
    assert nearest(name, known) == told


@pytest.mark.parametrize(
    ("number", "words", "told"),
    [
        (0, ("case",), "0 cases"),
        (1, ("case",), "1 case"),
        (2, ("case",), "2 cases"),
        (1, ("vertebra", "vertebrae"), "1 vertebra"),
        (12, ("vertebra", "vertebrae"), "12 vertebrae"),
    ],
)
def test_one_is_not_several(number, words, told):
    assert counted(number, *words) == told
