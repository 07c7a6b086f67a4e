"""vertebraeTr.csv written anew after somebody's review, the earlier one kept beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from spinecls import files


def rewrite_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]], after: str) -> Path | None:
    """Write the table of a dataset; returns what the earlier one is called now, None where there was none.

    Parameters
    ----------
    after : what the rewriting was, for the name of the earlier table
    """
    kept = None
    if path.exists():
        names = (path.with_name(f"{path.stem}_before_{after}_{number}.csv") for number in itertools.count(1))
        kept = next(place for place in names if not place.exists())
        files.write_bytes(kept, path.read_bytes())
    # Numbers are no formulas, so that negative ones stay as they are.
    files.write_csv(path, list(columns), ({name: _number(cell) for name, cell in row.items()} for row in rows))
    return kept


def _number(cell: str) -> str | float:
    """A negative number as such, anything else as it is."""
    try:
        return float(cell) if cell.startswith("-") else cell
    except ValueError:
        return cell
