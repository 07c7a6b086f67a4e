"""From what JSON holds to frozen dataclasses; the way back is `dataclasses.asdict`.

No library does it, because a file that a person may have edited, or that a stranger sent, is refused with the place of
the fault, what was found and what is expected. cattrs makes 3.0 of "3", True of "no" and ("a", "b") of "ab" unless
every rule below is given to it; msgspec takes unknown keys of a dataclass silently and does not say at which key of a
mapping the fault is.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping

from spinecls.errors import PlanError, SpineclsError


def from_plain(kind, value, where: str, error: type[SpineclsError] = PlanError):
    """Rebuild a dataclass, or one of its field types, from what JSON holds.

    Parameters
    ----------
    kind : a dataclass, a tuple or mapping of what can be rebuilt, that or None, str, bool, int or float
    where : place of `value`, for the message
    error : what is raised

    Raises
    ------
    SpineclsError
        Naming the place, what was found and what is expected.
    """
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where, error)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise error(f"{where}: expected a list, got {value!r}.")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(value) != len(kinds):
            raise error(f"{where}: expected {len(kinds)} values, got {len(value)}.")
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(from_plain(k, item, f"{where}[{i}]", error) for i, (k, item) in pairs)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise error(f"{where}: expected an object, got {value!r}.")
        return {key: from_plain(arguments[1], item, f"{where}.{key}", error) for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        told = next(k for k in arguments if k is not type(None))
        return None if value is None else from_plain(told, value, where, error)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise error(f"{where}: expected {kind.__name__}, got {value!r}.")
    return value


# Hints are evaluated from text, which for some hundreds of vertebrae takes longer than all the rest.
_type_hints = functools.cache(typing.get_type_hints)


def _dataclass(kind, value, where: str, error: type[SpineclsError]):
    if not isinstance(value, Mapping):
        raise error(f"{where}: expected an object, got {value!r}.")
    hints = _type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    unknown = [key for key in value if key not in names]
    if unknown:
        raise error(f"{where}: unknown key {unknown[0]!r}. Known: {', '.join(names)}.")
    required = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in value]
    if missing:
        raise error(f"{where}: key {missing[0]!r} is missing.")
    return kind(**{key: from_plain(hints[key], item, f"{where}.{key}", error) for key, item in value.items()})
