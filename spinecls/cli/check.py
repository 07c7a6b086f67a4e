"""spinecls_check: is a raw dataset fit for training?"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from spinecls.cli.common import MOST_PROCESSES
from spinecls.cli.inventory_text import inventory_text
from spinecls.errors import CheckFailed
from spinecls.paths import raw_dataset_folder

if TYPE_CHECKING:
    from pathlib import Path

    from spinecls.io.findings import Report

_CASES_SHOWN = 4
_TEXTS_SHOWN = 4
_MOST_PROCESSES = 8


def check(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Number, full name or folder of a raw dataset.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    no_voxels: Annotated[bool, typer.Option("--no_voxels", help="Headers and tables only, not the voxels.")] = False,
    with_finder: Annotated[
        bool, typer.Option("--with_finder", help="Compare names with what the finder that comes with spinecls sees.")
    ] = False,
    num_processes: Annotated[
        int, typer.Option("-np", min=0, max=MOST_PROCESSES, help="Processes; 0 = one a core.")
    ] = 0,
) -> None:
    """Find everything that is wrong with a raw dataset, and change nothing."""
    from spinecls.io.dataset import check_dataset

    folder = raw_dataset_folder(dataset)
    processes = num_processes or min(_MOST_PROCESSES, os.cpu_count() or 1)
    report = check_dataset(folder, verify_voxels=not no_voxels, num_processes=processes)
    if with_finder:
        report = _seen_again(report, folder)
    print(json.dumps(report.as_dict(), indent=1) if json_output else report_text(report))
    if report.errors:
        raise CheckFailed(f"{folder}: {_count(len(report.errors), 'error')}.")


def _seen_again(report: Report, folder: Path) -> Report:
    """The report with what the finder calls otherwise."""
    import dataclasses

    from spinecls.drafting.predictors import predictors
    from spinecls.drafting.second_look import second_look

    with predictors(folder.name, None, None) as predictor_of:
        findings = second_look(folder, predictor_of(""))
    return dataclasses.replace(report, findings=(*report.findings, *findings))


def report_text(report: Report) -> str:
    """The report as a page of text: what was understood, then one block a code, errors first."""
    from spinecls.io.findings import grouped

    tests = f", {_count(len(report.test_cases), 'test case')}" if report.test_cases else ""
    lines = [f"{report.folder}: {_count(len(report.cases), 'case')}{tests}", *inventory_text(report.inventory)]
    for heading, findings in (("error", report.errors), ("warning", report.warnings)):
        lines += ["", _count(len(findings), heading)]
        for code, group in grouped(findings).items():
            cases = list(dict.fromkeys(finding.case for finding in group if finding.case))
            shown = ", ".join(cases[:_CASES_SHOWN]) + (" ..." if len(cases) > _CASES_SHOWN else "")
            lines.append(f"  {code}  {len(group):>4}  {group[0].title}{'  [' + shown + ']' if shown else ''}")
            for finding in group[:_TEXTS_SHOWN]:
                lines.append(f"              {finding.case + ': ' if finding.case else ''}{finding.text}")
            if len(group) > _TEXTS_SHOWN:
                lines.append(f"              and {len(group) - _TEXTS_SHOWN} more; --json lists all")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
