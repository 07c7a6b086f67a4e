"""Which cases of a raw dataset can be simulated in, and which sequence each of their channels is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from spinecls.errors import DatasetError, UsageError, counted, nearest
from spinecls.io.case_table import CASE_TABLE, read_sequences
from spinecls.io.images import read_geometry
from spinecls.io.source_grid import grid_difference
from spinecls.records import Case, RawDataset
from spinecls.simulation.options import DEFAULT_KINDS, SEQUENCES, SimulationOptions

ASSUMED = "T2"
# Fat is suppressed in all of these, so marrow looks as on STIR.
_PATTERNS = (
    ("STIR", re.compile(r"stir|tirm|spair|spir|dixon_?w|water|(?<![a-z])fs(?![a-z])|fat_?sat", re.IGNORECASE)),
    ("T2", re.compile(r"t2", re.IGNORECASE)),
    ("T1", re.compile(r"t1", re.IGNORECASE)),
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One case to simulate in; `sequences` one a channel."""

    case: Case
    sequences: tuple[str, ...]


def sequence_of(name: str) -> str | None:
    """Sequence that a channel's name tells, or None: `T2w`, `t1_tse`, `T2_fs` (as STIR), `TIRM`."""
    sequences = [sequence for sequence, pattern in _PATTERNS if pattern.search(name)]
    if sequences[:1] == ["STIR"] and "T1" in sequences:
        return None
    return sequences[0] if sequences else None


def find_jobs(dataset: RawDataset, options: SimulationOptions) -> tuple[list[Job], list[str]]:
    """Cases to simulate in, in the order of their identifiers, and what was assumed or left out.

    Raises
    ------
    UsageError
        When an option names a case that is not there, or leaves none.
    DatasetError
        When no case has a vertebra map, or a channel's sequence is not known.
    """
    notes: list[str] = []
    identifiers = [case.identifier for case in dataset.cases]
    for option, names in (("--cases", options.cases), ("--exclude_cases", options.exclude_cases)):
        _require_known(option, names, identifiers)
    mapped = [case for case in dataset.cases if any(vertebra.in_map for vertebra in case.vertebrae)]
    if not mapped:
        raise DatasetError(
            f"{dataset.folder}: no case has a vertebra map. Lesions are put into vertebral bodies, so a map "
            "labelsTr/<case> with the bodies is needed for each case; cases without one are left out."
        )
    left_out = [name for name in identifiers if name not in {case.identifier for case in mapped}]
    if left_out:
        notes.append(f"left out for want of a vertebra map: {counted(len(left_out), 'case')}, such as {left_out[0]}")
    chosen = [
        case
        for case in mapped
        if case.identifier not in options.exclude_cases and (not options.cases or case.identifier in options.cases)
    ]
    if not chosen:
        raise UsageError("--cases and --exclude_cases leave no case that has a vertebra map. Name others.")
    sequences = _sequences(dataset, chosen, options, notes)
    for sequence in sorted({first for first, *_ in sequences.values()}):
        alike = [kind for kind in options.kinds if kind not in DEFAULT_KINDS[sequence]]
        if alike:
            notes.append(f"on {sequence}, {', '.join(alike)} differ from oedema by shape and place alone")
    return [Job(case=case, sequences=sequences[case.identifier]) for case in chosen], notes


def _require_known(option: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{option}: the dataset has no annotated case {name!r}.{nearest(name, known)}")


def _sequences(
    dataset: RawDataset, cases: list[Case], options: SimulationOptions, notes: list[str]
) -> Mapping[str, tuple[str, ...]]:
    names = dataset.description.channel_names
    if len(names) > 1:
        if options.sequence:
            raise UsageError(
                f"--sequence {options.sequence} is for data of one channel; these have {', '.join(names)}. Leave it "
                "out, and name the channels by their sequence in dataset.json."
            )
        known = [sequence for name in names if (sequence := sequence_of(name)) is not None]
        if len(known) < len(names):
            unknown = next(name for name in names if sequence_of(name) is None)
            raise DatasetError(
                f"{dataset.folder}/dataset.json: of the channel {unknown!r} the sequence is not "
                f"known, so what a lesion looks like there is not. Expected a name with {', '.join(SEQUENCES)}."
            )
        return {case.identifier: tuple(known) for case in cases}
    if options.sequence:
        return {case.identifier: (options.sequence,) for case in cases}
    named = sequence_of(names[0])
    if named:
        return {case.identifier: (named,) for case in cases}
    listed = _listed(dataset)
    assumed = [case.identifier for case in cases if not listed.get(case.identifier)]
    if assumed:
        notes.append(
            f"channel {names[0]!r} tells no sequence; taken as {ASSUMED}: {counted(len(assumed), 'case')}, such as "
            f"{assumed[0]}. Say otherwise with --sequence or a column sequence in cases.csv"
        )
    return {case.identifier: (listed.get(case.identifier) or ASSUMED,) for case in cases}


def _listed(dataset: RawDataset) -> dict[str, str]:
    """Sequences in cases.csv beside dataset.json, which has the columns case and sequence."""
    listed: dict[str, str] = {}
    for case, text in read_sequences(dataset.folder).items():
        sequence = sequence_of(text)
        if sequence is None:
            raise DatasetError(
                f"{dataset.folder / CASE_TABLE}: case {case} has the sequence {text!r}, expected "
                f"{', '.join(SEQUENCES)}. Leave the case out with --exclude_cases and its cell empty, or correct it."
            )
        listed[case] = sequence
    return listed


def require_one_grid(case: Case) -> None:
    """Raise `DatasetError` when channels lie on different grids, as a lesion is written into each as it was read."""
    first = read_geometry(case.images[0])
    for path in case.images[1:]:
        difference = grid_difference(first, read_geometry(path))
        if difference:
            raise DatasetError(
                f"{path}: {difference[1]}, compared with the first channel. Expected all channels of "
                f"{case.identifier} on one grid; resample them, or leave it out with --exclude_cases."
            )
