"""A raw dataset from its parts: description, files, table, and what was found in the files of each case."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls.anatomy import RANK
from spinecls.errors import UsageError
from spinecls.io.annotation_forms import CHANCES, is_draft, is_unsure_draft, read_annotation_forms
from spinecls.io.case_facts import CaseFacts, CaseFiles, Inspect
from spinecls.io.dataset_description import parse_description
from spinecls.io.dataset_files import empty_folder_finding, find_images, find_maps
from spinecls.io.dataset_tables import Table, TableVertebra, read_table
from spinecls.io.findings import DatasetFaults, Finding, error, warning
from spinecls.io.inventory import inventory
from spinecls.io.name_checks import name_findings
from spinecls.io.position_checks import box_findings, position_findings
from spinecls.io.position_readings import PlacedCase
from spinecls.io.table_text import missing_table_text
from spinecls.records import EXACT, AnnotationForms, Case, DatasetDescription, RawDataset, VertebraAnnotation

SPLITS = ("Tr", "Ts")
_FOLDS = 5
_CASES_TO_POINT_AT = 10


def require_faultless(folder: Path, split: str, inspect: Inspect) -> RawDataset:
    """Raw dataset that passed its checks, see `assemble`.

    Raises
    ------
    DatasetFaults
        With every error of the dataset at once.
    """
    dataset, findings, _ = survey(folder, split, inspect)
    errors = [finding for finding in findings if finding.is_error]
    if dataset is None or errors:
        raise DatasetFaults(folder, errors)
    return dataset


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What the folder, the table and the files say, before it is joined."""

    folder: Path
    split: str
    description: DatasetDescription
    table: Table
    files: Mapping[str, CaseFiles]
    facts: Mapping[str, CaseFacts]
    forms: Mapping[str, AnnotationForms]


def assemble(folder: Path, split: str, inspect: Inspect) -> tuple[RawDataset | None, list[Finding]]:
    """The dataset and all findings, see `survey`."""
    return survey(folder, split, inspect)[:2]


def survey(folder: Path, split: str, inspect: Inspect) -> tuple[RawDataset | None, list[Finding], dict]:
    """The dataset (None without a usable dataset.json), all findings, and what was understood of it, see `inventory`.

    Parameters
    ----------
    split : "Tr" for imagesTr, labelsTr, structuresTr, vertebraeTr.csv; "Ts" for the same with Ts
    inspect : judges the files of cases
    """
    if split not in SPLITS:
        raise UsageError(f"split is {split!r}, expected one of {', '.join(SPLITS)}.")
    if not folder.is_dir():
        return None, [error("101", f"{folder} is no folder. Give the folder that holds dataset.json.")], {}
    description, count, findings = parse_description(folder / "dataset.json")
    if description is None:
        return None, findings, {}
    files, names = _find_cases(folder, description, split, findings)
    table = _find_table(folder / f"vertebrae{split}.csv", description, names, split, findings)
    forms, form_findings = read_annotation_forms(folder / f"annotations{split}.json", names)
    findings += form_findings
    # A draft whose names are doubted is there to be corrected; until then it is as if nobody had drawn.
    files = {
        name: dataclasses.replace(one, vertebra_maps={}) if is_unsure_draft(forms[name]) else one
        for name, one in files.items()
    }
    facts = inspect(list(files.values()), description)
    for name in files:
        findings += facts[name].findings
    downward = [facts[name] for name in files if not any(f.code == "E605" for f in facts[name].findings)]
    findings += name_findings(downward, description.levels)
    parts = _Parts(
        folder=folder, split=split, description=description, table=table, files=files, facts=facts, forms=forms
    )
    cases, unlabelled = _joined_cases(parts, findings)
    findings += _position_findings(parts)
    findings += _dataset_findings(parts, cases, count)
    warnings = tuple(finding.line for finding in findings if not finding.is_error)
    dataset = RawDataset(folder=folder, description=description, cases=cases, unlabelled=unlabelled, warnings=warnings)
    return dataset, findings, inventory(folder, description, cases, unlabelled, facts, table)


def _find_table(path: Path, description: DatasetDescription, names: set[str], split: str, findings) -> Table:
    if path.is_file():
        table = read_table(path, description, names)
        findings += table.findings
        return table
    if description.class_names and split == "Tr":
        text = f"{path.name} is missing, but dataset.json declares classes. {missing_table_text(path)}"
        findings.append(error("701", text))
    return Table(vertebrae={}, patients={}, sites={}, findings=())


