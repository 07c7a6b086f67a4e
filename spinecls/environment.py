"""What the environment tells the libraries that we import, put right before the first of them is imported.

Numbers of threads are made such that every library can read them. A list such as `OMP_NUM_THREADS=2,1` (one number
for each level of nesting) is legal there, and some of the libraries that we import fail on it, or on text that is no
number, as soon as they are imported.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import MutableMapping

THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "BLOSC_NTHREADS",
    "LOKY_MAX_CPU_COUNT",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Variables that hold a number of threads and are read by the libraries that we import."""


def settle_thread_counts(environment: MutableMapping[str, str] = os.environ) -> None:
    """Leave in each variable of `THREAD_COUNTS` one number, the first of a list; what is no number is told and removed.

    To be called before any of the libraries is imported. An empty variable means what a missing one means.
    """
    for name in THREAD_COUNTS:
        text = environment.get(name)
        if text is None:
            continue
        # In ASCII: some digits of other scripts are numbers for Python alone.
        if re.fullmatch(r"\s*0*[1-9][0-9]*\s*(,\s*0*[1-9][0-9]*\s*)*", text):
            environment[name] = str(int(text.split(",")[0]))
            continue
        del environment[name]
        if text.strip():
            logging.getLogger(__name__).warning(
                "Warning: the environment variable %s is %r, expected a number from 1 on; it counts as not set.",
                name,
                text,
            )
