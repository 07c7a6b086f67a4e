"""Which case a cell of the column `case` names."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from spinecls.io.findings import Finding, error, warning
from spinecls.io.input_files import image_stem
from spinecls.io.table_twins import twin_key


class CaseNames:
    """Finds the cases of a table; names of files are taken for their cases, and told in one finding.

    Parameters
    ----------
    cases : identifiers that have an image
    channels : how many channels an image has
    """

    def __init__(self, cases: Collection[str], channels: int) -> None:
        self._cases = cases
        self._suffixes = tuple(f"_{channel:04d}" for channel in range(channels))
        self._files: dict[str, str] = {}

    def case(self, text: str, place: str, findings: list[Finding]) -> str | None:
        """Identifier of the case, or None with a finding."""
        if not text:
            findings.append(error("706", f"{place} names no case."))
            return None
        if text in self._cases:
            return text
        name = text.replace("\\", "/").rpartition("/")[2]
        stem = image_stem(name) or name
        # Other numbers, such as years, belong to the name of another case.
        for plain in (stem, stem[:-5] if stem.endswith(self._suffixes) else stem):
            if plain in self._cases:
                self._files[text] = plain
                return plain
        twins = [case for case in self._cases if twin_key(case) == twin_key(stem)]
        near = twins or difflib.get_close_matches(text, self._cases, n=1, cutoff=0.8)
        hint = f" Did you mean {near[0]!r}?" if near else " Add its image or remove its rows."
        if len(twins) == 1 and text.isdigit():
            hint += " (Spreadsheets drop leading zeros; make the column one of text.)"
        findings.append(error("707", f"{place}: the case has no image.{hint}", text))
        return None

    def findings(self, table_name: str) -> list[Finding]:
        """The names of files, if there were any."""
        if not self._files:
            return []
        text, case = next(iter(self._files.items()))
        text = f"{table_name}: {len(self._files)} of its cases are names of files, such as {text}, read as {case}"
        return [warning("729", text)]
