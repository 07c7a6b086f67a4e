"""Locate, name and classify every vertebra of a spine MRI, the class from the vertebra's own voxels."""

from spinecls.environment import settle_thread_counts

__version__ = "0.1.0"

# Before any library is imported.
settle_thread_counts()

_LIBRARY = {
    "load_model": "spinecls.inference.library",
    "Predictor": "spinecls.inference.predictor",
    "Geometry": "spinecls.geometry",
}
"""What is offered to Python, and where it is; imported when asked for, because torch takes its time."""


def __getattr__(name: str):
    if name not in _LIBRARY:
        raise AttributeError(f"module 'spinecls' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LIBRARY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LIBRARY])
