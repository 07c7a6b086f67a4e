"""Plain data become dataclasses, or are refused with the place of the fault."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from spinecls import files
from spinecls.errors import DatasetError, PlanError
from spinecls.plain import from_plain


@dataclass(frozen=True, kw_only=True)
class Part:
    size_mm: tuple[float, float]
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    checked: bool = False
    parts: Mapping[str, Part]
    words: tuple[str, ...] = ()
    first: Part | None = None


PLAIN = {
    "name": "a",
    "checked": True,
    "parts": {"left": {"size_mm": [1.5, 2.5], "count": 3}},
    "words": ["x", "y", "z"],
    "first": {"size_mm": [0.0, 1.0], "count": 1},
}


def test_dataclasses_survive_json():
    made = from_plain(Whole, PLAIN, "")
    assert from_plain(Whole, files.plain(dataclasses.asdict(made)), "") == made
    assert files.plain(dataclasses.asdict(made)) == PLAIN


def test_what_is_not_given_has_its_default():
    made = from_plain(Whole, {"name": "a", "parts": {}}, "")
    assert made == Whole(name="a", parts={})


def test_whole_numbers_serve_as_floats():
    (size, _) = from_plain(Part, {"size_mm": [1, 2]}, "").size_mm
    assert isinstance(size, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "f.json.name: expected str, got 3."),
        ({"checked": "no"}, "f.json.checked: expected bool, got 'no'."),
        ({"words": "xyz"}, "f.json.words: expected a list, got 'xyz'."),
        ({"words": ["x", None]}, "f.json.words[1]: expected str, got None."),
        ({"parts": []}, "f.json.parts: expected an object, got []."),
        ({"parts": {"left": 5}}, "f.json.parts.left: expected an object, got 5."),
        ({"parts": {"left": {"size_mm": [1.0]}}}, "f.json.parts.left.size_mm: expected 2 values, got 1."),
        ({"parts": {"left": {"size_mm": [1.0, "2"]}}}, "f.json.parts.left.size_mm[1]: expected float, got '2'."),
        ({"parts": {"left": {"size_mm": [1.0, True]}}}, "f.json.parts.left.size_mm[1]: expected float, got True."),
        ({"first": {"size_mm": [1.0, 2.0], "count": True}}, "f.json.first.count: expected int, got True."),
        ({"first": {"count": 1}}, "f.json.first: key 'size_mm' is missing."),
        ({"hook": 1}, "f.json: unknown key 'hook'. Known: name, checked, parts, words, first."),
    ],
)
def test_a_fault_is_refused_with_its_place(change, message):
    with pytest.raises(PlanError) as caught:
        from_plain(Whole, PLAIN | change, "f.json")
    assert str(caught.value) == message


def test_the_error_is_of_the_kind_that_was_asked_for():
    with pytest.raises(DatasetError):
        from_plain(Whole, [], "f.json", DatasetError)
