"""Beliefs and bags of training cases."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from spinecls.beliefs.bags import bag_map
from spinecls.beliefs.looseness import DrawnVertebra, Shapes, measured_slack_mm, shapes_of
from spinecls.beliefs.voxel import mean_beliefs
from spinecls.dataloading import alignment
from spinecls.dataloading.body_shapes import Body, extents_by_pitch_mm
from spinecls.dataloading.cases import UNKNOWN, TrainingCase
from spinecls.dataloading.forms import (
    CompiledMap,
    MarkedVertebra,
    bodies_of,
    compile_chances,
    compile_structures,
    compile_vertebrae,
)
from spinecls.dataloading.placed import PlacedVertebra, placed, placed_vertebrae
from spinecls.errors import DatasetError
from spinecls.io.annotation_forms import CHANCES, is_draft
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.io.preprocessed_records import PreparedVertebra
from spinecls.planning.plan import Plan
from spinecls.records import EXACT, AnnotationForm

logger = logging.getLogger(__name__)


DRAFT_ERROR_MM = 2.0
"""How far the outline of a vertebra that a model drew may be off: nine in ten voxels of its border are not further
(`benchmarks/outline_errors.py`)."""


class AnnotationCompiler:
    """Compiles cases as loosely as they are annotated.

    What is drawn exactly in the training cases is the measure of what is not: see `beliefs.looseness`.

    Parameters
    ----------
    cases : the training cases, gone through several times
    """

    def __init__(self, cases: Iterable[PreprocessedCase], plan: Plan) -> None:
        if iter(cases) is cases:
            raise TypeError("Cases are gone through several times: give a list, or what reads them anew, no generator.")
        self.plan = plan
        drawn, boxed, loose = [], [], set()
        for case in cases:
            loose |= {case.identifier} if _can_move(case) else set()
            form = vertebra_form(case)
            if form.form == EXACT.form and case.vertebra_map is not None:
                drawn += _drawn_vertebrae(case, plan)
            if form.form == "box" and form.slack_mm is None:
                boxed += [(v.level, _edges_mm(v.box_lps, case)) for v in _boxed(case)]
        self.shapes: Shapes = shapes_of(drawn)
        self.slack_mm = measured_slack_mm(boxed, self.shapes)
        self._aligned_bodies: Mapping[str, list[Body]] = {}
        if loose:
            logger.info("Laying pointed, boxed and scribbled vertebrae of %d scans over each other.", len(loose))
            seen = dict(self._surroundings(case) for case in cases if case.identifier in loose)
            self._aligned_bodies = alignment.aligned(seen)
            logger.info("Those of %d scans are placed as their surroundings tell.", len(self._aligned_bodies))

    @property
    def moved(self) -> list[str]:
        """Cases whose vertebrae were moved, see `placed`."""
        return sorted(self._aligned_bodies)

    def placed(self, case: PreprocessedCase) -> PreprocessedCase:
        """A loosely annotated case with the bodies of its vertebrae, which lie where their surroundings show them.

        See `dataloading.alignment`; cases with too few to compare are left as they are. Centres move as bodies do: a
        centre beside a box may be elsewhere than in its middle.
        """
        if case.identifier not in self._aligned_bodies:
            return case
        annotated = self._bodies(case, placed_vertebrae(case))
        moved = zip(annotated, self._aligned_bodies[case.identifier], strict=True)
        vertebrae = []
        for vertebra in case.vertebrae:
            if vertebra.centre_lps is not None:
                old, new = next(moved)
                centre = np.asarray(vertebra.centre_lps, float) + new.centre_lps - old.centre_lps
                vertebra = placed(vertebra, centre_lps=tuple(centre.tolist()), body=new)
            vertebrae.append(vertebra)
        return dataclasses.replace(case, vertebrae=tuple(vertebrae))

    def _surroundings(self, case: PreprocessedCase) -> tuple[str, alignment.Surroundings]:
        vertebrae = placed_vertebrae(case)
        boxed = [vertebra_form(case).form == "box" and v.box_lps is not None for v in vertebrae]
        levels = [v.level for v in vertebrae]
        bodies = self._bodies(case, vertebrae)
        return case.identifier, alignment.surroundings(case.image, case.geometry, bodies, levels, boxed)

    def _bodies(self, case: PreprocessedCase, vertebrae: Sequence[PlacedVertebra]) -> list[Body]:
        known = [v.body for v in vertebrae if v.body is not None]
        if len(known) == len(vertebrae):
            return known
        centres_lps = np.array([v.centre_lps for v in vertebrae], float)
        return bodies_of(
            case.geometry,
            centres_lps,
            extents_by_pitch_mm(self.plan, [v.level for v in vertebrae], centres_lps),
            [v.box_lps for v in vertebrae],
            vertebra_form(case),
            self.slack_mm,
            self.shapes.usual_fill_of_extent,
        )

    def __call__(self, case: PreprocessedCase, trained: TrainingCase) -> TrainingCase:
        """The training case with what its annotation says of every voxel."""
        compiled = {"vertebra_map": self._vertebrae(case, trained)}
        if self.plan.structures:
            drawn = np.full(case.geometry.shape, UNKNOWN) if trained.structures is None else trained.structures
            index = np.full(256, UNKNOWN, np.uint8)
            index[0] = 0
            index[list(self.plan.structures.values())] = np.arange(len(self.plan.structures)) + 1
            compiled["structures"] = compile_structures(
                index[drawn],
                case.annotation_form.structures or EXACT,
                1 + len(self.plan.structures),
                UNKNOWN,
                case.geometry.spacing_mm,
            )
        return dataclasses.replace(trained, compiled=compiled)

    def _vertebrae(self, case: PreprocessedCase, trained: TrainingCase) -> CompiledMap:
        vertebrae = placed_vertebrae(case)
        hard = trained.vertebra_map
        marked = [
            MarkedVertebra(body, vertebra.box_lps, None if hard is None else hard == row + 1)
            for row, (vertebra, body) in enumerate(zip(vertebrae, self._bodies(case, vertebrae), strict=True))
        ]
        form = vertebra_form(case)
        if hard is not None and case.reader_maps is not None and form.form == EXACT.form:
            # Where the combined map leaves background open, a vertebra is pointed at, or further ones may be.
            drawn = [self._binary(labels, hard == UNKNOWN) for labels in case.reader_maps]
            return CompiledMap(mean_beliefs(drawn, 2), bag_map([], case.geometry.shape, 2))
        background = np.zeros(case.geometry.shape, bool) if hard is None else hard == 0
        if form.form == CHANCES and not case.vertebrae and case.chance_percent is None:
            # The form of a whole dataset says nothing of a case that has no vertebrae.
            form = AnnotationForm(form="none")
        if form.form == CHANCES:
            return compile_chances(self._chances(case), trained.unknown)
        return compile_vertebrae(case.geometry, marked, form, background, trained.unknown, self.shapes, self.slack_mm)

    def _chances(self, case: PreprocessedCase) -> np.ndarray:
        """(S, R, A) chances in 0..1 to be vertebra; none where the level map says that nothing is known."""
        if case.chance_percent is None:
            raise DatasetError(
                f"Case {case.identifier}: its form is 'probability', but no map of chances was preprocessed. Add "
                f"labelsTr/{case.identifier}__probability and run spinecls_plan_and_preprocess again."
            )
        chances = case.chance_percent.astype(np.float32) / 100
        return chances if case.vertebra_map is None else chances * (case.vertebra_map != self.plan.ignore_label)

    def _binary(self, labels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """One reader's map as background, vertebra or `UNKNOWN`."""
        open_there = (labels == self.plan.ignore_label) | ((labels == 0) & unknown)
        return np.where(open_there, UNKNOWN, labels > 0)


