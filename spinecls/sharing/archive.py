"""A zip archive of known members, each stored as it is and listed in SHA256SUMS.

Members are not compressed. So an archive never takes more room unpacked than it does itself, whatever its headers say,
and a compressed one is refused. What the archive names is compared with what is allowed, never used as a path.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from spinecls.errors import ModelError

SUMS = "SHA256SUMS"
MOST_MEMBERS = 100
MOST_BYTES = 2**32 - 1
"""Of the archive: what the zip format reaches without its 64-bit extension, which is refused."""

SizeLimit = Callable[[str], int | None]
"""Most bytes of a member by its name; None for a name that is not allowed."""

_SUMS_BYTES = 200 * MOST_MEMBERS
_DIRECTORY_BYTES = 200 * MOST_MEMBERS
_BLOCK = 1 << 20
_START = b"PK\x03\x04"
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_LOCATOR_64 = struct.Struct("<4sLQL")
_LOCATOR_64_SIGNATURE = b"PK\x06\x07"
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x41
_DOS_FOLDER = 0x10
_OLDEST = (1980, 1, 1, 0, 0, 0)


def write_archive(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write members in the order given, and their checksums after them; the same members give the same bytes."""
    sums = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, content in members:
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
            _write_member(archive, name, content)
        _write_member(archive, SUMS, "".join(sums).encode())


def _write_member(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _OLDEST)
    # Else zipfile notes the system that it runs on.
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    try:
        archive.writestr(info, content)
    except zipfile.LargeZipFile:
        raise ModelError(f"{name}: the bundle would be larger than 4 GB. Export fewer folds at a time (-f).") from None


class Archive:
    """Members of an archive whose table of contents was found in order; each is checked as it is read."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, size_limit: SizeLimit) -> None:
        self.path = path
        self._archive = archive
        self._size_limit = size_limit
        self._sums: dict[str, str] = {}
        self.names = sorted(info.filename for info in archive.infolist() if info.filename != SUMS)
        self._sums = self._read_sums()

    def read(self, name: str) -> bytes:
        """Content of a member."""
        return b"".join(self._blocks(name))

    def copy(self, name: str, target: Path) -> None:
        """Write a member to a file of the caller's choice that does not exist yet."""
        with open(target, "xb") as stream:
            for block in self._blocks(name):
                stream.write(block)

    def _blocks(self, name: str) -> Iterator[bytes]:
        """Content of a member; the last block is followed by an error when the checksum is not as listed."""
        if name != SUMS and name not in self.names:
            raise ModelError(f"{self.path}: {name} is missing. The file is incomplete; get it again.")
        digest, size = hashlib.sha256(), 0
        try:
            with self._archive.open(name) as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
                    if size > self._most_bytes(name):
                        raise ModelError(f"{self.path}: {name} is larger than its header says.")
                    yield block
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
            raise ModelError(f"{self.path}: {name} is damaged ({error}). Get the file again.") from None
        if name != SUMS and digest.hexdigest() != self._sums[name]:
            raise ModelError(
                f"{self.path}: the checksum of {name} is not the one in {SUMS}. The file was damaged or changed; get "
                "it again."
            )

    def _most_bytes(self, name: str) -> int:
        return _SUMS_BYTES if name == SUMS else self._size_limit(name) or 0

    def _read_sums(self) -> dict[str, str]:
        sums: dict[str, str] = {}
        for number, line in enumerate(self.read(SUMS).decode("utf-8", "replace").splitlines(), start=1):
            match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
            if match is None or match[2] in sums:
                raise ModelError(f"{self.path}: {SUMS}, line {number}: expected a checksum and a name, each name once.")
            sums[match[2]] = match[1]
        if unlisted := sorted(set(self.names) - set(sums)):
            raise ModelError(f"{self.path}: {SUMS} lists no checksum of {', '.join(unlisted)}.")
        if absent := sorted(set(sums) - set(self.names)):
            raise ModelError(f"{self.path}: {SUMS} lists {absent[0]!r}, which is not in the file.")
        return sums


