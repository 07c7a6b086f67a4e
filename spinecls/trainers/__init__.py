"""The trainer family."""
