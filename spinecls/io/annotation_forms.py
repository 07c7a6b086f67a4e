"""annotationsTr.json: how loosely each case is annotated."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from spinecls.errors import DatasetError
from spinecls.files import read_json
from spinecls.io.findings import Finding, error
from spinecls.records import EXACT, AnnotationForm, AnnotationForms

FORMS: dict[str, tuple[str, ...]] = {
    "mask": (),
    "coarse": ("tolerance_mm",),
    "box": ("slack_mm",),
    "point": ("jitter_mm",),
    "scribble": (),
    "probability": (),
    "slices": ("slices",),
    "draft": ("sure",),
    "none": (),
}
"""Forms of annotation and the options of each."""

PARTLY_DRAWN = ("slices", "scribble")
"""Forms whose maps do not show the whole of what they show."""

DRAFT = "draft"
"""Form of maps that a model drew and nobody looked at: they are learned from as loosely as a model draws, and are no
truth. With `sure` false the model doubts its names, and the map is not used at all."""

CHANCES = "probability"
"""Form whose map of chances lies beside the vertebra maps, as if a reader of this name had drawn it."""

_KINDS = ("vertebrae", "structures")


def read_annotation_forms(path: Path, cases: Collection[str]) -> tuple[dict[str, AnnotationForms], list[Finding]]:
    """Forms of each case, and findings.

    The file holds `{case: {"vertebrae": {"form": ...}, "structures": {...}}}`, and under the name `default` what is not
    said of a case. Without it nothing is said of any: a map is `mask`, a centre `point`, a box `box`.
    """
    untold = dict.fromkeys(cases, AnnotationForms())
    if not path.is_file():
        return untold, []
    try:
        content = read_json(path)
    except DatasetError as fault:
        return untold, [error("801", str(fault))]
    if not isinstance(content, dict):
        return untold, [error("801", f"{path.name} must hold an object {{...}}.")]
    findings: list[Finding] = []
    for case, entry in content.items():
        if case != "default" and case not in cases:
            near = difflib.get_close_matches(case, cases, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            findings.append(error("803", f"{path.name} speaks of a case that does not exist.{hint}", case))
        findings += [error("802", f"{path.name}: {fault}", case) for fault in _entry_faults(entry)]
    if findings:
        return untold, findings
    default = content.get("default", {})
    return {case: _forms({**default, **content.get(case, {})}) for case in cases}, []


def _forms(entry: Mapping[str, Mapping[str, Any]]) -> AnnotationForms:
    """Forms of a faultless entry. Numbers stay as they are written: the hash of what a case is made from holds them."""
    return AnnotationForms(**{kind: _form(form) for kind, form in entry.items()}, order=tuple(entry))


def _form(entry: Mapping[str, Any]) -> AnnotationForm:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return AnnotationForm(**values, order=tuple(entry))


def is_draft(forms: AnnotationForms) -> bool:
    """Whether a model drew the vertebrae of a case, and nobody looked at them yet."""
    return (forms.vertebrae or EXACT).form == DRAFT


def is_unsure_draft(forms: AnnotationForms) -> bool:
    """Whether a model drew the vertebrae and doubts their names."""
    return is_draft(forms) and forms.vertebrae is not None and forms.vertebrae.sure is False


def plain_forms(forms: AnnotationForms) -> dict[str, dict[str, Any]]:
    """Entry of annotationsTr.json that says the same; what nobody said is left out."""
    return {kind: _told(form) for kind, form in _told(forms).items()}


def _told(part: AnnotationForm | AnnotationForms) -> dict[str, Any]:
    """What is said, by its key, in the order in which it was said; what was not read from a file comes last."""
    said = {key: value for key, value in vars(part).items() if key != "order" and value is not None}
    return {key: said[key] for key in sorted(said, key=lambda key: (*part.order, *said).index(key))}


def _entry_faults(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return [f"{entry!r} must be an object with 'vertebrae' or 'structures'."]
    faults = []
    for kind, form in entry.items():
        if kind not in _KINDS:
            faults.append(f"{kind!r} is unknown, expected 'vertebrae' or 'structures'.")
        elif not isinstance(form, dict) or "form" not in form:
            faults.append(f'{kind} is {form!r}, expected an object such as {{"form": "mask"}}.')
        elif form["form"] not in FORMS:
            faults.append(f"{kind}: form {form['form']!r} is unknown, expected one of {', '.join(FORMS)}.")
        elif kind == "structures" and form["form"] == DRAFT:
            faults.append(f"{kind}: form {DRAFT!r} is for vertebrae, which spinecls_prelabel draws.")
        elif kind == "structures" and form["form"] == CHANCES:
            faults.append(f"{kind}: form {CHANCES!r} is for vertebrae; chances do not tell structures apart.")
        else:
            faults += [f"{kind}: {fault}" for fault in _option_faults(form)]
    return faults


def _option_faults(form: Mapping[str, Any]) -> list[str]:
    name, faults = form["form"], []
    allowed = FORMS[name]
    for key, value in form.items():
        if key == "form":
            continue
        if key not in allowed:
            faults.append(f"form {name!r} has no option {key!r} (it has {', '.join(allowed) or 'none'}).")
        elif key.endswith("_mm") and not (_is_number(value) and 0 <= value < 1000):
            faults.append(f"{key} is {value!r}, expected millimetres of 0 or more.")
        elif key == "sure" and not isinstance(value, bool):
            faults.append(f"sure is {value!r}, expected true or false.")
        elif key == "slices" and not (isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)):
            faults.append(f"slices is {value!r}, expected a list of slice numbers.")
    if name == "coarse" and "tolerance_mm" not in form:
        faults.append("form 'coarse' needs tolerance_mm.")
    return faults


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
