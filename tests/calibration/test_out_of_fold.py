import numpy as np
import pytest

from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.errors import DatasetError


def predictions(patients=("p", "q"), folds=("0", "1"), truth=(0, 1), probabilities=((0.7, 0.3), (0.4, 0.6))):
    return OutOfFold(np.asarray(patients), np.asarray(folds), np.asarray(truth), np.asarray(probabilities, float))


def test_no_vertebra_is_allowed():
    assert predictions((), (), (), np.zeros((0, 3))).num_classes == 3


def test_a_patient_may_have_vertebrae_in_one_fold():
    assert len(predictions(patients=("p", "p"), folds=("1", "1")).truth) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": ("p",)}, r"shapes \[\(1,\), \(2,\), \(2,\), \(2, 2\)\], expected"),
        ({"probabilities": (0.5, 0.5)}, r"\(2,\)\], expected"),
        ({"truth": (0, 2)}, "run from 0 to 2, but there are probabilities of 2 classes"),
        ({"truth": (-1, 1)}, "run from -1 to 1"),
        ({"probabilities": ((0.7, 0.3), (0.4, 0.5))}, r"vertebra 1 \(patient q\) has the probabilities \[0.4, 0.5\]"),
        ({"probabilities": ((1.1, -0.1), (0.4, 0.6))}, r"vertebra 0 \(patient p\)"),
        ({"probabilities": ((np.nan, 1.0), (0.4, 0.6))}, r"vertebra 0 \(patient p\)"),
        ({"patients": ("p", "p")}, "patient p was predicted by several folds"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(DatasetError, match=message):
        predictions(**wrong)
