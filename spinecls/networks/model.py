"""A trained model: one finder and, where classes are known, several readers.

They are networks of their own, trained one after the other, and share no weight. What a vertebra is called and where
it lies comes from the finder, what class it is from the mean of the readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader

FINDER = "finder"


class SpineModel(nn.Module):
    """Finder and readers.

    Attributes
    ----------
    finder : locates and names
    readers : the members that classify, alike in shape; empty when there are no classes
    """

    def __init__(self, finder: Finder, readers: list[Reader]) -> None:
        super().__init__()
        self.finder = finder
        self.readers: Sequence[Reader] = nn.ModuleList(readers)  # type: ignore[assignment]  # torch forgets of what

    @property
    def ordinal(self) -> bool:
        """Whether the classes are grades."""
        return any(reader.ordinal for reader in self.readers)

    def open_pass(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """See `Finder.open_pass`."""
        return self.finder.open_pass(image)

    def parts(self) -> Iterator[tuple[str, Finder | Reader]]:
        """The networks by name, in the order in which they are trained."""
        yield FINDER, self.finder
        for number, reader in enumerate(self.readers):
            yield f"reader_{number}", reader
