"""Command lines as nnU-Net's users type them, brought to the form that typer reads."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from spinecls.cli.habits import instead_of
from spinecls.errors import UsageError, nearest

WHOLE, NUMBER = "a whole number", "a number"


@dataclass(frozen=True)
class Options:
    """Options of one command.

    Attributes
    ----------
    command : its word
    valued : options with a value, each with the kind of it: `WHOLE`, `NUMBER` or any other word for anything else
    flags : options without one
    several : those with a value that take more than one
    positional : whether the command takes words without an option
    """

    command: str
    valued: Mapping[str, str]
    flags: frozenset[str]
    several: frozenset[str]
    positional: bool


def checked_words(words: Sequence[str], options: Options) -> list[str]:
    """Words of a command line, none of which can be taken for what it was not meant as; `-o=x` as `-o x`.

    The parser would read `-chk x` as `-c hk x`, take `--disable_tta` in `-o --disable_tta` for a folder's name, and the
    last of two values for the only one.

    Raises
    ------
    UsageError
        For an option that the command does not have, one without a value, one that is given twice, an empty word, or a
        word too many.
    """
    checked: list[str] = []
    given: set[str] = set()
    after = ""
    waits = 0
    for word in _parted(words, options):
        if not word.strip():
            place = f"{after} ''" if after else "An argument"
            raise UsageError(f"{place}: is empty. Give a value or leave it out; is a variable of the shell not set?")
        if is_option(word):
            _require_value(after, waits, f"the option {word} follows")
            _require_known(word, options)
            if word in given and word in options.valued and word not in options.several:
                raise UsageError(f"{word}: given twice. It takes one value, so give it once.")
            given.add(word)
            after, waits = word, int(word in options.valued)
        elif waits == 0 and not options.positional and after not in options.several:
            told = f"{after} takes {'one value' if after in options.valued else 'no value'}. " if after else ""
            raise UsageError(f"{word}: a word too many. {told}See spinecls_{options.command} --help.")
        else:
            if waits or after in options.several:
                _require_kind(after, word, options.valued.get(after, ""))
            waits = 0
        checked.append(word)
    _require_value(after, waits, "nothing follows")
    return checked


def _parted(words: Sequence[str], options: Options) -> list[str]:
    parted = []
    for word in words:
        name, equals, value = word.partition("=")
        parted += [name, value] if equals and name in options.valued else [word]
    return parted


def _require_value(option: str, waits: int, instead: str) -> None:
    if waits:
        raise UsageError(f"{option}: needs a value, and {instead}.")


def _require_kind(option: str, word: str, kind: str) -> None:
    if kind == WHOLE and not re.fullmatch(r"[+-]?\d+", word):
        raise UsageError(f"{option} {word}: expected {WHOLE}.")
    if kind == NUMBER:
        try:
            finite = math.isfinite(float(word))
        except ValueError:
            finite = False
        if not finite:
            raise UsageError(f"{option} {word}: expected {NUMBER}.")


def _require_known(word: str, options: Options) -> None:
    if word in options.valued or word in options.flags:
        return
    name = word.partition("=")[0]
    if name in options.flags:
        raise UsageError(f"{word}: {name} takes no value.")
    told = instead_of(name, options.command)
    if told:
        raise UsageError(f"{name}: not an option of spinecls_{options.command}; {told}.")
    if word[:2] in options.valued and re.fullmatch(r"[\d,-]+|all", word[2:]):
        hint = f" Did you mean {word[:2]} {word[2:]}?"
    else:
        hint = nearest(name, sorted({*options.valued, *options.flags}), cutoff=0.6)
    raise UsageError(
        f"{word}: spinecls_{options.command} has no such option.{hint} See spinecls_{options.command} --help."
    )


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
        while position < len(arguments) and not is_option(arguments[position]):
            values += split_value(arguments[position], word in numeric)
            position += 1
        if word in numeric:
            # Twice the same dataset or fold is once.
            values = list(dict.fromkeys(values))
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


def is_option(word: str) -> bool:
    """Whether a word begins an option; negative numbers do not."""
    if not word.startswith("-"):
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False
