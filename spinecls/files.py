"""Files that are either whole or absent, and strict JSON.

Every file is written under a temporary name in its own folder, flushed to the disk and renamed, so a killed process
or a full disk never leaves half a file under a final name.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spinecls.errors import DatasetError

_TEMPORARY = re.compile(r"\.tmp-\d+-")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it is synced and renamed to `path`.

    The temporary name keeps the ending, because writers such as SimpleITK choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; systems whose folders cannot be opened are left alone."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Delete what processes that are gone left under temporary names in `folder`."""
    for entry in folder.glob(".tmp-*"):
        if not _TEMPORARY.match(entry.name):
            continue
        if not _process_lives(int(entry.name.split("-")[1])):
            entry.unlink(missing_ok=True)


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or none."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole binary file, or none."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that any parser reads: not-a-number and infinity become null."""
    write_text(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def plain(content: Any) -> Any:
    """Content as it comes back from a JSON file."""
    return json.loads(json.dumps(_finite(content), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    elif hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path) -> Any:
    """Content of a JSON file; a fault is reported with its line and column."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path}: the file does not exist.") from None
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise DatasetError(f"{path}: not UTF-8 text ({where}). Save it as UTF-8.") from None
    return parse_json(text, path)


def parse_json(text: str, where: Path | str) -> Any:
    """Content of a JSON text that came from `where`."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        fault = f"line {error.lineno} column {error.colno}: {error.msg}"
    except ValueError as error:
        fault = str(error)
    raise DatasetError(f"{where}: not valid JSON, {fault}.")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed in JSON")


def write_csv(path: Path, header: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a comma-separated table; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, header, extrasaction="raise")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _csv_cell(value) for key, value in row.items()})


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in _FORMULA_STARTS:
        return "'" + value
    return value


def unquoted(text: str) -> str:
    """Text as it was before `write_csv` guarded it against being run as a spreadsheet formula."""
    return text[1:] if text.startswith("'") and text[1:2] in _FORMULA_STARTS else text


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table as dictionaries."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


def content_hash(*paths: Path) -> str:
    """SHA-256 over the contents of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        digest.update(b"\0file\0")
    return digest.hexdigest()


def text_hash(content: Any) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    return hashlib.sha256(json.dumps(_finite(content), sort_keys=True).encode()).hexdigest()
