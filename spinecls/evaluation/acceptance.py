"""What a user may accept of a prediction folder that makes its score one of other cases than meant."""

from __future__ import annotations

import enum


class Accept(enum.StrEnum):
    """`missing`: cases without a prediction are left out; `learned`: those that the model learned from are scored;
    `other_image`: so are those predicted from another image than the dataset's."""

    missing = "missing"
    learned = "learned"
    other_image = "other_image"
