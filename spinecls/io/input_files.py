"""Images that a user wants predicted: which files are the channels of which case, and what the others are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spinecls.errors import DatasetError, counted
from spinecls.io.case_names import is_reserved, split_channel
from spinecls.io.file_kinds import (
    ENDINGS,
    detached_data,
    dicom_files,
    image_stem,
    is_dicom,
    is_hidden,
    is_segmentation,
    readable_name,
    visible_files,
    why_no_image,
    why_nothing_to_read,
)

_MOST_NAMES = 20


@dataclass(frozen=True)
class InputCase:
    """A case to predict: its name and one file, or DICOM folder, a channel."""

    identifier: str
    images: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What lies in a folder of images: every entry is in a case, skipped, or hidden.

    Attributes
    ----------
    cases : those that can be tried
    failed : case -> why its files cannot be a case
    skipped : entry -> why it is no image
    hidden : number of files of the system
    """

    cases: tuple[InputCase, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    hidden: int = 0

    @property
    def names(self) -> set[str]:
        """Names of all cases, those that cannot be predicted among them."""
        return {case.identifier for case in self.cases} | self.failed.keys()

    @property
    def skipped_lines(self) -> list[str]:
        """What was skipped, entries of one reason in one line."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        lines = []
        for reason, names in by_reason.items():
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            lines.append(f"Skipped: {', '.join(names[:_MOST_NAMES])}{more}: {reason}.")
        if self.hidden:
            lines.append(f"Skipped: {counted(self.hidden, 'hidden file')}.")
        return lines


def find_inputs(source: Path, num_channels: int, output: Path | None = None) -> Inputs:
    """Cases in a folder, or the one case of a single file or DICOM series.

    Files are `<case>_0000.nii.gz`, one a channel; with one channel the suffix may be missing. A sub-folder
    `<case>_0000/`, with one channel also `<case>/`, that holds DICOM files is one channel.

    Parameters
    ----------
    output : folder of the results, passed over where it lies in the source

    Raises
    ------
    DatasetError
        When there is nothing that can be predicted.
    """
    source = Path(source)
    if not os.path.lexists(source):
        raise DatasetError(f"-i {source}: no such file or folder.")
    if reason := why_nothing_to_read(source):
        raise DatasetError(f"-i {readable_name(str(source))}: {reason}.")
    if source.is_dir():
        return _in_folder(source, num_channels, output)
    return _single_file(source, num_channels)


def _single_file(source: Path, num_channels: int) -> Inputs:
    stem = image_stem(source.name)
    if source.is_file() and stem is None and is_dicom(source):
        raise DatasetError(f"-i {source}: a single DICOM file. Give the folder of its series: -i {source.parent}")
    if stem is None or is_segmentation(source.name):
        known = ", ".join(ENDINGS)
        raise DatasetError(f"-i {source}: not an image but {why_no_image(source)}. Known endings: {known}.")
    if num_channels > 1:
        raise DatasetError(f"-i {source}: one file, and the model needs {num_channels} channels. Give a folder.")
    case, _ = split_channel(stem, 1)
    _refuse_reserved(source, case)
    return Inputs(cases=(InputCase(case, (source,)),))


def _refuse_reserved(source: Path, case: str) -> None:
    if is_reserved(case):
        raise DatasetError(f"-i {source}: {_reserved_reason(case)}")


def _reserved_reason(case: str) -> str:
    return f"{case!r} is the name of a file that the folder of results has itself. Rename the image."


def _in_folder(source: Path, num_channels: int, output: Path | None) -> Inputs:
    entries = sorted(source.iterdir())
    hidden = [entry for entry in entries if is_hidden(entry)]
    # Unlike `Path.resolve`, this does not raise for a link that leads to itself.
    own = None if output is None else os.path.realpath(output)
    named, skipped = _sorted_out([e for e in entries if e not in hidden and os.path.realpath(e) != own], num_channels)
    if not named and (slices := [path.name for path in dicom_files(source)]):
        skipped = {name: reason for name, reason in skipped.items() if name not in slices}
        return Inputs(cases=(_series(source, num_channels),), skipped=skipped, hidden=len(hidden))
    if not named:
        raise DatasetError(_nothing_text(source, skipped, len(hidden)))
    stems = {stem for stem, _ in named}
    by_case: dict[str, dict[int | None, list[Path]]] = {}
    for stem, path in named:
        case, channel = split_channel(readable_name(stem), num_channels, stems)
        channel = 0 if channel is None and num_channels == 1 else channel
        by_case.setdefault(case, {}).setdefault(channel, []).append(path)
    faults = {case: _fault(case, known, num_channels) for case, known in sorted(by_case.items())}
    failed = {case: reason for case, reason in faults.items() if reason}
    if len(failed) == len(by_case):
        listed = "".join(f"\n  {case}: {reason}" for case, reason in list(failed.items())[:_MOST_NAMES])
        raise DatasetError(f"-i {source}: no case can be predicted.{listed}")
    good = [
        InputCase(case, tuple(known[number][0] for number in range(num_channels)))
        for case, known in sorted(by_case.items())
        if case not in failed
    ]
    return Inputs(cases=tuple(good), failed=failed, skipped=skipped, hidden=len(hidden))


def _sorted_out(entries: Iterable[Path], num_channels: int) -> tuple[list[tuple[str, Path]], dict[str, str]]:
    """Images and DICOM folders, each with its name without ending; and why the other entries are none."""
    named: list[tuple[str, Path]] = []
    skipped: dict[str, str] = {}
    data: set[Path] = set()
    for entry in entries:
        stem = image_stem(entry.name)
        if entry.is_dir():
            reason = _why_no_case(entry, num_channels)
            if reason:
                skipped[entry.name] = reason
            else:
                named.append((entry.name, entry))
        elif stem is None or is_segmentation(entry.name):
            skipped[entry.name] = why_no_image(entry)
        else:
            named.append((stem, entry))
            data.update(detached_data(entry))
    return named, {name: reason for name, reason in skipped.items() if name not in {path.name for path in data}}


def _why_no_case(folder: Path, num_channels: int) -> str | None:
    """Why a sub-folder is no channel of a case, or None."""
    if image_stem(folder.name) is not None:
        return "a folder with the name of an image; rename it"
    if dicom_files(folder):
        return None
    if images := sum(image_stem(path.name) is not None for path in visible_files(folder)):
        return f"a folder with {counted(images, 'image')} in it; give it by -i"
    if series := _series_below(folder):
        return f"a folder, DICOM series lie deeper in it ({', '.join(map(str, series))}); give each by -i"
    if split_channel(folder.name, num_channels)[1] is not None:
        return None  # Reading it says what a series needs.
    return "a folder without images"


def _series_below(folder: Path) -> list[Path]:
    """The first few folders below with DICOM files."""
    folders = []
    for path, below, _ in os.walk(folder):
        below.sort()
        if dicom_files(Path(path)):
            folders.append(Path(path))
        if len(folders) == 3:
            break
    return folders


def _series(source: Path, num_channels: int) -> InputCase:
    """The case of a folder that is itself a DICOM series."""
    case, _ = split_channel(source.resolve().name, num_channels)
    if num_channels > 1:
        raise DatasetError(
            f"-i {source}: one DICOM series, and the model needs {num_channels} channels. Put the series of the case "
            f"into one folder, as {_folders(case, num_channels)}, and give that folder by -i."
        )
    _refuse_reserved(source, case)
    return InputCase(case, (source,))


def _fault(case: str, known: Mapping[int | None, list[Path]], num_channels: int) -> str | None:
    """Why the files of a case cannot be predicted, or None."""
    if is_reserved(case):
        return _reserved_reason(case)
    for paths in known.values():
        if len(paths) > 1:
            return f"{' and '.join(path.name for path in paths)} are the same channel. Keep one."
        if reason := why_nothing_to_read(paths[0]):
            return f"{readable_name(paths[0].name)}: {reason}"
    wanted = _numbers(range(num_channels))
    if None in known:
        return f"{known[None][0].name} has no channel number; the model needs {wanted}"
    numbers = {number for number in known if number is not None}
    if numbers != set(range(num_channels)):
        hint = "; if these are different scans, add _0000 to each name" if num_channels == 1 else ""
        return f"has the channels {_numbers(numbers)}; the model needs {wanted}{hint}"
    return None


def _nothing_text(source: Path, skipped: Mapping[str, str], hidden: int) -> str:
    lines = Inputs(skipped=skipped, hidden=hidden).skipped_lines
    listed = "".join(f"\n  {line}" for line in lines)
    return f"-i {source}: no image in it (endings {', '.join(ENDINGS)}, or folders of DICOM files).{listed}"


def _numbers(channels: Iterable[int]) -> str:
    return ", ".join(f"_{number:04d}" for number in sorted(channels))


def _folders(case: str, num_channels: int) -> str:
    return ", ".join(f"{case}_{number:04d}/" for number in range(num_channels))
