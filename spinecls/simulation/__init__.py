"""Lesions, spots that mean nothing and planted shortcuts in real spine images, with the truth about each."""
