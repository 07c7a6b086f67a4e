"""Which errors of one case are the case's own, and which are defects of ours.

Wherever many cases are worked on one by one, a case that cannot be done must not cost the others. Its own faults (an
error of this package, no memory left, a file that the system does not give) become a reason. Anything else is a mistake
in the program: the others still go on, but it is told as a defect, and its traceback is kept in a file. What a library
raises for a bad input is turned into an error of this package where the library is called, never here.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import traceback
from collections.abc import Iterator
from pathlib import Path

from spinecls import __version__, files
from spinecls.errors import DefectiveCases, Interrupted, PartialFailure, SpineclsError, counted

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "Out of memory. Close other programs, use fewer processes (-np 1), or plan for less: -gpu_memory_target GB."
)

_NO_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


class HardCases:
    """The cases of one piece of work that failed; see `case`.

    Parameters
    ----------
    folder : where the traceback of a defect is kept, as `<case>.log`

    Attributes
    ----------
    failed : case -> reason in plain words, one line
    defects : those among them that failed by a defect
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.failed: dict[str, str] = {}
        self.defects: list[str] = []

    def defect_log(self, case: str) -> Path:
        """File of the traceback of a case."""
        return self.folder / f"{case}.log"

    @contextlib.contextmanager
    def case(self, identifier: str) -> Iterator[None]:
        """Work on one case: an error inside is noted under `failed` and ends here; an interruption passes.

        Examples
        --------
        >>> hard = HardCases(target)                                              # doctest: +SKIP
        >>> for case in cases:                                                    # doctest: +SKIP
        ...     with hard.case(case.identifier):
        ...         done.append(work(case))
        >>> hard.raise_if_any(len(cases))                                         # doctest: +SKIP
        """
        self.defect_log(identifier).unlink(missing_ok=True)
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            reason = _plain_reason(error)
            if reason is None:
                reason = self._note_defect(identifier, error)
            logger.debug("case %s failed", identifier, exc_info=True)
            self.failed[identifier] = reason

    def _note_defect(self, identifier: str, error: Exception) -> str:
        self.defects.append(identifier)
        path = self.defect_log(identifier)
        head = f"spinecls {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        files.write_text(path, f"{head}case {identifier}\n\n{''.join(traceback.format_exception(error))}")
        text = " ".join(str(error).split())[:200]
        reason = f"a defect of spinecls {__version__}, not of the case ({type(error).__name__}: {text})"
        logger.error("%s: %s. Please report it with %s.", identifier, reason, path)
        return f"{reason}; please report it with {path.name}"

    def raise_if_any(self, total: int, where: str = "") -> None:
        """End the work with the exit code of the contract, when cases failed.

        Parameters
        ----------
        total : cases worked on
        where : file that names the failed ones

        Raises
        ------
        DefectiveCases
            When one of them failed by a defect.
        PartialFailure
            When cases failed otherwise.
        """
        if not self.failed:
            return
        listed = "\n".join(f"  {case}: {reason}" for case, reason in sorted(self.failed.items()))
        see = f" (see {where})" if where else ""
        text = f"{len(self.failed)} of {counted(total, 'case')} failed{see}:\n{listed}"
        if self.defects:
            raise DefectiveCases(
                f"{text}\n{len(self.defects)} of them by a defect of spinecls {__version__}. The other cases are done. "
                f"Please report it with {', '.join(str(self.defect_log(case)) for case in self.defects[:3])}."
            )
        raise PartialFailure(text)


def _plain_reason(error: BaseException) -> str | None:
    """Why a case cannot be done, in one line without names of the program; None for a defect."""
    if isinstance(error, SpineclsError):
        return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or "no reason was given"
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or of the device did not suffice; torch tells of it by a `RuntimeError`."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _NO_MEMORY_WORDS)
