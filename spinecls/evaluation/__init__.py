"""Judging predictions against annotations: location and names, classes, intervals over patients."""
