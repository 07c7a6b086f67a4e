"""Batches of open patches and sealed crops."""
