"""Names that stand for classes: built in, declared by an installed package, or given as a file or module."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from spinecls.errors import UsageError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Looks up classes of one kind by name.

    Order: built in, then entry points of `group`, then `file.py:Class` or `package.module:Class`. Only a name that
    the user types may load a file or module; names inside data and model files must be registered.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, type[T]] = {}

    def register(self, entry: type[T]) -> type[T]:
        """Class decorator that adds `entry` under its own name."""
        self._entries[entry.__name__] = entry
        return entry

    def names(self) -> list[str]:
        """Names that can be used without a file."""
        plugins = {point.name for point in importlib.metadata.entry_points(group=self.group)}
        return sorted(self._entries.keys() | plugins)

    def find(self, name: str) -> type[T]:
        """Class called `name`; a miss lists the names, the nearest one and the other ways."""
        if name in self._entries:
            return self._entries[name]
        for point in importlib.metadata.entry_points(group=self.group):
            if point.name == name:
                with self._told(name):
                    return point.load()
        if ":" in name:
            return self._from_source(*name.rsplit(":", 1))
        raise UsageError(
            f"{self.kind} {name!r} is not known.{nearest(name, self.names(), 0.4)} Known: {', '.join(self.names())}. "
            f"Your own: file.py:Class, module:Class, or an entry point in group {self.group!r}."
        )

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Tell whatever a user's file raises while it is loaded, with the lines that lead there."""
        try:
            yield
        except (Exception, SystemExit) as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if not f.filename.startswith("<frozen")]
            lines = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
            raise UsageError(f"{self.kind} {name}: the file cannot be loaded:\n{lines.rstrip()}") from None

    def _from_source(self, source: str, class_name: str) -> type[T]:
        if source.endswith(".py"):
            path = Path(source).expanduser().resolve()
            if not path.is_file():
                raise UsageError(f"{self.kind} {source}:{class_name}: the file {path} does not exist.")
            spec = importlib.util.spec_from_file_location(f"_spinecls_user_{path.stem}", path)
            if spec is None or spec.loader is None:
                raise UsageError(
                    f"{self.kind} {source}:{class_name}: the link leads to {path}, whose name does not end with .py. "
                    "Give a copy instead of the link, with a name that does."
                )
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            with self._told(f"{source}:{class_name}"):
                spec.loader.exec_module(module)
        else:
            with self._told(f"{source}:{class_name}"):
                module = importlib.import_module(source)
        if not hasattr(module, class_name):
            raise UsageError(f"{self.kind} {source}:{class_name}: the file has no class of that name.")
        return getattr(module, class_name)
