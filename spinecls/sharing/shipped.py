"""The finder that comes with spinecls: lumbar vertebrae are located, named and outlined without any training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spinecls.errors import ModelError
from spinecls.inference.models import TrainedModel
from spinecls.sharing.archive import opened
from spinecls.sharing.install import unpack_model
from spinecls.sharing.layout import MODEL, parse_description, size_limit

FINDER = "finder"
"""How it is asked for by name."""

BUNDLE = Path(__file__).parents[1] / "models" / "finder.spinecls"


@contextmanager
def shipped_finder() -> Iterator[TrainedModel]:
    """The finder as a model folder, which is gone after the block; it is no model of the user's results.

    Raises
    ------
    ModelError
        When the installation lacks it.
    """
    if not BUNDLE.is_file():
        raise ModelError(f"{BUNDLE}: the finder that comes with spinecls is missing. Install spinecls again.")
    with tempfile.TemporaryDirectory(prefix="spinecls-") as folder, opened(BUNDLE, size_limit) as archive:
        yield unpack_model(archive, parse_description(archive.read(MODEL), f"{BUNDLE}: {MODEL}"), Path(folder))
