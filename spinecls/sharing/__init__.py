"""Trained models as one file: JSON and tensors in a zip archive, written for others and read with mistrust."""
