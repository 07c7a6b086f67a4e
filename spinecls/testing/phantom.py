"""Synthetic spine MRI with known truth: cases in memory and whole raw datasets."""

from __future__ import annotations

from spinecls.testing.phantom_case import PhantomCase, make_case
from spinecls.testing.phantom_dataset import write_dataset
from spinecls.testing.phantom_images import marked_voxel, to_image
from spinecls.testing.phantom_options import PhantomOptions

__all__ = ["PhantomCase", "PhantomOptions", "make_case", "marked_voxel", "to_image", "write_dataset"]
