"""The column of a phantom patient: which vertebrae there are, their sizes and where they lie.

Positions are (slice, row, column) millimetres in the canonical frame: to the right, to the feet, to the back. The
local frame of a vertebra is (t, v, u): across to the right, down along the column, to the back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spinecls import anatomy
from spinecls.testing.phantom_options import PhantomOptions

_SACRUM_BELOW_S1 = ("S2", "S3", "S4", "S5")

# Anchors of a typical adult, between which sizes are interpolated. All numbers are rounded textbook values (our
# choice): height, depth front to back, width, disc below (mm), and how far "down along the column" leans backwards.
_ANCHORS = {
    #      height depth width disc  lean (degrees)
    "C1": (11.0, 14.0, 44.0, 3.0, 0.0),
    "C2": (17.0, 16.0, 18.0, 4.5, -4.0),
    "C3": (13.0, 16.0, 19.0, 5.0, -4.0),
    "C7": (14.5, 17.0, 25.0, 5.0, 14.0),
    "T1": (16.0, 17.0, 27.0, 4.5, 18.0),
    "T6": (19.5, 24.0, 28.0, 4.5, 4.0),
    "T10": (22.5, 27.0, 33.0, 5.5, -10.0),
    "T12": (25.0, 29.0, 39.0, 7.0, -13.0),
    "L1": (26.0, 30.5, 41.0, 8.5, -12.0),
    "L3": (28.0, 34.0, 46.0, 10.5, 0.0),
    "L5": (26.5, 36.0, 52.0, 11.0, 19.0),
    "S1": (29.0, 32.0, 50.0, 3.0, 39.0),
    "S2": (24.0, 23.0, 44.0, 2.0, 48.0),
    "S3": (20.0, 17.0, 38.0, 1.5, 42.0),
    "S5": (14.0, 10.0, 26.0, 0.0, 10.0),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Vertebra:
    """One vertebra as a shape.

    Attributes
    ----------
    name : level, or "S2" ... "S5" for the fused rest of the sacrum, which is no level of the toolkit
    region : "cervical", "thoracic", "lumbar" or "sacral"
    centre_mm : centre of the body, (slice, row, column)
    axes : (3, 3), rows = unit vectors t, v, u in (slice, row, column)
    height_mm, depth_mm, width_mm : outer extents of the body along v, u, t
    wedge : relative loss of height at the back wall (and gain at the front)
    taper : relative loss of depth and width at the lower endplate (and gain at the upper)
    disc_mm : thickness of the disc below
    rib_mm : length of the ribs; 0 = none
    lean_degrees : how far v leans backwards in the sagittal plane
    """

    name: str
    region: str
    centre_mm: np.ndarray
    axes: np.ndarray
    height_mm: float
    depth_mm: float
    width_mm: float
    wedge: float
    taper: float
    disc_mm: float
    rib_mm: float
    lean_degrees: float

    def point_mm(self, t: float, v: float, u: float) -> np.ndarray:
        """(slice, row, column) position of a point of the local frame."""
        return self.centre_mm + np.array([t, v, u]) @ self.axes


def _level_names(variant: str) -> list[str]:
    """Levels of a person from head to feet; `variant` is one of `phantom_options.VARIANTS`."""
    extra = {"T13": {"T13"}, "L6": {"L6"}}.get(variant, set())
    absent = {"no_T12": {"T12"}, "no_L5": {"L5"}}.get(variant, set())
    return [name for name in anatomy.LEVELS if (name not in ("T13", "L6") or name in extra) and name not in absent]


def build_column(rng: np.random.Generator, options: PhantomOptions) -> list[Vertebra]:
    """Vertebrae C1 to S5 from head to feet, placed so that the field of view begins at (0, 0, 0) mm.

    Where the field begins within its part of the column is random, so that the level cannot be told from the position.
    """
    names = [*_level_names(str(rng.choice(options.variants))), *_SACRUM_BELOW_S1]
    scale = rng.uniform(0.94, 1.06)
    sizes = {name: np.array(_size(names, name)) * ([scale] * 4 + [1.0]) for name in names}
    lean = {name: values[4] * options.lordosis * rng.uniform(0.85, 1.15) for name, values in sizes.items()}
    path = _path(names, sizes, lean)
    lateral_mm, slope = _lateral_curve(rng, path[:, 1], options.scoliosis_mm)
    path[:, 0] = lateral_mm
    column = []
    for index, name in enumerate(names):
        height, depth, width, disc, _ = sizes[name]
        column.append(
            Vertebra(
                name=name,
                region=anatomy.region(name),
                centre_mm=path[index],
                axes=_axes(np.radians(lean[name]), slope[index]),
                height_mm=height,
                depth_mm=depth,
                width_mm=width,
                wedge=_wedge(names, name),
                taper=_taper(name),
                disc_mm=disc,
                rib_mm=_rib_length_mm(names, name),
                lean_degrees=lean[name],
            )
        )
    shift = _field_shift(rng, column, options)
    return [replace(vertebra, centre_mm=vertebra.centre_mm + shift) for vertebra in column]


def visible_fraction(vertebra: Vertebra, extent_mm: np.ndarray) -> float:
    """Share of a body that lies in the field of view (0, 0, 0) to `extent_mm`."""
    steps = np.linspace(-0.47, 0.47, 9)
    local = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    local = local * (vertebra.width_mm, vertebra.height_mm, vertebra.depth_mm)
    points = vertebra.centre_mm + local @ vertebra.axes
    return float(np.mean(np.all((points >= 0) & (points <= extent_mm), axis=1)))


def _size(names: list[str], name: str) -> tuple[float, ...]:
    """Size of one vertebra; in a column with L6 or without L5 the last lumbar one has the shape of L5."""
    lumbar = [other for other in names if other[0] == "L"]
    rank = {other: float(position) for position, other in enumerate([*_level_names("none"), *_SACRUM_BELOW_S1])}
    if name in lumbar:
        position = rank["L1"] + 4.0 * lumbar.index(name) / (len(lumbar) - 1)
    elif name == "T13":
        position = rank["T12"] + 0.5
    else:
        position = rank[name]
    anchors = [rank[anchor] for anchor in _ANCHORS]
    return tuple(float(np.interp(position, anchors, values)) for values in zip(*_ANCHORS.values(), strict=True))


def _path(names: list[str], sizes: dict[str, np.ndarray], lean: dict[str, float]) -> np.ndarray:
    """(N, 3) centres in mm, the first at the origin, chained along the mean lean of neighbours."""
    path = np.zeros((len(names), 3))
    for index in range(1, len(names)):
        above, here = names[index - 1], names[index]
        step = sizes[above][0] / 2 + sizes[above][3] + sizes[here][0] / 2
        angle = np.radians((lean[above] + lean[here]) / 2)
        path[index] = path[index - 1] + step * np.array([0.0, np.cos(angle), np.sin(angle)])
    return path


def _lateral_curve(rng: np.random.Generator, rows_mm: np.ndarray, amplitude_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Lateral offset (mm) and its slope at the centres."""
    wavelength_mm = rng.uniform(250, 450)
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * rows_mm / wavelength_mm
    amplitude = rng.uniform(0, amplitude_mm)
    return amplitude * np.sin(phase), amplitude * np.cos(phase) * 2 * np.pi / wavelength_mm


