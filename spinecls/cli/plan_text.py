"""A plan as text: an overview, the table of every number with its reason, and what preprocessing would take."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from spinecls.errors import counted
from spinecls.planning.effort import Effort
from spinecls.planning.plan import Plan
from spinecls.planning.planner import explain

_VALUE_WIDTH = 24
_LEAST_REASON_WIDTH = 40


def overview_text(plan: Plan) -> str:
    """One line a configuration, and what the planner warns of."""
    lines = []
    for configuration in plan.configurations.values():
        spacing = " x ".join(f"{s:g}" for s in configuration.spacing_mm)
        patch = " x ".join(map(str, configuration.patch_size))
        steps = f"{configuration.steps} steps"
        if configuration.members:
            steps += f", {configuration.members} x {configuration.reader_steps} of readers"
        lines.append(
            f"{configuration.name}: spacing {spacing} mm, patch {patch}, {steps}, "
            f"about {configuration.estimated_minutes:.0f} min a fold, {configuration.estimated_memory_gb:.1f} GB"
        )
    for key, _, reason in explain(plan):
        lines += [f"Warning, {key}: {told}" for told in reason.split("Warning: ")[1:]]
    return "\n".join(lines)


def explained_text(plan: Plan, width: int | None = None) -> str:
    """Tables of everything that was decided: first what holds for the dataset, then each configuration.

    Parameters
    ----------
    width : columns of text [default: those of the terminal]
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    sections: dict[str, list[tuple[str, str, str]]] = {}
    for key, value, reason in explain(plan):
        name, _, rest = key.partition(".")
        sections.setdefault(name if rest else plan.dataset_name, []).append((rest or name, value, reason))
    return "\n\n".join(f"{name}\n{_table(rows, width)}" for name, rows in sections.items())


def _table(rows: list[tuple[str, str, str]], width: int) -> str:
    rows = [("what", "value", "why"), *rows]
    first = max(len(key) for key, _, _ in rows)
    second = min(_VALUE_WIDTH, max(len(value) for _, value, _ in rows))
    third = max(_LEAST_REASON_WIDTH, width - first - second - 4)
    rule = "  ".join("-" * n for n in (first, second, third))
    lines = [rule]
    for number, (key, value, reason) in enumerate(rows):
        said = textwrap.wrap(reason, third, break_on_hyphens=False)
        cells = ([key], textwrap.wrap(value, second) or [""], said or [""])
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            lines.append(f"{parts[0]:<{first}}  {parts[1]:<{second}}  {parts[2]}".rstrip())
        lines += [rule] if number == 0 else []
    return "\n".join([*lines, rule])


def effort_text(effort: Effort, num_cases: int, folder: Path) -> str:
    """What preprocessing would take."""
    if not effort.cases:
        return f"Nothing to preprocess: {counted(num_cases, 'case')}, up to date."
    there = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    return (
        f"Would preprocess {effort.cases} of {counted(num_cases, 'case')}: about {effort.seconds:.0f} s and "
        f"{effort.gigabytes:.2f} GB in {folder} ({free:.0f} GB free)."
    )
