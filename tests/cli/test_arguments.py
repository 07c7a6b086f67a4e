import pytest

from spinecls.cli.arguments import expand_values, split_value

SEVERAL, NUMERIC = ("-f", "-c", "-d", "--set"), ("-f", "-d")


@pytest.mark.parametrize(
    ("typed", "expanded"),
    [
        (["-f", "0", "1", "2"], ["-f", "0", "-f", "1", "-f", "2"]),
        (["-f", "0-2"], ["-f", "0", "-f", "1", "-f", "2"]),
        (["-f", "0,2"], ["-f", "0", "-f", "2"]),
        (["-f", "all"], ["-f", "all"]),
        (["-c", "2d", "3d_fullres", "--no_verify"], ["-c", "2d", "-c", "3d_fullres", "--no_verify"]),
        (["-f", "0", "-f", "1"], ["-f", "0", "-f", "1"]),
        (["1", "3d_fullres", "0", "-tr", "X"], ["1", "3d_fullres", "0", "-tr", "X"]),
        (["--set", "patch_size=16,96,96", "steps=3"], ["--set", "patch_size=16,96,96", "--set", "steps=3"]),
        (["-d", "Dataset001_Spine"], ["-d", "Dataset001_Spine"]),
        (["-d", "1", "2", "-c", "2d"], ["-d", "1", "-d", "2", "-c", "2d"]),
        (["-d"], ["-d"]),
        (["-f", "0", "0-1", "0"], ["-f", "0", "-f", "1"]),
        (["-d", "1", "1"], ["-d", "1"]),
        (["--set", "a=-1", "b=-.5"], ["--set", "a=-1", "--set", "b=-.5"]),
        (["-f", "-1", "-1e3"], ["-f", "-1", "-f", "-1e3"]),
    ],
)
def test_values_after_an_option_are_read_as_nnunet_reads_them(typed, expanded):
    assert expand_values(typed, SEVERAL, NUMERIC) == expanded


def test_a_reversed_range_is_left_for_the_command_to_refuse():
    assert split_value("4-0", numeric=True) == ["4-0"]
