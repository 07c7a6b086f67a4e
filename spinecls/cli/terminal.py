"""What reaches the terminal: no control sequences out of names and tables, and no end of the work when nobody reads."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator

_ALLOWED = "\n\t"
_CONTROLS = {
    number: f"\\x{number:02x}" for number in (*range(0x20), *range(0x7F, 0xA0)) if chr(number) not in _ALLOWED
} | {number: f"\\u{number:04x}" for number in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Characters that move the cursor, colour, erase, or turn the direction of what follows; shown as code writes them."""


def printable(text: str) -> str:
    """Text without any control character but line ends and tabulators; the others are shown as `\\x1b`.

    Names of files and classes and cells of tables come from others, and a terminal obeys what they contain.
    """
    return text.translate(_CONTROLS)


class PrintableFormatter(logging.Formatter):
    """Log lines that a terminal shows as they are."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Lasting:
    """A stream of text that goes on when its reader is gone (`| head`): the work is done, and its exit code is right.

    Everything but writing is that of the stream below.
    """

    def __init__(self, stream, clean: bool) -> None:
        self._stream = stream
        self._clean = clean

    def write(self, text: str) -> int:
        return self._attempt(self._stream.write, printable(text) if self._clean else text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, act, *arguments):
        try:
            return act(*arguments)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            return 0

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


@contextlib.contextmanager
def reading_may_stop() -> Iterator[None]:
    """Within it standard output is printable in any encoding, and neither output ends the work when nobody reads it."""
    # A stream that was closed before the start (`>&-`) is none.
    out = _Lasting(sys.stdout or io.StringIO(), clean=True)
    # Progress bars move the cursor; what is told on standard error is made printable where it is told.
    err = _Lasting(sys.stderr or io.StringIO(), clean=False)
    if hasattr(sys.stdout, "reconfigure"):
        # A file name that is not text in the terminal's encoding is shown by its codes.
        sys.stdout.reconfigure(errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()
