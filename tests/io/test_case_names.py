"""Guards against two scans that get one name, in datasets and in prediction."""

import pytest

from spinecls.io.case_names import folded, is_reserved, split_channel


@pytest.mark.parametrize(
    ("stem", "channels", "beside", "expected"),
    [
        ("scan", 1, (), ("scan", None)),
        ("scan_0000", 1, (), ("scan", 0)),
        ("scan_0001", 1, (), ("scan_0001", None)),
        ("scan_0001", 1, ("scan_0000",), ("scan", 1)),
        ("scan_0010", 1, ("scan_0000",), ("scan_0010", None)),
        ("scan_1234", 1, (), ("scan_1234", None)),
        ("scan_2024_0000", 1, (), ("scan_2024", 0)),
        ("scan_0001", 2, (), ("scan", 1)),
        ("scan_0002", 2, (), ("scan", 2)),
        ("scan_0010", 2, (), ("scan_0010", None)),
        ("scan_0010", 11, (), ("scan", 10)),
        ("scan_000", 1, (), ("scan_000", None)),
        ("scan_00000", 1, (), ("scan_00000", None)),
        ("_0000", 1, (), ("_0000", None)),
        ("scan_\u0660\u0660\u0660\u0660", 1, (), ("scan_\u0660\u0660\u0660\u0660", None)),
    ],
)
def test_the_channel_of_a_name(stem, channels, beside, expected):
    assert split_channel(stem, channels, beside) == expected


def test_names_that_a_file_system_may_take_for_one_are_one():
    assert folded("Ä") == folded("a\u0308") != folded("a")


@pytest.mark.parametrize("name", ["model", "Predictions", "refer", "failed", "summary"])
def test_names_of_the_results_themselves_are_reserved(name):
    assert is_reserved(name)
