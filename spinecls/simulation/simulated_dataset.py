"""A raw dataset of simulated lesions from a raw dataset of real scans."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spinecls import __version__, files
from spinecls.errors import DatasetError, UsageError
from spinecls.io.annotation_forms import CHANCES
from spinecls.io.case_table import CASE_TABLE
from spinecls.io.dataset import load_dataset
from spinecls.io.images import Volume, read_chance_map, read_image, read_label_map, write_map
from spinecls.records import Case, RawDataset
from spinecls.simulation.case import SimulatedCase, simulate_case
from spinecls.simulation.inserts import HEADER
from spinecls.simulation.options import SimulationOptions, class_names, kinds_for
from spinecls.simulation.sources import Job, find_jobs, require_one_grid
from spinecls.simulation.streams import case_stream

logger = logging.getLogger(__name__)

SETTINGS, LESIONS, TABLE = "simulation.json", "lesions.csv", "vertebraeTr.csv"
_PROGRESS = "simulation_progress"
_WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
_TABLE_HEADER = ["case", "patient", "site", "vertebra", "class"]
_POINT = ("x_mm", "y_mm", "z_mm")
_MOST_WHOLE = 65535


def simulate_dataset(source: Path, target: Path, options: SimulationOptions) -> Path:
    """Put lesions into the scans of a raw dataset and write them as a new one.

    Classes that the source has are not taken over. A run that was stopped goes on where it was when it is started with
    the same options.

    Parameters
    ----------
    source : raw dataset with maps of vertebral bodies
    target : folder of the new raw dataset, not there yet or begun with the same options

    Returns
    -------
    `target`

    Raises
    ------
    UsageError
        When the target is something else, or an option does not fit the dataset.
    DatasetError
        When the source is faulty, has no vertebra map or channels of unknown sequence.
    """
    source, target = Path(source), Path(target)
    _require_ours(target)
    dataset = load_dataset(source)
    jobs, notes = find_jobs(dataset, options)
    for note in notes:
        logger.warning(note)
    kinds = {kind for job in jobs for kind in kinds_for(options, job.sequences[0])}
    class_list = class_names(options.task, kinds)
    settings = {
        "version": __version__,
        "source": dataset.description.name,
        "source_annotation": _annotation_hash(dataset.folder),
        "options": options.as_dict(),
        "classes": list(class_list),
        "sequences": {job.case.identifier: list(job.sequences) for job in jobs},
        "notes": notes,
    }
    if _begin(target, settings):
        logger.info("%s is complete already", target)
        shutil.rmtree(target / _PROGRESS, ignore_errors=True)
        return target
    for number, job in enumerate(jobs, start=1):
        record = target / _PROGRESS / f"{job.case.identifier}.json"
        if not record.is_file():
            files.write_json(record, _write_case(dataset, job, target, class_list, options))
            logger.info("%d of %d: %s", number, len(jobs), job.case.identifier)
    _finish(dataset, jobs, target, class_list)
    return target


def _annotation_hash(folder: Path) -> str:
    return files.content_hash(*(path for name in ("dataset.json", TABLE) if (path := folder / name).is_file()))


def _require_ours(target: Path) -> None:
    """Refuse a target with content of anybody else, before the source is read."""
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not (target / SETTINGS).is_file():
        raise UsageError(f"{target} exists and was not made by this command. Give the name of a new dataset.")


def _begin(target: Path, settings: Mapping[str, Any]) -> bool:
    """Make the target or check that it was begun with the same settings; whether it is complete."""
    if (target / SETTINGS).is_file():
        there = files.read_json(target / SETTINGS)
        changed = sorted(key for key in {*there, *settings} if there.get(key) != settings.get(key))
        if changed:
            raise UsageError(
                f"{target} was simulated with other settings ({', '.join(changed)} differ; see {SETTINGS} there). "
                "Use the same options to complete it, or another name for the new dataset."
            )
        return (target / "dataset.json").is_file()
    files.write_json(target / SETTINGS, settings)
    return False


def _write_case(
    dataset: RawDataset, job: Job, target: Path, class_list: Sequence[str], options: SimulationOptions
) -> dict[str, list]:
    """Write images and maps of one case; its rows of the two tables."""
    case, ending = job.case, map_ending(dataset)
    require_one_grid(case)
    volume = read_image(case.images)
    reader = sorted(case.vertebra_maps)[0]
    vertebra_map, _ = read_label_map(case.vertebra_maps[reader])
    result = simulate_case(
        volume.array,
        vertebra_map,
        volume.geometry,
        codes=dataset.description.levels,
        sequences=job.sequences,
        channel_names=dataset.description.channel_names,
        class_list=class_list,
        options=options,
        stream=case_stream(options.seed, case.identifier),
    )
    for index, channel in enumerate(result.image):
        path = target / "imagesTr" / f"{case.identifier}_{index:04d}{ending}"
        write_map(path, _stored(channel), volume.source, volume.geometry)
    _copy_maps(case, target, ending, volume)
    path = target / "structuresTr" / f"{case.identifier}{ending}"
    write_map(path, result.outlines, volume.source, volume.geometry)
    return {
        "vertebrae": _table_rows(case, result),
        "lesions": [insert.row(case.identifier) for insert in result.inserts],
    }


def map_ending(dataset: RawDataset) -> str:
    """Ending of the maps of a new dataset: the source's, if it can be written."""
    ending = dataset.description.file_ending
    return ending if ending in _WRITABLE else ".nii.gz"


