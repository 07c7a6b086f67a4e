"""Datasets by number, name and path: what is not there is never taken for another dataset of the same number."""

import pytest

from spinecls.errors import DatasetError
from spinecls.paths import dataset_name


@pytest.fixture
def named(roots):
    (roots / "raw" / "Dataset001_LumbarSpA").mkdir()
    (roots / "preprocessed" / "Dataset002_LumbarMRI").mkdir()
    return roots


@pytest.mark.parametrize("text", ["1", "001", "Dataset001", "Dataset1", "Dataset001_LumbarSpA"])
def test_a_number_in_any_form_and_the_name_are_the_dataset(text, named):
    assert dataset_name(text) == "Dataset001_LumbarSpA"


@pytest.mark.parametrize("text", ["Dataset001_LumbarSpa", "Dataset001_LumbarSp", "Dataset1_LumbarSpA"])
def test_another_name_with_its_number_is_a_near_miss(text, named):
    with pytest.raises(DatasetError, match=r"not found.*Did you mean Dataset001_LumbarSpA\?"):
        dataset_name(text)


@pytest.mark.parametrize("text", ["3", "-1", "1.0", "Dataset"])
def test_what_is_no_dataset_is_told_with_those_that_are(text, named):
    with pytest.raises(DatasetError, match="there: Dataset001_LumbarSpA, Dataset002_LumbarMRI"):
        dataset_name(text)
