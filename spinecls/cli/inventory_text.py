"""The inventory of a raw dataset as a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping

_MOST_LISTED = 6


def inventory_text(inventory: Mapping) -> list[str]:
    """Lines that show what was understood; none when dataset.json could not be read."""
    if not inventory:
        return []
    lines = [
        f"  {inventory['annotated_cases']} annotated cases of {inventory['patients']} patients with "
        f"{inventory['vertebrae']} vertebrae, {inventory['unannotated_cases']} without annotation"
    ]
    lines += [f"  {name}: {_listed(inventory[name])}" for name in ("sites", "sequences", "grids") if inventory[name]]
    if inventory["levels"]:
        lines.append("  level  code  vertebrae  in maps  points  boxes  no place   voxels  height")
    for level, item in inventory["levels"].items():
        size = f"{item['voxels']:>9.0f}{item['height_mm']:>5.0f} mm" if item["in_map"] else ""
        lines.append(
            f"  {level:<5}{item['code']:>6}{item['vertebrae']:>11}{item['in_map']:>9}{item['point']:>8}{item['box']:>7}"
            f"{item['no_position']:>10}{size}"
        )
    if pitch := inventory["pitch"]:
        text = f"  neighbours lie {pitch['of_adults']:g} times as far apart as in adults (median of {pitch['cases']})"
        lines.append(text + (f"; as {pitch['like']} vertebrae: are the names right?" if pitch["like"] else ""))
    for name, item in inventory["classes"].items():
        lines.append(f"  class {name}: {item['vertebrae']} vertebrae of {item['patients']} patients")
    if inventory["classes"] and inventory["not_read"]:
        lines.append(f"  not read: {_listed({repr(text): count for text, count in inventory['not_read'].items()})}")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:_MOST_LISTED]]
    return ", ".join(shown) + (f", {len(counts) - _MOST_LISTED} more" if len(counts) > _MOST_LISTED else "")
