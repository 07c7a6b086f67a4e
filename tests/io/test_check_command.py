from __future__ import annotations

import json

import pytest
import tiny_dataset as tiny

from spinecls.cli.check import check
from spinecls.errors import CheckFailed


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    return path


def test_good_dataset_passes(folder, capsys):
    check(str(folder), num_processes=1)
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}: 5 cases\n")
    assert out.endswith("\n\nno errors\n\nno warnings\n")


def test_inventory_shows_what_was_understood(folder, capsys):
    (folder / "cases.csv").write_text("case,sequence\na1,STIR\na2,T1\na3,T1\n")
    tiny.replace_in_table(folder, "a1,p0,L1,normal", "a1,p0,L1,NaN")
    check(str(folder), num_processes=1)
    page = capsys.readouterr().out.partition("no errors")[0]
    assert "5 annotated cases of 5 patients with 15 vertebrae, 0 without annotation" in page
    assert "sequences: T1 (2), STIR (1)" in page
    assert "grids: 4 x 1 x 1 mm PIR (5)" in page
    # 4 x 12 x 12 voxels, 12 rows of 1 mm.
    assert "L2       21          5        5       0      0         0      576   12 mm" in page
    assert "class normal: 9 vertebrae of 5 patients" in page
    # 18 mm where adults have 36.
    assert "neighbours lie 0.51 times as far apart as in adults (median of 5); as cervical vertebrae: are" in page
    assert "not read: 'NaN' (1)" in page


def test_errors_are_shown_apart_from_warnings_and_fail_the_check(folder, capsys):
    tiny.replace_in_table(folder, ",L1,normal", ",L1,odd")
    tiny.description(folder, numTraining=6)
    with pytest.raises(CheckFailed, match="5 errors") as caught:
        check(str(folder), num_processes=1)
    assert caught.value.exit_code == 7
    errors, warnings = capsys.readouterr().out.split("\n\n")[1:]
    assert errors.startswith("5 errors\n  E705     5  unknown class  [a1, a2, a3, a4 ...]\n")
    assert "and 1 more; --json lists all" in errors
    assert warnings.startswith("1 warning\n  W109     1  number of cases differs from numTraining\n")


def test_json_is_one_object_with_every_finding(folder, capsys):
    (folder / "imagesTr/a1_0000.nii.gz").write_bytes(b"")
    with pytest.raises(CheckFailed):
        check(str(folder), json_output=True, num_processes=1)
    report = json.loads(capsys.readouterr().out)
    assert (report["cases"], report["errors"], report["warnings"]) == (5, 1, 0)
    assert report["findings"][0]["code"] == "E301"
    assert report["findings"][0]["case"] == "a1"
    assert report["inventory"]["levels"]["L1"]["vertebrae"] == 5


def test_voxels_are_left_alone_on_request(folder, capsys):
    tiny.write(folder / "imagesTr/a1_0000.nii.gz", tiny.voxels(0) * 0)
    check(str(folder), no_voxels=True, num_processes=1)
    with pytest.raises(CheckFailed):
        check(str(folder), num_processes=1)
