"""Guards against mistakes of the program that pass for faults of a case, and against one case that costs the others."""

import errno
import zipfile

import pytest
import torch

from spinecls.errors import DatasetError, DefectiveCases, Interrupted, PartialFailure
from spinecls.hard_cases import HardCases
from spinecls.io.findings import CodedFault

OWN_FAULTS = {
    "error of the package": (
        DatasetError("scan.nii.gz: is damaged.\n  Copy it again."),
        "scan.nii.gz: is damaged.; Copy it again.",
    ),
    "coded fault": (CodedFault("E302", "scan.nii.gz", "ends early."), "[E302] scan.nii.gz: ends early."),
    "no memory": (MemoryError(), "Out of memory. Close other programs"),
    "no memory of a device": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "Out of memory."),
    "no memory for torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Out of memory."),
    "file not given": (
        PermissionError(errno.EACCES, "Permission denied", "scan.nii.gz"),
        "Permission denied: scan.nii.gz",
    ),
}

DEFECTS = [
    KeyError("L7"), ValueError("operands could not be broadcast"), RuntimeError("mat1 and mat2 shapes"), TypeError("x"),
    IndexError("x"), AttributeError("x"), AssertionError(), ZeroDivisionError("x"), zipfile.BadZipFile("x"),
    OSError("without a number"),
]  # fmt: skip


def run(folder, error, case="a"):
    hard = HardCases(folder)
    with hard.case(case):
        raise error
    return hard


@pytest.mark.parametrize("name", OWN_FAULTS)
def test_a_fault_of_the_case_is_a_reason_in_plain_words(name, tmp_path):
    error, reason = OWN_FAULTS[name]
    hard = run(tmp_path, error)
    assert hard.failed["a"].startswith(reason)
    assert type(error).__name__ not in hard.failed["a"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PartialFailure, match="1 of 3 cases failed") as told:
        hard.raise_if_any(3)
    assert told.value.exit_code == 5


@pytest.mark.parametrize("error", DEFECTS, ids=lambda e: type(e).__name__)
def test_anything_else_is_a_defect_with_its_traceback_in_a_file(error, tmp_path, caplog):
    hard = run(tmp_path, error)
    assert hard.failed["a"].startswith("a defect of spinecls")
    assert hard.failed["a"].endswith("please report it with a.log")
    log = (tmp_path / "a.log").read_text()
    assert f'File "{__file__}"' in log
    assert type(error).__name__ in log
    assert "a: a defect of spinecls" in caplog.text
    with pytest.raises(DefectiveCases, match=r"1 of 2 cases failed \(see failed.csv\)") as told:
        hard.raise_if_any(2, "failed.csv")
    assert told.value.exit_code == 1


@pytest.mark.parametrize("error", [Interrupted("Stopped"), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_an_interruption_passes(error, tmp_path):
    with pytest.raises(type(error)):
        run(tmp_path, error)


def test_the_cases_after_a_defect_are_done(tmp_path):
    hard, done = HardCases(tmp_path), []
    for case in "abc":
        with hard.case(case):
            done.append({"a": 1, "c": 3}[case])
    assert (done, list(hard.failed), hard.defects) == ([1, 3], ["b"], ["b"])


def test_the_log_of_an_earlier_defect_goes_when_the_case_is_done(tmp_path):
    run(tmp_path, KeyError("x"))
    with HardCases(tmp_path).case("a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_failures_nothing_is_raised(tmp_path):
    HardCases(tmp_path).raise_if_any(0)
