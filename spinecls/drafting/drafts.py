"""Drafts of vertebra maps by a model, written into a raw dataset as what they are, in the order to correct them in."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from spinecls import files
from spinecls.errors import DatasetError, UsageError, some_names
from spinecls.hard_cases import HardCases
from spinecls.inference.case_results import VolumePrediction
from spinecls.inference.predictor import Predictor
from spinecls.io.annotation_forms import DRAFT, is_draft
from spinecls.io.dataset_assembly import survey
from spinecls.io.findings import DatasetFaults
from spinecls.io.images import Volume, read_image, write_map
from spinecls.io.voxel_checks import inspect_cases
from spinecls.records import NUMBERING_AMBIGUOUS, Case, DatasetDescription, RawDataset, VertebraPrediction

logger = logging.getLogger(__name__)

FORMS = "annotationsTr.json"
TABLE = "draftsTr.csv"
HEADER = ["case", "sure", "least_probability", "vertebrae", "why", "sha256"]

SURE = 0.9
"""Probability that each name of a scan must have for its draft to be learned from before anybody looked at it."""

MENDED_BY_DRAFTS = ("111", "701", "719")
"""Faults of a dataset (nothing annotated, no table, no position) that drafts are made for."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a model drew in a scan.

    Attributes
    ----------
    sure : whether its names can be learned from before anybody looked at them
    least_probability : of the name that it is least sure of; 0 where it found nothing
    levels : names of what it drew, head to feet
    why : what makes it unsure, and where it disagrees with the table; in words
    sha256 : of the file that it was written to
    """

    case: str
    sure: bool
    least_probability: float
    levels: tuple[str, ...]
    why: str
    sha256: str = ""

    def row(self) -> dict[str, object]:
        """Row of the table of drafts."""
        return {
            "case": self.case,
            "sure": "yes" if self.sure else "no",
            "least_probability": round(self.least_probability, 3),
            "vertebrae": " ".join(self.levels),
            "why": self.why,
            "sha256": self.sha256,
        }


def undrawn_cases(folder: Path) -> tuple[RawDataset, list[Case]]:
    """A raw dataset, and those of its cases that have no position of a vertebra, or only a draft.

    Raises
    ------
    DatasetFaults
        When anything else is wrong with it than that positions are missing.
    """
    dataset, findings, _ = survey(folder, "Tr", partial(inspect_cases, verify_voxels=True, num_processes=1))
    faults = [finding for finding in findings if finding.is_error and finding.code[1:] not in MENDED_BY_DRAFTS]
    if dataset is None or faults:
        raise DatasetFaults(folder, faults)
    unlabelled = [case for case in dataset.unlabelled if case.images[0].parent.name == "imagesTr"]
    cases = [*dataset.cases, *unlabelled]
    return dataset, [case for case in cases if is_draft(case.annotation_form) or not _placed(case)]


def _placed(case: Case) -> bool:
    return any(vertebra.has_position for vertebra in case.vertebrae)


def channels_to_draft(description: DatasetDescription, predictor: Predictor, asked: str | None) -> list[int]:
    """Which channels of the dataset the model sees, in its own order.

    Parameters
    ----------
    asked : name of the one channel for a model of one; None = one called T2, else the first

    Raises
    ------
    UsageError
        When there is no such channel, or the model has several and the dataset others.
    """
    names, wanted = description.channel_names, predictor.plan.channel_names
    if len(wanted) > 1:
        if len(wanted) != len(names) or asked is not None:
            raise UsageError(f"The model learned from {', '.join(wanted)}; the dataset has {', '.join(names)}.")
        return list(range(len(names)))
    if asked is not None and asked not in names:
        raise UsageError(f"--channel {asked}: the dataset has {', '.join(names)}.")
    named = asked if asked is not None else next((name for name in names if "t2" in name.lower()), names[0])
    return [names.index(named)]


def make_drafts(
    dataset: RawDataset,
    cases: Sequence[Case],
    predictor_of: Callable[[str], Predictor],
    channel: str | None = None,
) -> list[Draft]:
    """Draw the vertebrae of cases into labelsTr, and say in annotationsTr.json that nobody looked at them.

    A draft that somebody changed since it was drawn is left as it is.

    Parameters
    ----------
    predictor_of : by the name of a case the model that draws in it

    Returns
    -------
    list of Draft
        First those to look at first; as `draftsTr.csv` has them.

    Raises
    ------
    PartialFailure
        After all others were drawn, when cases failed.
    """
    folder = dataset.folder
    hard = HardCases(folder)
    drafted = _drafted(folder)
    changed = _changed(folder, drafted, dataset.description.file_ending)
    if changed:
        logger.warning(
            "%s: changed since they were drafted, and left as they are. To take them: spinecls_prelabel %s --apply %s",
            some_names(changed), folder.name, folder / "labelsTr",
        )  # fmt: skip
    cases = [case for case in cases if case.identifier not in changed]
    drafts = []
    if cases:
        seen = channels_to_draft(dataset.description, predictor_of(cases[0].identifier), channel)
    for case in tqdm(cases, desc="draft", unit="case", disable=None):
        with hard.case(case.identifier):
            drafts.append(_draft(dataset, case, predictor_of(case.identifier), seen))
    drafts = sorted(drafts, key=lambda draft: (draft.sure, draft.least_probability, draft.case))
    mark_drafts(folder / FORMS, {draft.case: draft.sure for draft in drafts})
    # Rows of drafts that were not drawn anew stay: by them it is known whether somebody changes one.
    drawn = {draft.case: draft.row() for draft in drafts}
    write_rows(folder, [*drawn.values(), *(row for case, row in drafted.items() if case not in drawn)])
    hard.raise_if_any(len(cases), str(folder))
    return drafts


def write_rows(folder: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the table of drafts of a raw dataset."""
    files.write_csv(folder / TABLE, HEADER, rows)


