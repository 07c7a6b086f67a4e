"""What a file name says: the case and the channel, by one rule for datasets and for images to predict."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

MOST_CHANNELS = 10
"""Numbers below it may be a channel too many; greater ones are years, dates and numbers of scans."""

RESERVED = ("model", "predictions", "refer", "failed", "summary")
"""Names of the files in a folder of results that are of no case."""

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>[0-9]{4})")


def split_channel(stem: str, channels: int, stems: Collection[str] = ()) -> tuple[str, int | None]:
    """Case and channel of a file name without its ending; the channel is None where the name has none.

    The four digits at the end are a channel when they are 0000 or less than the number of channels. Other numbers
    below `MOST_CHANNELS` are a channel too many, where there are several, or where `<case>_0000` lies beside. Any
    other number belongs to the case's own name, such as `scan_2024` or `scan_0007`.

    Parameters
    ----------
    channels : how many the dataset or the model has
    stems : all names of the folder
    """
    match = _CHANNEL.fullmatch(stem)
    if match is None:
        return stem, None
    case, number = match["case"], int(match["channel"])
    known = number == 0 or number < channels
    too_many = number < MOST_CHANNELS and (channels > 1 or f"{case}_0000" in stems)
    return (case, number) if known or too_many else (stem, None)


def folded(name: str) -> str:
    """The name as file systems see it that know no case of letters and one spelling of accents."""
    return unicodedata.normalize("NFC", name).casefold()


def is_reserved(case: str) -> bool:
    """Whether a case of this name would meet files of the folder of results itself."""
    return folded(case) in RESERVED
