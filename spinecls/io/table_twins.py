"""Values of a table that a person would read as one, a computer as several: `007`, `7`, `7.0`; `P01`, `p 1`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LATIN = str.maketrans("АВЕКМНОРСТХаеорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTXaeopcyxABEZHIKMNOPTYXo")


def twin_key(text: str) -> str:
    """Equal for spellings of one value: capitals, spaces, punctuation, leading zeros, `.0`, letters that look alike."""
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(c for c in plain.translate(_LATIN) if unicodedata.category(c) != "Cf").casefold().strip()
    plain = re.sub(r"^(\d+)[.,]0+$", r"\1", plain)
    # What parts two numbers stays: `1-1` is not `11`.
    plain = re.sub(r"(?<=\d)[\s_\-./]+(?=\d)", "|", plain)
    plain = re.sub(r"[\s_\-./]+", "", plain)
    return re.sub(r"0*(\d+)", r"\1", plain) or text


def twin_groups(values: Iterable[str]) -> list[list[str]]:
    """Groups of two or more values that differ and have one key, each sorted."""
    groups: dict[str, set[str]] = {}
    for value in values:
        groups.setdefault(twin_key(value), set()).add(value)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def unlike_letters(text: str) -> str:
    """The first character outside of ASCII, named; empty when there is none."""
    bad = next((c for c in text if not c.isascii()), "")
    return f"{bad!r} is {unicodedata.name(bad, f'code {ord(bad)}').lower()}" if bad else ""
