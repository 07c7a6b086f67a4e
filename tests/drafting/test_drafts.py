"""Drafts of a model in a raw dataset: written as what they are, learned from as loosely, and never a truth."""

import dataclasses

import numpy as np
import pytest

from spinecls import files
from spinecls.dataloading.compiled import vertebra_form
from spinecls.drafting.drafts import FORMS, judged, mark_drafts, recoded, undrawn_cases
from spinecls.errors import DatasetError
from spinecls.io.annotation_forms import read_annotation_forms
from spinecls.io.dataset import load_dataset
from spinecls.records import AnnotationForm, AnnotationForms, Case, ClassReading, VertebraAnnotation, VertebraPrediction

CODES = {"L1": 20, "L2": 21, "L3": 22}
NORMAL = ClassReading(classes=("normal",))


def found(level, probability=0.99, flags=()):
    return VertebraPrediction(
        level=level,
        level_probability=probability,
        runner_up="L4",
        runner_up_probability=0.0,
        centre_lps=(0.0, 0.0, 0.0),
        box_lps=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        score=1.0,
        class_probabilities=(),
        prediction_set=(),
        entropy=0.0,
        visible_fraction=1.0,
        region={},
        flags=flags,
    )


def case(*levels):
    rows = tuple(VertebraAnnotation(level=level, readings=(NORMAL,)) for level in levels)
    return Case(identifier="a", patient="a", images=(), vertebrae=rows)


def test_a_draft_of_probable_names_that_the_table_has_is_sure():
    draft = judged(case("L1", "L2"), [found("L1"), found("L2", 0.95)], (), CODES)
    assert (draft.sure, draft.least_probability, draft.levels, draft.why) == (True, 0.95, ("L1", "L2"), "")


@pytest.mark.parametrize(
    ("levels", "vertebrae", "unlike", "why"),
    [
        ((), [found("L1", 0.8)], (), "names are not certain"),
        ((), [found("L1", flags=("numbering_ambiguous",))], (), "names are not certain"),
        ((), [], (), "nothing was found"),
        (("L1", "L3"), [found("L1")], (), "the table has L3"),
        ((), [found("L1")], ("brighter than any of training",), "brighter than any"),
    ],
)
def test_what_makes_a_draft_unsure_is_said(levels, vertebrae, unlike, why):
    draft = judged(case(*levels), vertebrae, unlike, CODES)
    assert not draft.sure
    assert why in draft.why


def test_a_map_gets_the_codes_of_the_dataset_and_loses_levels_that_it_has_none_for():
    level_map = np.array([[[0, 20, 21, 26]]], np.uint8)
    after = recoded(level_map, {"L1": 20, "L2": 21, "S1": 26}, {"L1": 21, "L2": 20})
    assert after.tolist() == [[[0, 21, 20, 0]]]


def test_what_else_is_said_of_a_case_stays_when_it_is_marked(tmp_path):
    path = tmp_path / FORMS
    files.write_json(path, {"default": {"vertebrae": {"form": "mask"}}, "a": {"structures": {"form": "none"}}})
    mark_drafts(path, {"a": True, "b": False})
    assert files.read_json(path) == {
        "default": {"vertebrae": {"form": "mask"}},
        "a": {"structures": {"form": "none"}, "vertebrae": {"form": "draft", "sure": True}},
        "b": {"vertebrae": {"form": "draft", "sure": False}},
    }


def test_a_form_file_that_is_no_object_is_refused(tmp_path):
    (tmp_path / FORMS).write_text("[]")
    with pytest.raises(DatasetError, match="must hold an object"):
        mark_drafts(tmp_path / FORMS, {"a": True})


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"vertebrae": {"form": "draft", "sure": "yes"}}, "sure is 'yes', expected true or false"),
        ({"structures": {"form": "draft"}}, "is for vertebrae"),
        ({"vertebrae": {"form": "mask", "sure": True}}, "form 'mask' has no option 'sure'"),
    ],
)
def test_what_a_draft_cannot_be_is_told(tmp_path, entry, fault):
    files.write_json(tmp_path / FORMS, {"a": entry})
    _, findings = read_annotation_forms(tmp_path / FORMS, {"a"})
    assert fault in findings[0].text


@pytest.fixture
def raw(write_phantoms):
    return write_phantoms(3)


def marked(raw, name, sure):
    mark_drafts(raw / FORMS, {name: sure})
    return next(one for one in load_dataset(raw).cases if one.identifier == name)


def test_a_sure_draft_gives_places(raw):
    name = load_dataset(raw).cases[0].identifier
    assert all(vertebra.in_map for vertebra in marked(raw, name, True).vertebrae)


def test_an_unsure_draft_gives_none_but_keeps_the_classes(raw):
    before = load_dataset(raw).cases[0]
    after = marked(raw, before.identifier, False)
    assert not any(vertebra.has_position for vertebra in after.vertebrae)
    assert not after.vertebra_maps
    assert [v.readings for v in after.vertebrae] == [v.readings for v in before.vertebrae if v.readings]


def test_a_vertebra_that_a_draft_lacks_is_no_fault_of_the_dataset(raw):
    table = files.read_csv(raw / "vertebraeTr.csv")
    name = table[0]["case"]
    extra = {**table[0], "vertebra": "C3"}
    files.write_csv(raw / "vertebraeTr.csv", list(table[0]), [*table, extra])
    with pytest.raises(DatasetError, match="C3 is in the table, but the map has"):
        load_dataset(raw)
    assert {v.level for v in marked(raw, name, True).vertebrae if not v.has_position} == {"C3"}


def test_cases_without_positions_and_drafts_are_to_be_drawn(raw):
    first, second, third = (one.identifier for one in load_dataset(raw).cases)
    next((raw / "labelsTr").glob(f"{first}.*")).unlink()
    mark_drafts(raw / FORMS, {second: True})
    assert [one.identifier for one in undrawn_cases(raw)[1]] == [first, second]
    assert third not in {one.identifier for one in undrawn_cases(raw)[1]}


def test_a_dataset_without_any_position_is_named_with_the_remedy_and_can_be_drawn(raw):
    for path in (raw / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="spinecls_prelabel -d Dataset001_Phantom"):
        load_dataset(raw)
    assert len(undrawn_cases(raw)[1]) == 3


def test_other_faults_of_a_dataset_are_told_before_anything_is_drawn(raw):
    next((raw / "imagesTr").iterdir()).write_bytes(b"no image")
    with pytest.raises(DatasetError, match="error"):
        undrawn_cases(raw)


def test_beliefs_hold_a_draft_to_be_as_loose_as_a_model_draws():
    @dataclasses.dataclass
    class Stored:
        annotation_form: AnnotationForms

    form = vertebra_form(Stored(AnnotationForms(vertebrae=AnnotationForm(form="draft", sure=True))))
    assert (form.form, form.tolerance_mm) == ("coarse", 2.0)
