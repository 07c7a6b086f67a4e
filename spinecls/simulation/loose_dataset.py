"""A raw dataset as physicians with less time would have annotated it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinecls import __version__, files
from spinecls.errors import DatasetError, UsageError, nearest
from spinecls.geometry import Geometry
from spinecls.io.annotation_forms import plain_forms
from spinecls.io.case_table import CASE_TABLE
from spinecls.io.dataset import load_dataset
from spinecls.io.images import read_image, read_label_map, write_map
from spinecls.planning.preprocess_case import combine_readers
from spinecls.records import Case, ClassReading, RawDataset, VertebraAnnotation
from spinecls.simulation import loosening
from spinecls.simulation.simulated_dataset import map_ending
from spinecls.simulation.streams import case_stream

SETTINGS, TABLE, TIMES = "loosening.json", "vertebraeTr.csv", "loosening.csv"
KINDS = ("vertebrae", "structures")
_POINT = ("x_mm", "y_mm", "z_mm")
_BOX = ("x_min_mm", "y_min_mm", "z_min_mm", "x_max_mm", "y_max_mm", "z_max_mm")
_HEADER = ("case", "patient", "site", "vertebra", "class", "reader", "confidence", *_POINT, *_BOX)
_TIME_HEADER = ("case", "kind", "name", "form", "seconds")
DETACHED = (".mhd", ".nhdr")
IN_A_MAP = ("coarse", "scribble", "slices")
"""Forms that are drawn as a map; the others stand in the table, or nowhere."""


@dataclass(frozen=True, kw_only=True)
class LoosenOptions:
    """How to loosen.

    Attributes
    ----------
    form : one of `loosening.FORMS`; "" = the maps stay as they are, for label noise alone
    kind : `vertebrae` or `structures`: which maps
    slack_mm : how far each face of a box lies outside, least and greatest
    tolerance_mm : of a coarse map; jitter_mm : of a point
    scribble_share : length of a stroke against the voxels of the label on the slice
    every : slices, one in so many is drawn
    exact_cases : how many cases, drawn at random, stay exact
    class_noise : share of the classes that are replaced by another (of grades by a neighbouring one)
    class_sets : share of the classes that become "one of these two"
    reader_accuracy : one number a reader, the chance that a reading is the true class; empty = the readings as they are
    """

    form: str = ""
    kind: str = "vertebrae"
    seed: int = 0
    slack_mm: tuple[float, float] = (0.0, 0.0)
    tolerance_mm: float = 3.0
    jitter_mm: float = 3.0
    scribble_share: float = 0.15
    every: int = 4
    exact_cases: int = 0
    class_noise: float = 0.0
    class_sets: float = 0.0
    reader_accuracy: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.form not in ("", *loosening.FORMS):
            hint = nearest(self.form, loosening.FORMS)
            raise UsageError(f"--form {self.form}: expected one of {', '.join(loosening.FORMS)}.{hint}")
        if self.kind not in KINDS:
            raise UsageError(f"--kind {self.kind}: expected {' or '.join(KINDS)}.{nearest(self.kind, KINDS)}")
        if self.kind == "structures" and self.form in ("box", "point"):
            raise UsageError(
                f"--form {self.form}: the table has boxes and points of vertebrae only. Structures can be made "
                f"{', '.join(IN_A_MAP)} or none."
            )
        low, high = self.slack_mm
        if not 0 <= low <= high:
            raise UsageError(f"--slack_mm {low:g} {high:g}: expected two millimetres of 0 or more, the smaller first.")
        for name in ("scribble_share", "class_noise", "class_sets"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name} {getattr(self, name):g}: expected a share from 0 to 1.")
        if any(not 0 <= value <= 1 for value in self.reader_accuracy):
            raise UsageError(f"--readers {self.reader_accuracy}: expected chances from 0 to 1.")
        for name in ("tolerance_mm", "jitter_mm"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name} {getattr(self, name):g}: expected 0 mm or more.")
        if self.every < 1 or self.exact_cases < 0:
            raise UsageError(f"--every {self.every}, --exact_cases {self.exact_cases}: expected 1, and 0, or more.")
        if not self.form and not (self.class_noise or self.class_sets or self.reader_accuracy):
            raise UsageError("Nothing to loosen: give --form, --class_noise, --class_sets or --readers.")


def loosen_dataset(source: Path, target: Path, options: LoosenOptions) -> dict[str, float]:
    """Write a raw dataset whose annotation is looser than that of `source`; images are the same.

    A class without noise stays. Every draw depends on the seed, the case and the vertebra alone.

    Returns
    -------
    dict
        Seconds to draw what was loosened, and what it would have taken exactly: `loose`, `exact`.

    Raises
    ------
    UsageError
        When the target exists.
    DatasetError
        When the source is faulty or has no map of the kind that is to be loosened.
    """
    source, target = Path(source), Path(target)
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target} exists. Give the name of a new dataset.")
    raw = load_dataset(source)
    drawn = [case for case in raw.cases if _maps_of(case, options.kind)]
    if options.form and not drawn:
        raise DatasetError(f"{source}: no case has a map of its {options.kind}; there is nothing to loosen.")
    order = np.random.default_rng([options.seed, 1]).permutation(len(drawn))
    exact = {drawn[i].identifier for i in order[: options.exact_cases]}
    nowhere = options.form == "none" and options.kind == "vertebrae" and not exact
    if nowhere and len(drawn) == len(raw.cases):
        raise UsageError("--form none leaves no position at all, so nothing can be found. Give --exact_cases, about 8.")
    target.mkdir(parents=True, exist_ok=True)
    files.write_json(target / SETTINGS, {"version": __version__, "options": dataclasses.asdict(options)})
    rows, times, forms = [], [], {}
    for case in raw.cases:
        loose = options.form if _maps_of(case, options.kind) and case.identifier not in exact else ""
        case_rows, case_times, form = _write_case(raw, case, target, options, loose)
        rows += case_rows
        times += case_times
        forms[case.identifier] = {**plain_forms(case.annotation_form), **form}
    for case in raw.unlabelled:
        _copy(case.images, target / "imagesUn")
    used = [name for name in _HEADER if name in _HEADER[:5] or any(row.get(name) not in (None, "") for row in rows)]
    files.write_csv(target / TABLE, used, [{name: row.get(name) for name in used} for row in rows])
    files.write_csv(target / TIMES, list(_TIME_HEADER), [{name: row[name] for name in _TIME_HEADER} for row in times])
    files.write_json(target / "annotationsTr.json", {name: form for name, form in forms.items() if form})
    if (source / CASE_TABLE).is_file():
        files.write_bytes(target / CASE_TABLE, (source / CASE_TABLE).read_bytes())
    content = files.read_json(source / "dataset.json")
    files.write_json(target / "dataset.json", content | {"name": target.resolve().name})
    return {"loose": sum(t["seconds"] for t in times), "exact": sum(t["exact"] for t in times)}


def _maps_of(case: Case, kind: str) -> list[Path]:
    """Maps of a kind, one a reader."""
    if kind == "structures":
        return [case.structure_map] if case.structure_map else []
    return [case.vertebra_maps[reader] for reader in sorted(case.vertebra_maps)]


def _labels_of(maps: Sequence[Path]) -> tuple[np.ndarray, Geometry]:
    """Voxel codes and grid of a map; of several readers what most drew."""
    read = [read_label_map(path) for path in maps]
    return combine_readers([labels for labels, _ in read]), read[0][1]


def _write_case(raw: RawDataset, case: Case, target: Path, options: LoosenOptions, form: str):
    """Images and maps of a case; its rows of the table, of the times, and how loose its maps are."""
    description = raw.description
    _copy(case.images, target / "imagesTr")
    drawn = [*case.vertebra_maps.values(), *([case.chance_map] if case.chance_map else [])]
    kept = [] if form and options.kind == "vertebrae" else drawn
    _copy(kept, target / "labelsTr")
    if case.structure_map and not (form and options.kind == "structures"):
        _copy([case.structure_map], target / "structuresTr")
    places: dict[str, dict[str, float]] = {}
    present: dict[str, int] = {}
    times, forms = [], {}
    maps = _maps_of(case, options.kind)
    if form and maps:
        labels, geometry = _labels_of(maps)
        codes = description.levels if options.kind == "vertebrae" else description.structures
        present = {name: code for name, code in codes.items() if np.any(labels == code)}
        stream = case_stream(options.seed, case.identifier)
        for name, code in present.items():
            seconds = loosening.drawing_seconds(form, labels, code, options.every)
            exact = loosening.drawing_seconds("mask", labels, code)
            row = {"case": case.identifier, "kind": options.kind, "name": name, "form": form}
            times.append(row | {"seconds": round(seconds, 1), "exact": exact})
            if form == "box":
                places[name] = _box_cells(labels == code, geometry, options.slack_mm, stream(name, form))
            elif form == "point":
                places[name] = _point_cells(labels == code, geometry, options.jitter_mm, stream(name, form))
        if form in IN_A_MAP:
            loose, forms[options.kind] = _loose_map(raw, case, labels, geometry, options, form)
            folder = target / ("labelsTr" if options.kind == "vertebrae" else "structuresTr")
            source = read_image(case.images[:1])
            write_map(folder / f"{case.identifier}{map_ending(raw)}", loose, source.source, source.geometry)
            # A vertebra that the loose map no longer shows is pointed at: its class needs a place.
            gone = [n for n, code in present.items() if options.kind == "vertebrae" and not np.any(loose == code)]
            places = {n: _point_cells(labels == present[n], geometry, 0.0, stream(n, "point")) for n in gone}
        else:
            slack_mm, jitter_mm = sum(options.slack_mm) / 2, options.jitter_mm
            told = {"box": {"slack_mm": slack_mm}, "point": {"jitter_mm": jitter_mm}}.get(form, {})
            forms[options.kind] = {"form": form, **told}
    hidden = set(present) if form == "none" and options.kind == "vertebrae" else set()
    rows = [
        row | ({} if vertebra.level in hidden else places.get(vertebra.level, _own_place(vertebra)))
        for vertebra in case.vertebrae
        for row in _reading_rows(case, vertebra, raw, options)
    ]
    return rows, times, forms


def _copy(paths, folder: Path) -> None:
    for path in paths:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
            continue
        # A header may have its voxels in a file of the same stem beside it.
        parts = [path, *(other for other in path.parent.glob(f"{path.stem}.*raw*") if path.suffix in DETACHED)]
        for part in parts:
            files.write_bytes(folder / part.name, part.read_bytes())


def _point_cells(mask: np.ndarray, geometry: Geometry, jitter_mm: float, rng: np.random.Generator) -> dict[str, float]:
    point = loosening.loose_point_lps(mask, geometry, jitter_mm, rng)
    return {name: round(float(v), 3) for name, v in zip(_POINT, point, strict=True)}


def _box_cells(mask: np.ndarray, geometry: Geometry, slack_mm, rng: np.random.Generator) -> dict[str, float]:
    low, high = loosening.loose_box_lps(mask, geometry, slack_mm, rng)
    return {name: round(float(v), 3) for name, v in zip(_BOX, (*low, *high), strict=True)}


def _loose_map(
    raw: RawDataset, case: Case, labels: np.ndarray, geometry: Geometry, options: LoosenOptions, form: str
) -> tuple[np.ndarray, Mapping[str, Any]]:
    """The loosened map of a case, and how loose it is."""
    rng = case_stream(options.seed, case.identifier)("", form)
    ignored = raw.description.ignore_label
    if form == "coarse":
        loose = loosening.coarse_map(labels, geometry.spacing_mm, options.tolerance_mm, rng, ignored)
        return loose, {"form": form, "tolerance_mm": options.tolerance_mm}
    if form == "scribble":
        return loosening.scribble_map(labels, options.scribble_share, rng, ignored), {"form": form}
    loose, kept = loosening.sliced_map(labels, options.every, rng, ignored)
    return loose, {"form": form, "slices": kept}


def _own_place(vertebra: VertebraAnnotation) -> dict[str, float]:
    """Point and box that the source's table has."""
    place = dict(zip(_POINT, vertebra.centre_lps, strict=True)) if vertebra.centre_lps else {}
    if vertebra.box_lps:
        place |= dict(zip(_BOX, (*vertebra.box_lps[0], *vertebra.box_lps[1]), strict=True))
    return place


