"""Command lines as nnU-Net's users type them, brought to the form that typer reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence


def expand_values(arguments: Sequence[str], several: Collection[str], numeric: Collection[str] = ()) -> list[str]:
    """Repeat an option before each of its values: `-f 0 1 2` becomes `-f 0 -f 1 -f 2`.

    Also `-f 0,1` and, for options of numbers, `-f 0-4`.

    Parameters
    ----------
    arguments : words of the command line
    several : options that take several values
    numeric : those among them whose values are whole numbers, for which `0-4` is a range
    """
    expanded: list[str] = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if word not in several:
            expanded.append(word)
            continue
        values: list[str] = []
        while position < len(arguments) and not _is_option(arguments[position]):
            values += split_value(arguments[position], word in numeric)
            position += 1
        expanded += [part for value in values for part in (word, value)] or [word]
    return expanded


def split_value(text: str, numeric: bool) -> list[str]:
    """Values in `0,1` and, when numeric, `0-4`; anything else is one value."""
    values = []
    for part in text.split(",") if numeric else [text]:
        span = re.fullmatch(r"(\d+)-(\d+)", part) if numeric else None
        if span and int(span[1]) <= int(span[2]):
            values += [str(n) for n in range(int(span[1]), int(span[2]) + 1)]
        elif part:
            values.append(part)
    return values


def _is_option(word: str) -> bool:
    """Whether a word begins an option; negative numbers do not."""
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word)
