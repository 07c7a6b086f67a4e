"""What a cell in the column `class` says: a class, one of several, nothing, or what can be read in two ways."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

NOTHING = (
    "", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "none", "null", "nil", "n.a.", "n. a.", "k.a.", "k. a.", "-",
    "--", "\N{EN DASH}", "\N{EM DASH}", "?", ".",
)  # fmt: skip
"""Spellings of an empty cell by people, spreadsheets, pandas and R, in small letters."""

_NOT_READ = ("unknown", "unk", "not read", "missing")
SPREADSHEET_ERRORS = ("#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#getting_data", "#####")
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10}


class UnreadableClass(ValueError):
    """A cell that names no class; the text says why and what to write."""


class AmbiguousClass(UnreadableClass):
    """A number that is the index of one class and stands in the name of another."""


def is_nothing(text: str) -> bool:
    """Whether a cell of any column is one of the spellings of an empty one."""
    return text.strip().casefold() in NOTHING


def as_number(text: str) -> float | None:
    """Number of a cell with decimal point or comma; None for other text."""
    try:
        # Python reads 1_0 as ten.
        return None if "_" in text else float(text.replace(",", "."))
    except ValueError:
        return None


class ClassCells:
    """Reads the cells of a table by the class names of dataset.json, in index order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._by_name = {name.casefold(): name for name in names}
        self._number_of = {name: _number_in(name) for name in names}

    def read(self, text: str) -> tuple[str, ...]:
        """Classes that a cell such as `1`, `fracture` or `a|b` names, in class order; empty = not read.

        Raises
        ------
        UnreadableClass
            When a part of the cell names no class, or an index may mean another class.
        """
        if self.says_nothing(text):
            return ()
        if not self.names:
            raise UnreadableClass(f"class is {text!r}, but dataset.json declares no classes.")
        chosen = {self._one(part.strip()) for part in text.split("|")}
        return tuple(name for name in self.names if name in chosen)

    def says_nothing(self, text: str) -> bool:
        """Whether a cell says that nobody read the vertebra; -1 does, as labels to ignore are often written."""
        if text.casefold() in self._by_name:
            return False
        return is_nothing(text) or text.casefold() in _NOT_READ or as_number(text) == -1

    def indices(self, text: str) -> list[int] | None:
        """Whole numbers of a cell that holds nothing else; None for a cell with names."""
        numbers = [as_number(part.strip()) for part in text.split("|")]
        if any(part.strip().casefold() in self._by_name for part in text.split("|")):
            return None
        whole = [int(n) for n in numbers if n is not None and n.is_integer()]
        return whole if len(whole) == len(numbers) else None

    def _one(self, part: str) -> str:
        if part.casefold() in self._by_name:
            return self._by_name[part.casefold()]
        index = as_number(part)
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(self.names))
        number = _number_in(part) if index is None else index
        numbered = [name for name, own in self._number_of.items() if own == number and number is not None]
        if index is None or not index.is_integer() or not 0 <= index < len(self.names):
            if part.casefold() in SPREADSHEET_ERRORS:
                raise UnreadableClass(f"class {part!r} is an error of the spreadsheet. Correct its formula.")
            near = difflib.get_close_matches(part.casefold(), self._by_name, n=1)
            meant = self._by_name[near[0]] if near else numbered[0] if len(numbered) == 1 else None
            hint = f" Did you mean {meant!r}?" if meant else ""
            if not near and len(several := re.split(r"\s*[;,/+&]\s*", part)) > 1 and all(several):
                hint = f" Part several possible classes by |, such as {'|'.join(several)}."
            raise UnreadableClass(f"class {part!r} is unknown.{hint} Known: {listed}.")
        chosen = self.names[int(index)]
        others = [name for name in numbered if name != chosen]
        if others:
            text = f"class {part!r} may be {chosen!r} by its index in dataset.json or {others[0]!r} by its name."
            raise AmbiguousClass(f"{text} Write the names of classes in the table ({', '.join(self.names)}).")
        return chosen


def _number_in(name: str) -> float | None:
    """First number in the name of a class, Arabic or a Roman numeral that stands alone; None without one."""
    digits = re.search(r"\d+(?:[.,]\d+)?", name)
    if digits:
        return as_number(digits[0])
    words = (word.casefold() for word in re.findall(r"[^\W\d_]+", name))
    return next((float(_ROMAN[word]) for word in words if word in _ROMAN), None)