def _stored(channel: np.ndarray) -> np.ndarray:
    """Whole numbers as such: a scan of whole numbers stays one."""
    low, high = channel.min(), channel.max()
    whole = low >= 0 and high <= _MOST_WHOLE and np.array_equal(channel, np.rint(channel))
    return channel.astype(np.int64) if whole else channel


def _copy_maps(case: Case, target: Path, ending: str, volume: Volume) -> None:
    maps = {**case.vertebra_maps, **({CHANCES: case.chance_map} if case.chance_map else {})}
    for reader, path in maps.items():
        copy = target / "labelsTr" / f"{case.identifier}{'__' + reader if reader else ''}{ending}"
        if path.name.endswith(ending):
            files.write_bytes(copy, path.read_bytes())
        else:
            read = read_chance_map if reader == CHANCES else read_label_map
            write_map(copy, read(path)[0], volume.source, volume.geometry)


def _table_rows(case: Case, result: SimulatedCase) -> list[dict[str, Any]]:
    """Rows of the vertebrae that have a place; where no lesion could be put, the class is not read."""
    rows = []
    for vertebra in case.vertebrae:
        if not (vertebra.in_map or vertebra.centre_lps):
            continue
        cells = (case.identifier, case.patient, case.site, vertebra.level, result.classes.get(vertebra.level, ""))
        row: dict[str, Any] = dict(zip(_TABLE_HEADER, cells, strict=True))
        if vertebra.centre_lps and not vertebra.in_map:
            row |= dict(zip(_POINT, vertebra.centre_lps, strict=True))
        rows.append(row)
    return rows


def _finish(dataset: RawDataset, jobs: Sequence[Job], target: Path, class_list: Sequence[str]) -> None:
    """Write the tables, and dataset.json last, so that its presence means a complete dataset."""
    records = [files.read_json(target / _PROGRESS / f"{job.case.identifier}.json") for job in jobs]
    rows = [row for record in records for row in record["vertebrae"]]
    points = list(_POINT) if any(_POINT[0] in row for row in rows) else []
    files.write_csv(target / TABLE, _TABLE_HEADER + points, rows)
    files.write_csv(target / LESIONS, HEADER, [row for record in records for row in record["lesions"]])
    # By which scores can be told apart; where a case has several channels, it is not of one sequence.
    alone = [{"case": job.case.identifier, "sequence": job.sequences[0]} for job in jobs if len(job.sequences) == 1]
    if alone:
        files.write_csv(target / CASE_TABLE, list(alone[0]), alone)
    _copy_forms(dataset.folder, target, {job.case.identifier for job in jobs})
    unread = sum(not row["class"] for row in rows)
    if unread:
        logger.warning("%d vertebrae are cut off, too small or have no map; their class is left empty", unread)
    for name in class_list:
        if not any(row["class"] == name for row in rows):
            logger.warning("no vertebra is %s; use more cases, another --prevalence or --seed", name)
    description = dataset.description
    content = {
        "name": target.resolve().name,
        "channel_names": {str(index): name for index, name in enumerate(description.channel_names)},
        "classes": {name: index for index, name in enumerate(class_list)},
        "vertebrae": description.levels,
        "structures": {f"{name}_lesion": index for index, name in enumerate(class_list) if index},
        "lesion_structures": {f"{name}_lesion": name for name in class_list[1:]},
        "vertebrae_complete": description.vertebrae_complete,
        "ignore_label": description.ignore_label,
        "file_ending": map_ending(dataset),
        "numTraining": len(jobs),
    }
    if "grade1" in class_list:
        content["class_order"] = True
    content |= {key: text for key in ("reference", "licence") if (text := getattr(description, key))}
    files.write_json(target / "dataset.json", content)
    shutil.rmtree(target / _PROGRESS)


def _copy_forms(source: Path, target: Path, cases: set[str]) -> None:
    """Take over how loose the vertebra maps are; lesion outlines are exact."""
    path = source / "annotationsTr.json"
    if not path.is_file():
        return
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: holds a {type(content).__name__}, expected an object {{...}}.")
    kept = {
        name: {"vertebrae": entry["vertebrae"]}
        for name, entry in content.items()
        if "vertebrae" in entry and name in {"default", *cases}
    }
    files.write_json(target / path.name, kept)
