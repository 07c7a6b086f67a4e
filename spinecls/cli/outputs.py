"""What `-o` may be: a folder that is no file's name and no dataset's, or a file that is no folder; and that it can be
written, before any work is done."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from spinecls.errors import ResourceError, UsageError
from spinecls.io.file_kinds import path_fault, readable_name

DATASET_PARTS = ("imagesTr", "imagesTs", "imagesUn", "labelsTr", "labelsTs", "structuresTr", "structuresTs")
"""Folders of a raw dataset that hold nothing but what a person put there."""

_FILE_ENDINGS = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".hdr", ".img", ".dcm", ".csv", ".json", ".txt",
    ".tsv", ".xlsx", ".html", ".pdf", ".png", ".zip", ".gz", ".pt", ".npz", ".spinecls",
)  # fmt: skip
_PROBE_BYTES = 1 << 20


def refuse_other_folder(folder: Path) -> None:
    """Refuse an output that is to be a folder and cannot be one.

    Raises
    ------
    UsageError
        When it is a file or called like one, or lies in the images or maps of a dataset.
    """
    if reason := path_fault(folder.absolute()):
        raise UsageError(f"-o {readable_name(str(folder))}: {reason}.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: is a file, and a folder is needed. Give a folder, such as -o predictions.")
    if folder.is_symlink() and not folder.exists():
        raise UsageError(f"-o {folder}: a link to {os.readlink(folder)}, which is not there. Give a folder.")
    ending = next((e for e in _FILE_ENDINGS if folder.name.lower().endswith(e)), None)
    if ending and not folder.is_dir():
        raise UsageError(
            f"-o {folder}: ends with {ending} as a file does, and a folder of this name would be made. Give a folder: "
            f"-o {folder.with_name(folder.name[: -len(ending)] or 'out')}"
        )
    own = folder.resolve()
    for place in (own, *own.parents):
        if place.name in DATASET_PARTS and (place.parent / "dataset.json").is_file():
            raise UsageError(
                f"-o {folder}: lies in {place.name} of the dataset {place.parent.name}, where results would be taken "
                "for images or maps. Give a folder outside of it."
            )


def refuse_other_file(path: Path, ending: str) -> None:
    """Refuse an output that is to be a file and cannot be one.

    Raises
    ------
    UsageError
        When it is a folder, or has another ending.
    """
    if path.is_dir():
        raise UsageError(f"-o {path}: is a folder, and a file is written. Give its name: -o {path / ('out' + ending)}")
    if not path.name.lower().endswith(ending):
        raise UsageError(f"-o {path}: a file ending with {ending} is written. Give its name: -o {path}{ending}")


def require_writable(folder: Path) -> None:
    """Write something of the size of a map where the folder is or will be, and take it away again.

    Raises
    ------
    UsageError
        When a file lies where one of its parents should be.
    ResourceError
        When the system does not allow it or the disk is full.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise UsageError(f"-o {folder}: {place} is a file, no folder. Give another folder.")
    probe = place / f".tmp-{os.getpid()}-probe"
    try:
        with open(probe, "wb") as stream:
            stream.write(b"\0" * _PROBE_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free some space, or give another disk." if full else "Give a folder that you may write to."
        raise ResourceError(f"-o {folder}: {place} cannot be written ({error.strerror}). {remedy}") from None
    finally:
        # What could not be made need not go.
        with contextlib.suppress(OSError):
            probe.unlink()
