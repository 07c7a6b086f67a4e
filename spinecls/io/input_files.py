"""Images that a user wants predicted: which files are the channels of which case."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spinecls.errors import DatasetError

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class InputCase:
    """A case to predict: its name and one file, or DICOM folder, a channel."""

    identifier: str
    images: tuple[Path, ...]


def image_stem(name: str) -> str | None:
    """Name of an image file without its ending; None for other files."""
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return None


def find_inputs(source: Path, num_channels: int) -> tuple[list[InputCase], list[tuple[str, str]]]:
    """Cases in a folder, or the one case of a single file; and cases with the wrong channels, each with the reason.

    Files are `<case>_0000.nii.gz`, one a channel; with one channel the suffix may be missing. A sub-folder
    `<case>_0000/` is a DICOM series.

    Raises
    ------
    DatasetError
        When there is nothing that can be predicted.
    """
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"-i {source}: no such file or folder.")
    if source.is_file():
        stem = image_stem(source.name)
        if stem is None:
            raise DatasetError(f"-i {source}: not an image. Known endings: {', '.join(ENDINGS)}.")
        if num_channels > 1:
            raise DatasetError(f"-i {source}: one file, and the model needs {num_channels} channels. Give a folder.")
        return [InputCase(_case_of(stem), (source,))], []
    channels: dict[str, dict[int, Path]] = {}
    for entry in sorted(source.iterdir()):
        if entry.name.startswith("."):
            continue
        stem = image_stem(entry.name) if entry.is_file() else entry.name
        match = _CHANNEL.fullmatch(stem) if stem else None
        if stem is None or (entry.is_dir() and match is None):
            continue
        case, channel = (match["case"], int(match["channel"])) if match else (stem, 0)
        known = channels.setdefault(case, {})
        if channel in known:
            raise DatasetError(f"-i {source}: {known[channel].name} and {entry.name} are the same channel of {case}.")
        known[channel] = entry
    if not channels:
        below = sum(1 for path in source.rglob("*") if image_stem(path.name))
        hint = f" {below} images lie in sub-folders; give one of those." if below else ""
        raise DatasetError(f"-i {source}: no image in it (endings {', '.join(ENDINGS)}).{hint}")
    wanted = set(range(num_channels))
    faulty = [
        (case, f"has the channels {_numbers(known)}; the model needs {_numbers(wanted)}")
        for case, known in sorted(channels.items())
        if set(known) != wanted
    ]
    if len(faulty) == len(channels):
        listed = "; ".join(f"{case} {reason}" for case, reason in faulty[:10])
        raise DatasetError(f"-i {source}: no case has the channels that the model was trained on: {listed}.")
    good = [
        InputCase(case, tuple(known[n] for n in sorted(known)))
        for case, known in sorted(channels.items())
        if set(known) == wanted
    ]
    return good, faulty


def _numbers(channels: Iterable[int]) -> str:
    return ", ".join(f"_{number:04d}" for number in sorted(channels))


def _case_of(stem: str) -> str:
    match = _CHANNEL.fullmatch(stem)
    return match["case"] if match else stem