def _axes(lean: float, slope: float) -> np.ndarray:
    """Right-angled local frame whose v follows the column."""
    down = np.array([slope, np.cos(lean), np.sin(lean)])
    down /= np.linalg.norm(down)
    back = np.array([0.0, -np.sin(lean), np.cos(lean)])
    return np.stack([np.cross(down, back), down, back])


def _wedge(names: list[str], name: str) -> float:
    last_lumbar = [other for other in names if other[0] == "L"][-1]
    if name == last_lumbar:
        return 0.12
    return {"thoracic": -0.03, "lumbar": 0.02, "sacral": 0.06}.get(anatomy.region(name), 0.0)


def _taper(name: str) -> float:
    # A sacral segment is as wide at its lower end as the next one at its upper end; S1 tapers most.
    return {"S1": 0.17, "S2": 0.15, "S3": 0.15, "S4": 0.15, "S5": 0.2}.get(name, 0.0)


def _rib_length_mm(names: list[str], name: str) -> float:
    """Ribs get short at the end of the thorax: the last is a stub, the one above it is floating."""
    if name[0] != "T":
        return 0.0
    from_below = [other for other in names if other[0] == "T"][::-1].index(name)
    return (14.0, 24.0)[from_below] if from_below < 2 else 60.0


def _field_shift(rng: np.random.Generator, column: list[Vertebra], options: PhantomOptions) -> np.ndarray:
    """Translation (mm) that brings the drawn part of the column into the field of view."""
    extent = np.array(options.shape) * options.spacing_mm
    centre = {vertebra.name: vertebra.centre_mm for vertebra in column}
    field = str(rng.choice(options.fields))
    if field == "lumbosacral":
        top = centre["S1"][1] + rng.uniform(16, 45) - extent[1]
    elif field == "thoracolumbar":
        top = centre["L4"][1] - rng.uniform(-15, 85) - extent[1]
    elif field == "thoracic":
        top = centre["T10"][1] - rng.uniform(0, 100) - extent[1]
    elif field == "cervical":
        top = centre["C1"][1] - rng.uniform(15, 60)
    else:
        middle = (centre["C1"][1] + centre["S1"][1]) / 2
        top = middle - extent[1] / 2 + rng.uniform(-10, 10)
    all_centres = np.array([position for name, position in centre.items() if name in anatomy.RANK])
    # A very low field may hold no centre at all, so its nearest one always counts.
    from_middle = np.abs(all_centres[:, 1] - top - extent[1] / 2)
    inside = all_centres[from_middle <= max(extent[1] / 2, from_middle.min())]
    column_mm = extent[2] * rng.uniform(0.36, 0.44) - (inside[:, 2].min() + inside[:, 2].max()) / 2
    slice_mm = extent[0] / 2 + rng.uniform(-6, 6) - inside[:, 0].mean()
    return np.array([slice_mm, -top, column_mm])
