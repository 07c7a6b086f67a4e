"""`python -m spinecls <command> ...`."""

from spinecls.cli.main import umbrella

umbrella()
