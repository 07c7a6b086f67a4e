"""One scan with everything that is simulated in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.geometry import Geometry
from spinecls.simulation.bodies import find_bodies
from spinecls.simulation.image_markers import insert_image_markers
from spinecls.simulation.inserts import Insert
from spinecls.simulation.lesions import insert_lesions
from spinecls.simulation.options import SimulationOptions
from spinecls.simulation.spots import Scene, free_voxels, insert_distractors, insert_markers
from spinecls.simulation.streams import Stream
from spinecls.simulation.tissue import measure_channel


@dataclass(frozen=True, kw_only=True)
class SimulatedCase:
    """Result of `simulate_case`.

    Attributes
    ----------
    image : (C, S, R, A) float32
    outlines : (S, R, A) uint8, class index inside lesions
    classes : class of each vertebra in which a lesion could be put, from head to feet
    """

    image: np.ndarray
    outlines: np.ndarray
    classes: Mapping[str, str]
    inserts: tuple[Insert, ...]


def simulate_case(
    image: np.ndarray,
    vertebra_map: np.ndarray,
    geometry: Geometry,
    *,
    codes: Mapping[str, int],
    sequences: Sequence[str],
    channel_names: Sequence[str],
    class_list: Sequence[str],
    options: SimulationOptions,
    stream: Stream,
) -> SimulatedCase:
    """Put lesions, distractors and markers into one scan.

    Lesions come first and from streams of their own, so they are the same whatever else is put in.

    Parameters
    ----------
    image : (C, S, R, A) float32, canonical; it is not changed
    vertebra_map : (S, R, A) whole numbers: bodies, codes as `codes` says; any other value but 0 is left alone too
    sequences, channel_names : one a channel
    class_list : classes in index order, as `options.class_names` gives them
    """
    bodies = find_bodies(vertebra_map, geometry, codes)
    channels = [measure_channel(volume, name, bodies) for volume, name in zip(image, sequences, strict=True)]
    lesions = insert_lesions(image, bodies, channels, channel_names, class_list, options, stream)
    scene = Scene(
        image=lesions.image,
        geometry=geometry,
        free=free_voxels(vertebra_map),
        channels=channels,
        channel_names=channel_names,
    )
    diseased = {level: name != class_list[0] for level, name in lesions.classes.items()}
    inserts = [
        *lesions.inserts,
        *insert_distractors(scene, bodies, lesions.classes, options, stream),
        *insert_markers(scene, bodies, diseased, lesions.classes, options, stream),
        *insert_image_markers(scene, bodies, diseased, options, stream),
    ]
    return SimulatedCase(image=scene.image, outlines=lesions.outlines, classes=lesions.classes, inserts=tuple(inserts))
