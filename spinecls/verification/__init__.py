"""Measurements on a trained model that say whether the class of a vertebra comes from its own voxels."""