def forget_drafts(folder: Path, cases: Iterable[str]) -> None:
    """Strike cases whose maps are no drafts any more from the table of drafts."""
    if (folder / TABLE).is_file():
        gone = set(cases)
        write_rows(folder, [row for case, row in _drafted(folder).items() if case not in gone])


def _drafted(folder: Path) -> dict[str, dict[str, str]]:
    """Case -> its row in the table of drafts of a raw dataset."""
    path = folder / TABLE
    return {row["case"]: row for row in files.read_csv(path)} if path.is_file() else {}


def changed_drafts(folder: Path, file_ending: str) -> list[str]:
    """Cases of a raw dataset whose draft is another file now than was written."""
    return _changed(folder, _drafted(folder), file_ending)


def _changed(folder: Path, drafted: Mapping[str, Mapping[str, str]], file_ending: str) -> list[str]:
    paths = {case: folder / "labelsTr" / f"{case}{file_ending}" for case in drafted}
    return [
        case for case, path in paths.items() if path.is_file() and files.content_hash(path) != drafted[case]["sha256"]
    ]


def look(case: Case, predictor: Predictor, channels: Sequence[int]) -> tuple[Volume, tuple[str, ...], VolumePrediction]:
    """The image of a case, in which ways it is unlike those that a model knows, and what the model sees in it."""
    volume = read_image(case.images, register=predictor.plan.register_channels)
    image = volume.array[list(channels)]
    unlike = predictor.image_warnings(image, volume.geometry)
    return volume, unlike, predictor.predict_volume(image, volume.geometry, unlike=bool(unlike))


def _draft(dataset: RawDataset, case: Case, predictor: Predictor, channels: Sequence[int]) -> Draft:
    volume, unlike, result = look(case, predictor, channels)
    codes = dataset.description.levels or predictor.level_codes
    level_map = recoded(result.level_map, predictor.level_codes, codes)
    path = dataset.folder / "labelsTr" / f"{case.identifier}{dataset.description.file_ending}"
    write_map(path, level_map, volume.source, volume.geometry)
    draft = judged(case, result.vertebrae, unlike, codes)
    return dataclasses.replace(draft, sha256=files.content_hash(path))


def recoded(level_map, before: Mapping[str, int], after: Mapping[str, int]):
    """A map with the codes of a dataset; levels that it has no code for are left out."""
    result = level_map * 0
    for level, code in before.items():
        if level in after:
            result[level_map == code] = after[level]
    return result


def judged(
    case: Case, vertebrae: Sequence[VertebraPrediction], unlike: Iterable[str], codes: Mapping[str, int]
) -> Draft:
    """Whether a draft is sure: every name probable, the column anchored, the image familiar, and the table agreeing."""
    levels = tuple(vertebra.level for vertebra in vertebrae if vertebra.level in codes)
    least = min((vertebra.level_probability for vertebra in vertebrae), default=0.0)
    why = [] if vertebrae else ["nothing was found"]
    if vertebrae and (least < SURE or any(NUMBERING_AMBIGUOUS in vertebra.flags for vertebra in vertebrae)):
        why.append("names are not certain")
    why += unlike
    missing = [v.level for v in case.vertebrae if v.readings and v.level not in levels]
    if vertebrae and missing:
        why.append(f"the table has {' '.join(missing)}, which the scan does not seem to show")
    return Draft(case=case.identifier, sure=not why, least_probability=least, levels=levels, why="; ".join(why))


def mark_drafts(path: Path, sure: Mapping[str, bool]) -> None:
    """Say in annotationsTr.json which maps are drafts; what else it says stays."""
    content = files.read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must hold an object {{...}}.")
    for case, certain in sure.items():
        content[case] = {**content.get(case, {}), "vertebrae": {"form": DRAFT, "sure": certain}}
    files.write_json(path, content)
