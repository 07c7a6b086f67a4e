"""Bundles taken apart and put together again, well or badly."""

import hashlib
import io
import json
import stat
import zipfile
from pathlib import Path

REGULAR = (stat.S_IFREG | 0o644) << 16


def members_of(path: Path) -> dict[str, bytes]:
    """Members of a bundle without its checksums."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "SHA256SUMS"}


def sums_of(members: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items()).encode()


def entry(name: str, mode: int = REGULAR, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode, method
    return info


def pack(members: dict[str, bytes], more: tuple = (), sums: bytes | None = None) -> bytes:
    """A bundle of members with their right checksums, or `sums`; `more` holds further (entry, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(entry(name), data)
        for info, data in more:
            archive.writestr(info, data)
        archive.writestr(entry("SHA256SUMS"), sums_of(members) if sums is None else sums)
    return stream.getvalue()


def edited(data: bytes, *path: str, value) -> bytes:
    """JSON with the value at a place replaced."""
    content = json.loads(data)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(content).encode()


def listing(folder: Path) -> dict[str, str]:
    """Everything below a folder: what each file holds, where each link leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            kind = f"link to {path.readlink()}"
        else:
            kind = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path.relative_to(folder))] = kind
    return found
