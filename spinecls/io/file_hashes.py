"""Content hashes of files, without reading again what did not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.io.file_kinds import detached_data

MISSING = "missing"

_TRUSTED_AGE_NS = 2_000_000_000
"""Age of a file at the time when its hash was noted: a younger one could change again within one tick of the clock of
its file system, with the same size and the same time of change."""


class FileHashes:
    """SHA-256 of files, kept in an index with their sizes and times of change.

    Parameters
    ----------
    index_path : JSON file of the index; None = nothing is kept
    root : paths below it are noted relative to it, so a dataset may move
    num_threads : files read at the same time
    keep : whether the index is written; where its folder cannot be written to it is only read
    """

    def __init__(self, index_path: Path | None, root: Path, num_threads: int = 2, keep: bool = True) -> None:
        self._kept_at = index_path if keep else None
        self._root = root
        self._num_threads = num_threads
        self._kept = _read_index(index_path)
        self._trusted_until_ns = index_path.stat().st_mtime_ns - _TRUSTED_AGE_NS if index_path and self._kept else 0
        self._entries: dict[Path, list] = {}

    def read(self, sources: Iterable[Path]) -> None:
        """Hash the files in `sources` (files and DICOM folders) that were not asked for yet, and keep the index."""
        wanted = sorted({path for source in sources for path in files_of(source)} - self._entries.keys())
        with ThreadPoolExecutor(self._num_threads) as pool:
            self._entries.update(zip(wanted, pool.map(self._entry, wanted), strict=True))
        # What this run does not ask for, such as scans without annotation, stays known while its files are there.
        index = {key: entry for key, entry in self._kept.items() if (self._root / key).is_file()}
        index |= {self._key(path): entry for path, entry in self._entries.items()}
        if self._kept_at is not None and index != self._kept:
            files.write_json(self._kept_at, dict(sorted(index.items())))
            self._kept = index

    def of(self, source: Path) -> list[str]:
        """Hash of a file that was read, or of each file of a DICOM folder; `MISSING` for a file that is not there."""
        return [self._entries[path][2] for path in files_of(source)]

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)

    def _entry(self, path: Path) -> list:
        """Size, time of change and hash of a file; reading a missing one is left to fail with its case's name."""
        if not path.is_file():
            return [-1, -1, MISSING]
        status = path.stat()
        before = self._kept.get(self._key(path), [])
        same = isinstance(before, list) and len(before) == 3 and before[:2] == [status.st_size, status.st_mtime_ns]
        if same and status.st_mtime_ns < self._trusted_until_ns:
            return before
        return [status.st_size, status.st_mtime_ns, files.content_hash(path)]


def files_of(source: Path) -> list[Path]:
    """The file itself and those that hold its voxels, or the files of a DICOM folder."""
    if source.is_dir():
        return sorted(p for p in source.iterdir() if p.is_file())
    return [source, *detached_data(source)]


def _read_index(path: Path | None) -> Mapping[str, list]:
    """The index of the last run; a damaged one only costs the time to hash the files again."""
    if path is None or not path.is_file():
        return {}
    try:
        index = files.read_json(path)
    except DatasetError:
        return {}
    return index if isinstance(index, dict) else {}