def _find_cases(
    folder: Path, description: DatasetDescription, split: str, findings: list[Finding]
) -> tuple[dict[str, CaseFiles], set[str]]:
    """Files of every usable case, those of imagesUn included, and the names of all cases that have any image.

    The names serve to tell an annotation of a faulty case, whose fault is told already, from one of no case.
    """
    image_folder = folder / f"images{split}"
    images = find_images(image_folder, description)
    findings += images.findings
    if not images.names:
        findings.append(empty_folder_finding(image_folder))
    names = set(images.names)
    maps = find_maps(folder / f"labels{split}", description, names, readers=True)
    structures = find_maps(folder / f"structures{split}", description, names, readers=False)
    findings += [*maps.findings, *structures.findings]
    if any(structures.cases.values()) and not description.structures:
        text = f"structures{split} holds maps, but dataset.json names no structures. Add their codes."
        findings.append(error("106", text))
    files = {
        case: CaseFiles(
            identifier=case,
            images=paths,
            vertebra_maps={r: path for r, path in maps.cases.get(case, {}).items() if r != CHANCES},
            chance_map=maps.cases.get(case, {}).get(CHANCES),
            structure_map=structures.cases.get(case, {}).get(""),
        )
        for case, paths in images.cases.items()
    }
    if split == "Tr":
        extra = find_images(folder / "imagesUn", description)
        findings += extra.findings
        for case, paths in extra.cases.items():
            if case in files:
                findings.append(error("204", "the case lies in imagesTr and imagesUn. Keep one.", case))
            else:
                files[case] = CaseFiles(identifier=case, images=paths)
        names |= extra.names
    return files, names


