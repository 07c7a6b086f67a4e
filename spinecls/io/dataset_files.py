"""Which files of a raw dataset belong to which case."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spinecls.io.case_names import folded, is_reserved, split_channel
from spinecls.io.file_kinds import ENDINGS, detached_data, image_stem, is_hidden
from spinecls.io.findings import Finding, error, warning
from spinecls.io.remedies import foreign_format
from spinecls.io.text_headers import segmentation_text, segments, text_fields
from spinecls.records import DatasetDescription

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SAFE_CHARACTER = re.compile(r"[A-Za-z0-9._+-]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Images of the complete cases of one folder, one path a channel; names of all its cases; what was found wrong."""

    cases: Mapping[str, tuple[Path, ...]]
    names: frozenset[str]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class MapFiles:
    """Maps of the cases of one folder by reader, and what was found wrong."""

    cases: Mapping[str, Mapping[str, Path]]
    findings: tuple[Finding, ...]


def _identifier_fault(name: str) -> str | None:
    """Why `name` cannot be a case identifier on every system, or None."""
    bad = next((c for c in name if not _SAFE_CHARACTER.match(c)), None)
    if bad is not None:
        readable = unicodedata.name(bad, f"code {ord(bad)}").lower()
        return f"contains {bad!r} ({readable}). Use letters, digits, '.', '_', '-' and '+'."
    if not _SAFE_NAME.fullmatch(name) or name.endswith("."):
        return "must start with a letter or digit, not end with a dot and have at most 128 characters."
    if _RESERVED.fullmatch(name):
        return "is a name that Windows reserves. Rename the case."
    if is_reserved(name):
        return "is the name of a file that folders of results have themselves. Rename the case."
    return None


def _entries(folder: Path, findings: list[Finding]) -> list[Path]:
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    hidden = [entry for entry in entries if is_hidden(entry)]
    if hidden:
        findings.append(warning("209", f"{folder.name}: {len(hidden)} hidden files ignored, such as {hidden[0].name}"))
    data = {path for entry in entries for path in detached_data(entry)}
    return [entry for entry in entries if entry not in hidden and entry not in data]


def find_images(folder: Path, description: DatasetDescription) -> ImageFiles:
    """Images in `imagesTr`, `imagesTs` or `imagesUn`.

    A name is `<case>_<channel of four digits><ending>`, see `case_names.split_channel`; the channel may be missing when
    there is one. A folder `<case>_<channel>` is a DICOM series.
    """
    findings: list[Finding] = []
    channels = len(description.channel_names)
    by_case: dict[str, dict[int, Path]] = {}
    no_suffix: dict[str, Path] = {}
    endings: Counter[str] = Counter()
    entries = _entries(folder, findings)
    stems = {image_stem(entry.name) or entry.name for entry in entries}
    for entry in entries:
        stem = _stem_of(entry, findings)
        if stem is None:
            continue
        if entry.is_file() or entry.is_symlink():
            endings[_ending_of(entry)] += 1
        case, channel = split_channel(stem, channels, stems)
        if channel is None:
            no_suffix[stem] = entry
            channel = 0 if channels == 1 else None
        if channel is None:
            by_case.setdefault(case, {})
        elif channel >= channels:
            text = f"{entry.name} is channel {channel}, but dataset.json names {channels} channel(s) (0000 the first)."
            findings.append(error("203", text, case))
        elif channel in by_case.setdefault(case, {}):
            text = f"{by_case[case][channel].name} and {entry.name} are the same channel. Keep one."
            findings.append(error("204", text, case))
        else:
            by_case[case][channel] = entry
    if no_suffix and channels == 1:
        text = f"{folder.name}: {len(no_suffix)} images without _0000, such as {next(iter(no_suffix))}; "
        text += "each is taken as the only channel"
        findings.append(warning("208", text))
    findings += _ending_findings(folder, endings, description.file_ending)
    findings += _name_findings(by_case)
    cases = {}
    for case, files in by_case.items():
        missing = [f"_{index:04d}" for index in range(channels) if index not in files]
        if missing:
            there = [*files.values(), *([no_suffix[case]] if case in no_suffix else [])]
            here = ", ".join(path.name for path in there) or "nothing"
            findings.append(error("202", f"needs {', '.join(missing)}; {here} is there.", case))
        else:
            cases[case] = tuple(files[index] for index in range(channels))
    return ImageFiles(cases=cases, names=frozenset(by_case), findings=tuple(findings))


