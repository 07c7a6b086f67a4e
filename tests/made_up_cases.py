"""Training cases made up of noise and blocks, and the tasks that read them, for tests that train nothing."""

import dataclasses

import numpy as np

from spinecls.dataloading.cases import LabelledRegion, SealedSource, TrainingCase
from spinecls.dataloading.open_patches import open_patch
from spinecls.geometry import Geometry
from spinecls.planning.plan import Configuration, NetworkPlan, Plan

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres",
    spacing_mm=(4.0, 2.0, 2.0),
    patch_size=(6, 24, 20),
    sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=(6, 16, 16),
    network=NETWORK,
    reader_network=NETWORK,
    batch_size=2,
    sealed_batch_size=4,
    balanced_crop_share=0.5,
)
STILL = dataclasses.replace(
    CONFIGURATION, rotation_degrees=0.0, scale_range=(1.0, 1.0), mirror_axes=(), patch_size=(9, 60, 40)
)
"""Patches that are the whole image of `a_case`, as it is."""

PLAN = Plan(
    plans_name="p",
    dataset_name="d",
    channel_names=("T2",),
    class_names=("normal", "inflammatory", "structural"),
    class_order=False,
    class_counts={},
    levels={},
    structures={},
    lesion_structures={},
    vertebrae_complete=True,
    ignore_label=255,
    level_statistics={},
    configurations={},
)
BOX = Geometry(
    shape=(8, 24, 24),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(0.0, 0.0, 0.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


def a_case(shape=(9, 60, 40), seed=0, **changes):
    """A case of two upright vertebrae in noise, its map noise as well."""
    rng = np.random.default_rng(seed)
    values = {
        "identifier": f"case{seed}",
        "image": rng.normal(size=(1, *shape)).astype(np.float32),
        "vertebra_map": rng.integers(0, 3, shape).astype(np.uint8),
        "structures": None,
        "unknown": np.zeros(shape, bool),
        "centres": np.array([[4.0, 20.0, 20.0], [4.0, 38.0, 20.0]]),
        "ranks": np.array([20, 21]),
        "spacing_mm": np.array([4.0, 2.0, 2.0]),
    }
    values |= changes
    return TrainingCase(**{"axes": np.tile(np.eye(3), (len(values["centres"]), 1, 1))} | values)


def blocks(**changes):
    """A case with two vertebrae of ten rows each, from rows 15 and 33 on."""
    vertebra_map = np.zeros((9, 60, 40), np.uint8)
    vertebra_map[3:6, 15:25, 15:25] = 1
    vertebra_map[3:6, 33:43, 15:25] = 2
    return a_case(vertebra_map=vertebra_map, **changes)


def with_classes(case, *labels):
    """The case with a label of each of its two vertebrae."""
    counts = np.bincount(case.vertebra_map.ravel(), minlength=3)[1:3]
    regions = tuple(LabelledRegion(label, float(n)) for label, n in zip(labels, counts, strict=True))
    return dataclasses.replace(case, classes=regions)


def a_source(label, seed=0, with_mask=True, **changes):
    """A vertebra of noise in a box."""
    rng = np.random.default_rng(seed)
    centre = BOX.to_world((3.5, 11.5, 11.5))
    distance = np.full(BOX.shape, 9.0, np.float32)
    distance[2:6, 5:19, 5:19] = 0
    values = {
        "image": rng.normal(100, 10, (1, *BOX.shape)).astype(np.float32),
        "box": BOX,
        "distance": distance if with_mask else None,
        "centre_lps": centre,
        "tangent_lps": np.array([0.0, 0.0, 1.0]),
        "extent_mm": np.array([20.0, 14.0, 14.0]),
        "marrow": np.array([[100.0, 10.0]]),
        "lesions": None,
        "label": label,
        "case": f"case{seed}",
        "level": "L1",
    }
    return SealedSource(**values | changes)


def target_of(task, case, seed=0):
    """What a task wants of a patch of a case that is drawn with its configuration."""
    return open_patch(case, task.configuration, [task], np.random.default_rng(seed))["targets"][task.name]