def _joined_cases(parts: _Parts, findings: list[Finding]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Annotated and unlabelled cases in the order of their identifiers."""
    annotated: list[Case] = []
    unlabelled: list[Case] = []
    for identifier in sorted(parts.files):
        files, facts = parts.files[identifier], parts.facts[identifier]
        rows = parts.table.vertebrae.get(identifier, {})
        levels = sorted({*rows, *facts.centres_lps}, key=RANK.__getitem__)
        forms = parts.forms.get(identifier, AnnotationForms())
        if is_unsure_draft(forms):
            forms = dataclasses.replace(forms, vertebrae=None)
        case = Case(
            identifier=identifier,
            patient=parts.table.patients.get(identifier, identifier),
            images=files.images,
            site=parts.table.sites.get(identifier, ""),
            vertebra_maps=files.vertebra_maps,
            chance_map=files.chance_map,
            structure_map=files.structure_map,
            vertebrae=tuple(
                _annotation(level, rows.get(level), files, facts, is_draft(forms), findings) for level in levels
            ),
            annotation_form=forms,
        )
        findings += _chance_findings(case, parts)
        labelled = rows or files.vertebra_maps or files.chance_map or files.structure_map
        (annotated if labelled else unlabelled).append(case)
    return tuple(annotated), tuple(unlabelled)


def _chance_findings(case: Case, parts: _Parts) -> list[Finding]:
    """Faults of a map of chances and the form that speaks of it."""
    told = (case.annotation_form.vertebrae or EXACT).form == CHANCES
    labels, name, forms = f"labels{parts.split}", case.identifier, f"annotations{parts.split}.json"
    ending = parts.description.file_ending
    if case.chance_map is None:
        text = f"{forms} says form {CHANCES!r}, but {labels}/{name}__{CHANCES}{ending} is missing. Add it (chance of "
        text += "each voxel to be vertebra, 0 to 1), or give the case another form."
        return [error("804", text, name)] if told and case.vertebrae else []
    if not told:
        text = f"{labels}/{case.chance_map.name} is not used: {forms} does not say form {CHANCES!r} of the case"
        return [warning("804", text, name)]
    if not any(vertebra.has_position for vertebra in case.vertebrae) and parts.facts[name].faultless:
        text = f"{labels}/{case.chance_map.name} does not say which vertebrae it shows. Draw the levels in {labels}/"
        return [error("804", text + f"{name}{ending}, or point at them in the table.", name)]
    return []


def _annotation(
    level: str, row: TableVertebra | None, files: CaseFiles, facts: CaseFacts, draft: bool, findings: list[Finding]
):
    in_map = level in facts.centres_lps
    if row is None:
        return VertebraAnnotation(level=level, in_map=in_map)
    case = files.identifier
    placed_by_row = row.centre_lps is not None or row.box_lps is not None
    if files.vertebra_maps and not in_map and not placed_by_row and facts.faultless and not draft:
        there = ", ".join(sorted(facts.centres_lps, key=RANK.__getitem__)) or "none"
        text = f"{level} is in the table, but the map has {there}. Draw it, give x_mm, y_mm, z_mm, or remove the row."
        findings.append(error("711", text, case))
    return VertebraAnnotation(
        level=level, centre_lps=row.centre_lps, box_lps=row.box_lps, in_map=in_map, readings=row.readings
    )


def _position_findings(parts: _Parts) -> list[Finding]:
    """Faults of the points and boxes of all cases."""
    findings: list[Finding] = []
    placed: dict[str, list[PlacedCase]] = {"point": [], "box centre": []}
    for case, rows in sorted(parts.table.vertebrae.items()):
        facts = parts.facts.get(case)
        if facts is None or facts.geometry is None:
            continue
        boxes = {level: row.box_lps for level, row in rows.items() if row.box_lps}
        points = {level: row.centre_lps for level, row in rows.items() if row.centre_lps}
        middles = {level: tuple(np.mean(box, axis=0).tolist()) for level, box in boxes.items()}
        for kind, positions in (("point", points), ("box centre", middles)):
            if positions:
                item = PlacedCase(
                    case=case, kind=kind, positions=positions, geometry=facts.geometry, orientation=facts.orientation,
                    in_map=facts.centres_lps,
                )  # fmt: skip
                placed[kind].append(item)
        slack_mm = (parts.forms.get(case, AnnotationForms()).vertebrae or EXACT).slack_mm or 0
        findings += box_findings(case, boxes, {**middles, **facts.centres_lps, **points}, loose=slack_mm > 0)
    return findings + position_findings(placed["point"]) + position_findings(placed["box centre"])


def _dataset_findings(parts: _Parts, cases: Sequence[Case], count: int | None) -> list[Finding]:
    """Faults that only all cases together show."""
    findings = []
    images = sum(files.images[0].parent.name == f"images{parts.split}" for files in parts.files.values())
    if count is not None and parts.split == "Tr" and count != images:
        findings.append(warning("109", f"numTraining is {count}, found {images} cases; {images} are used"))
    orientations = Counter(facts.orientation for facts in parts.facts.values() if facts.orientation)
    if len(orientations) > 1:
        listed = ", ".join(f"{number} {name}" for name, number in orientations.most_common())
        findings.append(warning("416", f"the files run along different axes ({listed}); all are turned to one order"))
    findings += _copy_findings(parts)
    if parts.split == "Tr" and parts.files:
        if not cases:
            text = "no case has a map or a row in the table. Add labelsTr or vertebraeTr.csv."
            findings.append(error("111", text))
        elif not any(v.has_position for case in cases for v in case.vertebrae):
            text = "no vertebra of any case has a position, so nothing can learn to find them. Run spinecls_prelabel "
            text += f"-d {parts.folder.name}, which drafts maps of lumbar scans; or give x_mm, y_mm, z_mm (centre of "
            text += f"each vertebra, LPS mm) in the table for about {_CASES_TO_POINT_AT} cases, or maps."
            findings.append(error("719", text))
        if parts.table.vertebrae and not any(finding.is_error for finding in parts.table.findings):
            findings += _class_findings(parts.description.class_names, cases)
    return findings


def _copy_findings(parts: _Parts) -> list[Finding]:
    """The same voxels under two names."""
    findings = []
    first: dict[str, str] = {}
    for identifier, facts in sorted(parts.facts.items()):
        for digest in facts.image_hash:
            other = first.setdefault(digest, identifier)
            patients = {parts.table.patients.get(name, name) for name in (other, identifier)}
            if other != identifier and len(patients) > 1:
                text = f"has the same voxels as {other}, but another patient ({' and '.join(sorted(patients))})."
                findings.append(error("505", text + " Remove one, or give both one patient.", identifier))
            elif other != identifier:
                findings.append(warning("506", f"has the same voxels as {other}", identifier))
    return findings


def _class_findings(names: Sequence[str], cases: Sequence[Case]) -> list[Finding]:
    """Classes that are never or hardly read."""
    if not names:
        return []
    patients: dict[str, set[str]] = {name: set() for name in names}
    unread = 0
    for case in cases:
        for vertebra in case.vertebrae:
            exact = {reading.classes[0] for reading in vertebra.readings if len(reading.classes) == 1}
            unread += not vertebra.readings
            for name in exact:
                patients[name].add(case.patient)
    seen = [name for name in names if patients[name]]
    if len(seen) < 2:
        text = f"of the classes {', '.join(names)} only {', '.join(seen) or 'none'} is ever read. Expected two or more."
        return [error("716", text)]
    findings = [warning("716", f"class {name!r} is never read") for name in names if not patients[name]]
    for name in seen:
        if len(patients[name]) < _FOLDS:
            text = f"class {name!r} has {len(patients[name])} patients; {_FOLDS} folds cannot each have one"
            findings.append(warning("717", text))
    if unread:
        findings.append(warning("718", f"{unread} vertebrae have no class; they count as not read"))
    return findings
