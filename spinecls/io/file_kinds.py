"""What kind of file lies in a folder of images: an image, a part of one, DICOM, hidden, or why it is none."""

from __future__ import annotations

import os
import re
from pathlib import Path

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

_SYSTEM_NAMES = ("thumbs.db", "desktop.ini", "__macosx", "dicomdir")
_DETACHED = re.compile(rb"^(?:ElementDataFile\s*=|data ?file\s*:)[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_FOREIGN = {
    (".hdr", ".img"): "half of an Analyze or NIfTI pair; convert it to .nii.gz",
    (".mgz", ".mgh"): "of FreeSurfer; convert it to .nii.gz (mri_convert)",
    (".seg.nrrd", ".seg.nhdr"): "a segmentation of 3D Slicer, no scan; export the scan as .nii.gz or .nrrd",
    (".part", ".partial", ".crdownload", ".filepart", ".download", ".tmp"): "unfinished, a copy or download that was "
    "interrupted; copy it again",
    (".dcm", ".ima", ".dicom"): "a single DICOM file; put the files of its series into a folder <case>_0000",
    (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz"): "packed; unpack it",
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"): "a picture, no volume",
    (".minc", ".mnc", ".par", ".rec", ".nii.zst", ".npy", ".npz", ".vtk", ".h5"): "of a format that is not read; "
    "convert it to .nii.gz",
    (".txt", ".md", ".csv", ".tsv", ".json", ".pdf", ".xml", ".xlsx", ".xls", ".docx", ".html", ".log", ".bval",
     ".bvec"): "no image",
}  # fmt: skip


def image_stem(name: str) -> str | None:
    """Name of an image file without its ending; None for other files."""
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return None


def is_hidden(entry: Path) -> bool:
    """Whether an entry of a folder is the system's, not the user's."""
    return entry.name.startswith(".") or entry.name.lower() in _SYSTEM_NAMES


def visible_files(folder: Path) -> list[Path]:
    """Files of a folder by name, without hidden ones."""
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry) and entry.is_file())


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark."""
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """Files of a folder that carry the DICOM mark."""
    return [path for path in visible_files(folder) if is_dicom(path)]


def readable_name(name: str) -> str:
    """A name that any file can hold; bytes that are no text become the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")


def path_fault(path: Path) -> str | None:
    """Why no image may be read or written at a path: at a name that is no text the image library ends the program."""
    if readable_name(str(path)) == str(path):
        return None
    return "its name, or that of a folder above it, is not UTF-8 text, as names from other systems may be; rename it"


def why_nothing_to_read(entry: Path) -> str | None:
    """Why nothing can be read from an entry of a folder, such as a broken link, or a pipe that nobody writes to."""
    if reason := path_fault(entry):
        return reason
    if entry.is_file() or entry.is_dir():
        return None
    if entry.is_symlink() and not entry.exists():
        return f"a link to {os.readlink(entry)}, which is not there; copy the file itself"
    return "a pipe or a device, no file; write its content to a file"


def why_no_image(path: Path) -> str:
    """Why a file that has no ending of an image cannot be predicted."""
    if reason := why_nothing_to_read(path):
        return reason
    name = path.name.lower()
    for endings, reason in _FOREIGN.items():
        if name.endswith(endings):
            return reason
    try:
        if is_dicom(path):
            return _FOREIGN[".dcm", ".ima", ".dicom"]
    except OSError as error:
        return f"not readable ({error.strerror})"
    return f"of a format that is not read; read are {', '.join(ENDINGS)}"


def is_segmentation(name: str) -> bool:
    """Whether the name is that of a segmentation of 3D Slicer."""
    return name.lower().endswith((".seg.nrrd", ".seg.nhdr"))


def detached_data(header: Path) -> list[Path]:
    """Files that hold the voxels of a `.mhd` or `.nhdr`; none where they lie in the file itself."""
    if not header.name.lower().endswith((".mhd", ".nhdr")) or not header.is_file():
        return []
    with open(header, "rb") as stream:
        match = _DETACHED.search(stream.read(65536))
    named = match[1].decode("utf-8", "replace").strip('"') if match else ""
    if not named or named.upper() == "LOCAL":
        return []
    path = header.parent / named
    if path.is_file():
        return [path]
    # A list of files or a pattern of their names: everything beside the header may belong to it.
    return [entry for entry in visible_files(header.parent) if image_stem(entry.name) is None]
