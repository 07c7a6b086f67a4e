"""Synthetic spine MRI with known truth, for tests and for trying the toolkit."""