def _stem_of(entry: Path, findings: list[Finding]) -> str | None:
    stem = image_stem(entry.name)
    if entry.is_dir():
        if stem is not None:
            findings.append(error("301", f"{entry} is a folder with the name of an image.", stem))
            return None
        return entry.name
    if stem is None:
        name = entry.name.lower()
        if name.endswith((".txt", ".md", ".csv", ".tsv", ".json", ".pdf")):
            findings.append(warning("306", f"{entry.parent.name}/{entry.name} is no image and ignored"))
            return None
        text = f"{entry.parent.name}/{entry.name} {foreign_format(entry) or 'cannot be used'}".removesuffix(".")
        text += f". Supported: {', '.join(ENDINGS)}, or a folder <case>_0000 with one DICOM series."
        findings.append(error("306", text))
    return stem


def _ending_of(entry: Path) -> str:
    return next(ending for ending in ENDINGS if entry.name.lower().endswith(ending))


def _ending_findings(folder: Path, endings: Counter[str], declared: str) -> list[Finding]:
    others = {ending: count for ending, count in endings.items() if ending != declared}
    if not others:
        return []
    listed = ", ".join(f"{count} {ending}" for ending, count in endings.items())
    return [error("206", f"{folder.name} holds {listed}; dataset.json says file_ending {declared!r}. Use one ending.")]


def _name_findings(cases: Iterable[str]) -> list[Finding]:
    findings = []
    twins: dict[str, str] = {}
    for case in cases:
        fault = _identifier_fault(case)
        if fault:
            findings.append(error("201", f"the case name {case!r} {fault}", case))
        plain = folded(case)
        if plain in twins:
            text = f"{twins[plain]!r} and {case!r} are one name on some systems. Rename one."
            findings.append(error("205", text, case))
        twins[plain] = case
    return findings


def find_maps(folder: Path, description: DatasetDescription, cases: Iterable[str], readers: bool) -> MapFiles:
    """Maps in `labelsTr` or `structuresTr`: `<case><ending>`, with `readers` also `<case>__<reader><ending>`."""
    cases = set(cases)
    findings: list[Finding] = []
    maps: dict[str, dict[str, Path]] = {}
    endings: Counter[str] = Counter()
    for entry in _entries(folder, findings):
        stem = _stem_of(entry, findings)
        if stem is None:
            continue
        if entry.is_dir():
            findings.append(error("301", f"{folder.name}/{entry.name} is a folder, expected a map file.", entry.name))
            continue
        endings[_ending_of(entry)] += 1
        case, reader = stem, ""
        if stem not in cases and readers and "__" in stem:
            case, reader = stem.rsplit("__", 1)
        if case not in cases:
            hint = _near(case, cases) or _drawn_in_slicer(entry)
            findings.append(error("207", f"{folder.name}/{entry.name} has no image{hint}.", case))
        elif reader in maps.setdefault(case, {}):
            text = f"{folder.name} has {maps[case][reader].name} and {entry.name}. Keep one."
            findings.append(error("204", text, case))
        else:
            maps[case][reader] = entry
    findings += _ending_findings(folder, endings, description.file_ending)
    return MapFiles(cases=maps, findings=tuple(findings))


def _near(case: str, cases: set[str]) -> str:
    plain, channel = split_channel(case, 1)
    return "" if channel is None or plain not in cases else f"; maps have no channel number, rename it to {plain}"


def _drawn_in_slicer(path: Path) -> str:
    fields = text_fields(path)
    return f"; it {segmentation_text(fields)}".removesuffix(".") if segments(fields) else ""


def empty_folder_finding(folder: Path) -> Finding:
    """Error for an image folder without images, naming the place where images do lie."""
    state = "is empty" if folder.is_dir() else "does not exist"
    for sibling in sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []:
        if sibling.is_dir() and sibling != folder and sibling.name not in ("labelsTr", "structuresTr", "labelsTs"):
            count = sum(image_stem(entry.name) is not None for entry in sibling.iterdir())
            if count:
                return error("110", f"{folder.name} {state}; {count} images lie in {sibling.name}. Rename that folder?")
    return error("110", f"{folder.name} {state}. Put <case>_0000.nii.gz there.")
