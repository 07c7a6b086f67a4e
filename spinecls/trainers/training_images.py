"""Which images a fold has learned from, so that nobody takes a score on them for one on new scans."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from spinecls.model_folder import FoldFolder
from spinecls.planning.fingerprint_types import CaseFingerprint
from spinecls.planning.plan import load_plan

logger = logging.getLogger(__name__)


def training_images(cases: Iterable[CaseFingerprint], start: Path | None) -> tuple[str, ...] | None:
    """Digests of the images of training cases and of those that its first weights had learned from, sorted.

    Parameters
    ----------
    start : checkpoint that the fold starts with, None when it starts from nothing

    Returns
    -------
    tuple, or None where a case was measured by a version that did not note digests
    """
    own = [case.image_digests for case in cases]
    if not all(own):
        return None
    earlier = () if start is None else _images_of_start(start)
    return tuple(sorted({*earlier, *(digest for digests in own for digest in digests)}))


def _images_of_start(checkpoint: Path) -> tuple[str, ...]:
    plan = FoldFolder(checkpoint.parent).plan
    digests = load_plan(plan).training_images if plan.is_file() and checkpoint.suffix == ".pt" else None
    if digests is None:
        said = "%s: it is not known which images these weights learned from. If a case that is validated or tested was "
        logger.warning(said + "among them, its score will be better than on new scans.", checkpoint)
    return digests or ()


def learned_from(cases: Iterable[CaseFingerprint], images: Iterable[str] | None) -> list[str]:
    """Those cases whose image is among the images."""
    known = set(images or ())
    return [case.case for case in cases if known & set(case.image_digests)]
