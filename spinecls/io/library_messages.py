"""What the image library would print, as text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_PLACE = re.compile(r"^\s*WARNING: In .*?\n\w+ \(0x[0-9a-f]+\):\s*", re.DOTALL)


class _Messages(sitk.LoggerBase):
    """Keeps the library's messages instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def _keep(self, text: str) -> None:
        text = " ".join(_PLACE.sub("", text).split())
        if text and text not in self.texts:
            self.texts.append(text)

    # The library calls these by name.
    DisplayText = DisplayWarningText = DisplayErrorText = DisplayGenericOutputText = DisplayDebugText = _keep


@contextmanager
def library_messages() -> Iterator[list[str]]:
    """Keep the library's warnings off the terminal and in a list, each once."""
    messages = _Messages()
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    logger = messages.SetAsGlobalITKLogger()
    try:
        yield messages.texts
    finally:
        logger.SetAsGlobalITKLogger()
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextmanager
def sheared_sforms_allowed() -> Iterator[None]:
    """Let the library read the voxels of a NIfTI file whose sform is bent; where it then puts them is not to be used.

    It takes right angles for such axes, but not always the nearest ones: permuted axes end up turned by far.
    """
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_PERMISSIVE, None)
        else:
            os.environ[_PERMISSIVE] = before
