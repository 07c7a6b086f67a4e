"""What a finder that is sure of itself calls otherwise than a dataset does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spinecls.anatomy import RANK
from spinecls.drafting.drafts import channels_to_draft, judged, look
from spinecls.errors import DatasetError
from spinecls.evaluation.truth import truth_of
from spinecls.inference.predictor import Predictor
from spinecls.io.dataset_assembly import survey
from spinecls.io.findings import Finding, warning
from spinecls.io.voxel_checks import inspect_cases
from spinecls.records import Case, DatasetDescription

CODE = "738"

SAME_MM = 10.0
"""How far apart centres of one vertebra may be, by two people or a person and a model."""


def second_look(folder: Path, predictor: Predictor) -> list[Finding]:
    """A warning for every case of a raw dataset whose names a finder is sure to be others.

    A case with positions is compared place by place, another one by which vertebrae its table has. Where the finder is
    not sure nothing is said.
    """

    def inspect(files, description):
        return inspect_cases(files, description, verify_voxels=False, num_processes=1)

    dataset, _, _ = survey(folder, "Tr", inspect)
    findings: list[Finding] = []
    if dataset is None:
        return findings
    for case in tqdm(dataset.cases, desc="look", unit="case", disable=None):
        if not case.vertebrae:
            continue
        try:
            text = _difference(case, dataset.description, predictor)
        except DatasetError:
            # What is wrong with its files is told already.
            continue
        findings += [warning(CODE, text, case.identifier)] if text else []
    return findings


def _difference(case: Case, description: DatasetDescription, predictor: Predictor) -> str:
    _, unlike, result = look(case, predictor, channels_to_draft(description, predictor, None))
    vertebrae = result.vertebrae
    # Whether it is sure is asked apart from what the table says.
    bare = Case(identifier=case.identifier, patient=case.patient, images=case.images)
    if not judged(bare, vertebrae, unlike, description.levels).sure:
        return ""
    centres = truth_of(case, description).centres_lps
    shown = {vertebra.level: vertebra.centre_lps for vertebra in vertebrae}
    return (
        difference_of_places(centres, shown)
        if centres
        else difference_of_names([v.level for v in case.vertebrae], shown)
    )


def difference_of_places(told: Mapping[str, Sequence[float]], shown: Mapping[str, Sequence[float]]) -> str:
    """What is called otherwise at the same place, in words; empty where nothing is.

    Parameters
    ----------
    told, shown : level -> centre (LPS mm), by the dataset and by the finder
    """
    others = []
    for level, centre in told.items():
        apart = {name: float(np.linalg.norm(np.subtract(centre, place))) for name, place in shown.items()}
        nearest = min(apart, key=apart.__getitem__, default=level)
        if nearest != level and apart[nearest] <= SAME_MM:
            others.append((level, nearest))
    if not others:
        return ""
    listed = ", ".join(f"{level} seems to be {name}" for level, name in others)
    steps = Counter(RANK[name] - RANK[level] for level, name in others)
    shifted = len(steps) == 1 and len(others) > 1 and len(others) == len(told)
    return f"{listed}{'; every name is off by the same number of levels' if shifted else ''}. Look at the scan"


def difference_of_names(told: Sequence[str], shown: Mapping[str, object]) -> str:
    """Which vertebrae of a table a scan does not seem to show, in words; empty where there are none."""
    missing = [level for level in told if level not in shown]
    if not missing:
        return ""
    seen = sorted(shown, key=RANK.__getitem__)
    span = f"{seen[0]} to {seen[-1]}" if len(seen) > 1 else seen[0]
    named = sorted(told, key=RANK.__getitem__)
    table = f"{named[0]} to {named[-1]}" if len(named) > 1 else named[0]
    return f"the table says {table}, the scan seems to show {span} (no {' '.join(missing)}). Look at the scan"
