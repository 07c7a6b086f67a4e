"""Drafts of vertebra maps for scans that nobody annotated, and what people corrected in them."""
