"""Probabilities that can be trusted: temperature, prior, prediction sets, uncertainty; learnt by cross-validation."""
