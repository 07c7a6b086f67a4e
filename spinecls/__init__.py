"""Locate, name and classify every vertebra of a spine MRI, the class from the vertebra's own voxels."""

__version__ = "0.1.0"
