"""cases.csv, an optional table beside dataset.json: one row a case, with the columns `case` and `sequence`."""

from __future__ import annotations

from pathlib import Path

from spinecls import files

CASE_TABLE = "cases.csv"


def read_sequences(folder: Path) -> dict[str, str]:
    """Sequence of each case of a raw dataset, as written there; cases without one and other columns are passed over."""
    path = folder / CASE_TABLE
    rows = files.read_csv(path) if path.is_file() else []
    return {row.get("case") or "": text for row in rows if (text := (row.get("sequence") or "").strip())}