@contextmanager
def opened(path: Path, size_limit: SizeLimit) -> Iterator[Archive]:
    """Archive for reading.

    Raises
    ------
    ModelError
        When the file is no archive as `write_archive` makes them: another format, cut short or with something before,
        between or after its members; members that are not allowed, twice there, too large, compressed, encrypted,
        folders or links; checksums that are wrong, missing or too many.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file.")
    with open(path, "rb") as stream:
        start, count = _check_frame(path, stream)
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
            raise ModelError(f"{path}: its table of contents is damaged ({error}). Get the file again.") from None
        with archive:
            infos = archive.infolist()
            if len(infos) != count:
                raise ModelError(f"{path}: its end announces {count} members, its table of contents has {len(infos)}.")
            _check_members(path, infos, size_limit)
            _check_places(path, infos, start)
            yield Archive(path, archive, size_limit)


def _check_frame(path: Path, stream: BinaryIO) -> tuple[int, int]:
    """Start of the table of contents and number of its entries, before anything is made of either."""
    size = stream.seek(0, 2)
    if size == 0:
        raise ModelError(f"{path}: the file is empty.")
    stream.seek(0)
    if stream.read(4) != _START or size < _END.size:
        raise ModelError(f"{path}: not a model bundle (no zip archive). Expected a file of spinecls_export_model.")
    if size > MOST_BYTES:
        raise ModelError(f"{path}: {size} bytes, more than the {MOST_BYTES} that a bundle may have.")
    stream.seek(size - _END.size)
    signature, disk, first_disk, here, count, length, start, comment = _END.unpack(stream.read(_END.size))
    if signature != _END_SIGNATURE or comment:
        raise ModelError(f"{path}: cut short, or something was appended. Get the file again.")
    if disk or first_disk or here != count:
        raise ModelError(f"{path}: a part of an archive in several parts; those are not read.")
    if count > MOST_MEMBERS or length > _DIRECTORY_BYTES:
        raise ModelError(f"{path}: too many members ({count}); a bundle has at most {MOST_MEMBERS}.")
    stream.seek(max(0, size - _END.size - _LOCATOR_64.size))
    if start + length + _END.size != size or stream.read(4) == _LOCATOR_64_SIGNATURE:
        raise ModelError(
            f"{path}: not a model bundle: a zip archive of another kind, or something lies before it or between its "
            "parts. Get the file again."
        )
    return start, count


def _check_members(path: Path, infos: list[zipfile.ZipInfo], size_limit: SizeLimit) -> None:
    seen: dict[str, str] = {}
    for info in infos:
        name = info.orig_filename
        if (other := seen.get(name.casefold())) is not None:
            raise ModelError(f"{path}: holds {other!r} and {name!r}, which are one file on many computers.")
        seen[name.casefold()] = name
        limit = _SUMS_BYTES if name == SUMS else size_limit(name)
        if limit is None:
            raise ModelError(f"{path}: {_complaint(name)}. Nothing was unpacked.")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or info.external_attr & _DOS_FOLDER:
            raise ModelError(f"{path}: {name} is a link, a folder or another special file. Nothing was unpacked.")
        if info.flag_bits & _ENCRYPTED:
            raise ModelError(f"{path}: {name} is encrypted; a bundle has no password.")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits or info.compress_size != info.file_size:
            raise ModelError(
                f"{path}: {name} is compressed or packed otherwise than spinecls_export_model packs it (method "
                f"{info.compress_type}, {info.compress_size} bytes for {info.file_size}). Get the original file."
            )
        if info.file_size > limit:
            raise ModelError(f"{path}: {name} has {info.file_size} bytes, more than the {limit} allowed.")
    if SUMS not in seen.values():
        raise ModelError(f"{path}: {SUMS} is missing. The file is incomplete, or not a model bundle.")


def _complaint(name: str) -> str:
    """What is wrong with the name of a member that is not allowed."""
    if "\\" in name or ":" in name:
        return f"member {name!r} has a backslash or a colon in its name"
    if name.startswith("/"):
        return f"member {name!r} is an absolute path"
    if ".." in name.split("/"):
        return f"member {name!r} leads out of the archive"
    if name.endswith("/"):
        return f"member {name!r} is a folder; a bundle has files only"
    return f"member {name!r} does not belong into a model bundle"


def _check_places(path: Path, infos: list[zipfile.ZipInfo], start: int) -> None:
    """Every member begins where the one before it ends, so none overlaps another and nothing is hidden between."""
    place = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset != place:
            raise ModelError(f"{path}: {info.filename} overlaps another member, or something is hidden before it.")
        place += _LOCAL_HEADER_BYTES + len(info.filename.encode()) + info.file_size
    if place != start:
        raise ModelError(f"{path}: its members do not fill it up to the table of contents. Get the file again.")
