"""dataset.json: read, checked key by key, every fault told at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinecls.anatomy import LEVEL_CODES, parse_level
from spinecls.errors import DatasetError
from spinecls.files import read_json
from spinecls.io.class_cells import as_number, is_nothing
from spinecls.io.file_kinds import ENDINGS
from spinecls.io.findings import DatasetFaults, Finding, error, warning
from spinecls.records import DatasetDescription

_REQUIRED = ("channel_names", "classes", "file_ending")
_OPTIONAL = (
    "class_order", "vertebrae", "structures", "lesion_structures", "vertebrae_complete", "ignore_label", "numTraining",
    "name", "reference", "licence", "license",
)  # fmt: skip
_IGNORED = ("labels", "description", "release", "overwrite_image_reader_writer", "tensorImageSize")
_MAX_CODE = 32767
_WORDS_FOR_NORMAL = ("none", "nil")
_EXAMPLE = '{"channel_names": {"0": "T2"}, "classes": {"normal": 0, "fracture": 1}, "file_ending": ".nii.gz"}'


def read_description(path: Path) -> DatasetDescription:
    """Checked content of dataset.json.

    Raises
    ------
    DatasetFaults
        With every fault of the file.
    """
    description, _, findings = parse_description(Path(path))
    errors = [finding for finding in findings if finding.is_error]
    if description is None or errors:
        raise DatasetFaults(path, errors)
    return description


def parse_description(path: Path) -> tuple[DatasetDescription | None, int | None, list[Finding]]:
    """Description (None when it cannot be used), the number of cases it claims, and all findings."""
    if not path.is_file():
        text = f"{path.parent} has no dataset.json. Write one with at least {_EXAMPLE}."
        return None, None, [error("101", text)]
    try:
        content = read_json(path)
    except DatasetError as fault:
        return None, None, [error("101", str(fault))]
    if not isinstance(content, dict):
        return None, None, [error("101", f"{path} holds a {type(content).__name__}, expected an object {{...}}.")]
    findings: list[Finding] = _key_findings(content)
    if any(finding.is_error for finding in findings):
        return None, None, findings
    levels = _levels(content, findings)
    classes = _classes(content["classes"], findings)
    structures = _codes(content, "structures", findings)
    ignore_label = _whole(content, "ignore_label", 255, 1, findings)
    for key, codes in (("vertebrae", levels), ("structures", structures)):
        findings += [
            error("106", f"{key}: {name} has the code {code}, which is the ignore_label. Use another.")
            for name, code in codes.items()
            if code == ignore_label
        ]
    description = DatasetDescription(
        name=_text(content, "name", path.parent.resolve().name, findings),
        channel_names=_channels(content["channel_names"], findings),
        class_names=classes,
        file_ending=_ending(content["file_ending"], findings),
        class_order=_flag(content, "class_order", False, findings),
        levels=levels,
        structures=structures,
        lesion_structures=_lesions(content, structures, classes, findings),
        vertebrae_complete=_flag(content, "vertebrae_complete", True, findings),
        ignore_label=ignore_label,
        reference=_text(content, "reference", "", findings),
        licence=_text(content, "licence" if "licence" in content else "license", "", findings),
    )
    count = _whole(content, "numTraining", 0, 0, findings) if "numTraining" in content else None
    usable = not any(finding.is_error for finding in findings)
    return (description if usable else None), count, findings


def _key_findings(content: Mapping[str, Any]) -> list[Finding]:
    findings = []
    known = (*_REQUIRED, *_OPTIONAL)
    if "modality" in content:
        findings.append(error("108", "key 'modality' is of the first nnU-Net. Rename it to 'channel_names'."))
    for key in content:
        if key == "labels" and "vertebrae" not in content and _names_levels(content[key]):
            text = "key 'labels' names vertebrae; here their codes in maps stand under 'vertebrae'. Rename the key "
            findings.append(error("102", text + "(without background), or remove it."))
        elif key in _IGNORED:
            findings.append(warning("102", f"key {key!r} has no meaning here and is ignored"))
        elif key not in known and key != "modality":
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            findings.append(error("102", f"key {key!r} is unknown. {hint}"))
    for key in _REQUIRED:
        if key not in content and not (key == "channel_names" and "modality" in content):
            text = f"key {key!r} is missing."
            text += " Write {} when nothing is to be classified." if key == "classes" else f" Example: {_EXAMPLE}."
            findings.append(error("103", text))
    return findings


def _names_levels(labels: Any) -> bool:
    """Whether the `labels` of an nnU-Net dataset are levels of the spine."""
    return isinstance(labels, dict) and sum(parse_level(name) is not None for name in labels) > 1


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(content, key: str, default: int, lowest: int, findings: list[Finding]) -> int:
    value = content.get(key, default)
    if _is_whole(value) and lowest <= value <= _MAX_CODE:
        return value
    findings.append(error("104", f"{key} is {value!r}, expected a whole number from {lowest} to {_MAX_CODE}."))
    return default


def _flag(content, key: str, default: bool, findings: list[Finding]) -> bool:
    value = content.get(key, default)
    if isinstance(value, bool):
        return value
    findings.append(error("104", f"{key} is {value!r}, expected true or false."))
    return default


def _text(content, key: str, default: str, findings: list[Finding]) -> str:
    value = content.get(key, default)
    if isinstance(value, str):
        return value
    findings.append(error("104", f"{key} is {value!r}, expected text."))
    return default


def _ending(value: Any, findings: list[Finding]) -> str:
    if value in ENDINGS:
        return value
    findings.append(error("104", f"file_ending is {value!r}, expected one of {', '.join(ENDINGS)}."))
    return ""


def _channels(value: Any, findings: list[Finding]) -> tuple[str, ...]:
    if not isinstance(value, dict) or not value:
        findings.append(error("104", f'channel_names is {value!r}, expected an object such as {{"0": "T2"}}.'))
        return ()
    wanted = [str(index) for index in range(len(value))]
    if sorted(value) != sorted(wanted) or not all(isinstance(name, str) and name.strip() for name in value.values()):
        text = f"channel_names is {value!r}, expected the keys {', '.join(wanted)}, each with a name."
        findings.append(error("104", text))
        return ()
    return tuple(value[key].strip() for key in wanted)


def _classes(value: Any, findings: list[Finding]) -> tuple[str, ...]:
    if not isinstance(value, dict):
        findings.append(
            error("105", f'classes is {value!r}, expected an object such as {{"normal": 0, "fracture": 1}}.')
        )
        return ()
    names = [name.strip() for name in value]
    faults = []
    if len(value) == 1:
        faults.append(f"the only class is {names[0]!r}; expected two or more, or none ({{}}).")
    if not all(_is_whole(index) for index in value.values()) or sorted(value.values()) != list(range(len(value))):
        faults.append(f"the indices are {list(value.values())}, expected 0 to {len(value) - 1}, each once.")
    if len({name.casefold() for name in names}) < len(names):
        faults.append(f"two of the names {names} differ only in spaces or capitals.")
    for name in names:
        if name.isdecimal() or as_number(name) is not None or "|" in name:
            faults.append(f"the name {name!r} is empty, a number or contains '|'; choose another, such as 'grade 1'.")
        elif is_nothing(name) and name.casefold() not in _WORDS_FOR_NORMAL:
            faults.append(f"the name {name!r} is empty, or what an empty cell of a table is; choose another.")
    findings += [error("105", "classes: " + fault) for fault in faults]
    return () if faults else tuple(sorted(names, key=lambda name: {k.strip(): v for k, v in value.items()}[name]))


def _codes(content, key: str, findings: list[Finding]) -> dict[str, int]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        findings.append(
            error("106", f'{key} is {value!r}, expected an object of names and codes such as {{"L1": 20}}.')
        )
        return {}
    names_of: dict[int, str] = {}
    for name, code in value.items():
        if not (_is_whole(code) and 1 <= code <= _MAX_CODE):
            text = f"{key}: {name} has the code {code!r}, expected a whole number from 1 to {_MAX_CODE}."
            findings.append(error("106", text))
        elif code in names_of:
            findings.append(error("106", f"{key}: {names_of[code]} and {name} have the same code {code}."))
        else:
            names_of[code] = name
    return {name: code for code, name in names_of.items()}


def _levels(content, findings: list[Finding]) -> dict[str, int]:
    if "vertebrae" not in content:
        return dict(LEVEL_CODES)
    levels: dict[str, int] = {}
    for name, code in _codes(content, "vertebrae", findings).items():
        level = parse_level(name)
        if level is None:
            findings.append(error("106", f"vertebrae: {name!r} is no vertebra. Known: C1-C7, T1-T13, L1-L6, S1."))
        elif level in levels:
            findings.append(error("106", f"vertebrae: {level} is given twice."))
        else:
            levels[level] = code
    return levels


def _lesions(content, structures, classes, findings: list[Finding]) -> dict[str, str]:
    value = content.get("lesion_structures", {})
    if not isinstance(value, dict):
        findings.append(error("107", f"lesion_structures is {value!r}, expected an object of structures and classes."))
        return {}
    for structure, shown in value.items():
        if structure not in structures:
            text = f"lesion_structures: {structure!r} is not in structures ({', '.join(structures) or 'none'})."
            findings.append(error("107", text))
        if shown not in classes:
            text = f"lesion_structures: {structure!r} shows {shown!r}, which is not in classes ({', '.join(classes)})."
            findings.append(error("107", text))
    return dict(value)