def _reading_rows(case: Case, vertebra: VertebraAnnotation, raw: RawDataset, options: LoosenOptions) -> list[dict]:
    """One row a reading; a vertebra without any reading keeps one row with an empty class."""
    names, ordered = raw.description.class_names, raw.description.class_order
    rng = case_stream(options.seed, case.identifier)(vertebra.level, "class")
    readings = list(vertebra.readings)
    exact = [r for r in readings if len(r.classes) == 1]
    if options.reader_accuracy and exact:
        truth = names.index(exact[0].classes[0])
        readings = [
            ClassReading(classes=(names[_read(truth, len(names), accuracy, ordered, rng)],), reader=f"reader{i + 1}")
            for i, accuracy in enumerate(options.reader_accuracy)
        ]
    rows = []
    for reading in readings:
        classes = reading.classes
        if len(classes) == 1 and len(names) > 1:
            index = _read(names.index(classes[0]), len(names), 1 - options.class_noise, ordered, rng)
            classes = (names[index],)
            if rng.random() < options.class_sets and len(names) > 2:
                other = _read(index, len(names), 0.0, ordered, rng)
                classes = tuple(names[i] for i in sorted((index, other)))
        rows.append({"class": "|".join(classes), "reader": reading.reader, "confidence": _told(reading.confidence)})
    common = {"case": case.identifier, "patient": case.patient, "site": case.site, "vertebra": vertebra.level}
    return [common | row for row in rows or [{"class": ""}]]


def _told(confidence: float) -> float | None:
    return None if confidence == 1 else confidence


def _read(truth: int, count: int, accuracy: float, ordered: bool, rng: np.random.Generator) -> int:
    """Class index that a reader writes down: the truth, or else another (of grades a neighbour)."""
    right, other = rng.random() < accuracy, rng.random()
    if right or count < 2:
        return truth
    near = [k for k in range(count) if k != truth and (not ordered or abs(k - truth) == 1)]
    return near[int(other * len(near))]
