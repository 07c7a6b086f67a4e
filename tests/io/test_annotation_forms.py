"""Forms of annotation between annotationsTr.json and their type."""

import json

import pytest

from spinecls.io.annotation_forms import plain_forms, read_annotation_forms
from spinecls.records import AnnotationForm, AnnotationForms

BOXES = {"vertebrae": {"form": "box", "slack_mm": 2}, "structures": {"form": "none"}}
SLICES = {"vertebrae": {"form": "slices", "slices": [3, 5]}}


def read(folder, content):
    path = folder / "annotationsTr.json"
    path.write_text(json.dumps(content))
    forms, findings = read_annotation_forms(path, ["a"])
    assert findings == []
    return forms["a"]


def test_options_are_those_of_the_file(tmp_path):
    assert read(tmp_path, {"a": SLICES}).vertebrae == AnnotationForm(form="slices", slices=(3, 5))


def test_what_nobody_said_is_none(tmp_path):
    assert read(tmp_path, {"a": SLICES}).structures is None
    assert read(tmp_path, {}) == AnnotationForms()


def test_without_a_file_nothing_is_said(tmp_path):
    assert read_annotation_forms(tmp_path / "annotationsTr.json", ["a"]) == ({"a": AnnotationForms()}, [])


TURNED = {"structures": {"tolerance_mm": 3, "form": "coarse"}, "vertebrae": {"form": "mask"}}


@pytest.mark.parametrize("entry", [{}, BOXES, SLICES, TURNED])
def test_forms_go_back_to_the_entry_that_they_came_from(entry, tmp_path):
    # As text: 2 and 2.0 would give a case another hash, and another order another file.
    assert json.dumps(plain_forms(read(tmp_path, {"a": entry}))) == json.dumps(entry)