def vertebra_form(case: PreprocessedCase) -> AnnotationForm:
    """How loosely vertebrae are annotated; where nobody said it, maps are exact, then there are boxes, then points."""
    if is_draft(case.annotation_form):
        return AnnotationForm(form="coarse", tolerance_mm=DRAFT_ERROR_MM)
    if case.annotation_form.vertebrae is not None:
        return case.annotation_form.vertebrae
    if case.vertebra_map is not None:
        return EXACT
    if _boxed(case):
        return AnnotationForm(form="box")
    return AnnotationForm(form="point" if any(v.centre_lps is not None for v in case.vertebrae) else "none")


def _can_move(case: PreprocessedCase) -> bool:
    """Whether the case has vertebrae whose place is annotated, but not all of their voxels."""
    return vertebra_form(case).form in ("point", "box", "scribble") and bool(placed_vertebrae(case))


def _boxed(case: PreprocessedCase) -> list[PreparedVertebra]:
    """Vertebrae with a box of their own and nothing in a map."""
    return [v for v in case.vertebrae if v.box_lps is not None and not v.in_map]


def _edges_mm(box_lps, case: PreprocessedCase) -> np.ndarray:
    """Edges of a box along the array axes; boxes lie along the world's, to which the grid's are near."""
    edges = np.asarray(box_lps[1], float) - np.asarray(box_lps[0], float)
    return np.abs(np.asarray(case.geometry.direction, float).T).round() @ edges


def _drawn_vertebrae(case: PreprocessedCase, plan: Plan) -> list[DrawnVertebra]:
    drawn = []
    spacing = np.asarray(case.geometry.spacing_mm, float)
    vertebrae = placed_vertebrae(case)
    centres_lps = np.array([v.centre_lps for v in vertebrae])
    extents = extents_by_pitch_mm(plan, [v.level for v in vertebrae], centres_lps)
    for vertebra, extent in zip(vertebrae, extents, strict=True):
        index = np.argwhere(case.vertebra_map == plan.levels[vertebra.level])
        if len(index) == 0 or vertebra.truncated:
            continue
        edges = (index.max(axis=0) - index.min(axis=0) + 1) * spacing
        drawn.append(DrawnVertebra(vertebra.level, len(index) * float(np.prod(spacing)), edges, extent))
    return drawn
