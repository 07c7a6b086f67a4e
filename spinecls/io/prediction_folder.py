"""A prediction folder over several calls: whose files are whose, and tables of all its cases.

The JSON of a case is written last and names its input and its files by their hashes, so it vouches for them. Tables are
made anew from these JSON files at the end of every call, and taken away at its beginning, so they never show what is no
longer there. All cases of a folder are of one model, used in one way.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spinecls import files
from spinecls.errors import DatasetError, ResourceError, UsageError, counted, some_names
from spinecls.io.case_names import folded
from spinecls.io.predictions import (
    FAILURES_NAME,
    REFERRALS_NAME,
    TABLE_NAME,
    is_case_json,
    read_case_json,
    read_failures,
    write_failures,
    write_referrals,
    write_table,
)
from spinecls.records import SEVERITY, CasePrediction

logger = logging.getLogger(__name__)

MODEL_NAME = "model.json"
PROBABILITIES = "{}_probabilities.npz"
"""Name of the file of a case with what ensembling needs."""


LOCK = ".lock"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder of results, so that no other process writes files of other results under the same names.

    Raises
    ------
    ResourceError
        When another process holds it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ResourceError(
            f"-o {folder}: another process writes its results there. Wait until it ends, or give another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()
        if made and {path.name for path in folder.iterdir()} <= {LOCK}:
            # A call that is refused leaves nothing behind.
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def evidence_file(case: str) -> str:
    """Name of the file with the evidence of abnormality."""
    return f"{case}_evidence.nii.gz"


def contribution_file(case: str, name: str, names: Sequence[str]) -> str:
    """Name of the file with the contributions of an evidence map; classes by index, for any name is a class name."""
    return f"{case}_evidence_{name if name == SEVERITY else f'class{names.index(name) + 1}'}.nii.gz"


def _case_files(case: str, evidence: Sequence[str]) -> list[str]:
    """Names of all files that may be written of a case; the JSON first.

    Parameters
    ----------
    evidence : names of the evidence maps
    """
    maps = [contribution_file(case, name, evidence) for name in evidence]
    fixed = [f"{case}.json", f"{case}.nii.gz", evidence_file(case)]
    return [*fixed, *maps, PROBABILITIES.format(case), f"{case}.png", f"{case}.log"]


class PredictionFolder:
    """A folder that one call writes to, and what earlier calls left there.

    Parameters
    ----------
    names : cases of this call
    model : what predicts, as it is written to the JSON of a case
    evidence : names of the model's evidence maps

    Attributes
    ----------
    others : cases of earlier calls that are not of this one
    clashing : cases of this call whose files would be those of another case -> reason; the other keeps its name. Names
        that differ only in capitals or in the spelling of an accent are one name on some systems.

    Raises
    ------
    UsageError
        When cases that are not of this call were predicted by another model, or in another way.
    """

    def __init__(self, folder: Path, names: Collection[str], model: Mapping[str, Any], evidence: Sequence[str]) -> None:
        self.folder = Path(folder)
        self.model = files.plain(model)
        self._names = set(names)
        self._evidence = evidence
        self._failed_earlier = {c: reason for c, reason in self._failures() if c not in names}
        self.others = [case for case in self._stored() if case.identifier not in self._names]
        self._owners = {folded(f): case.identifier for case in self.others for f in self._files(case.identifier)}
        self.clashing = self._claim(self._names)
        self._refuse_mixture()

    def open(self) -> None:
        """Take away what a call that does not come to its end would leave untrue."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.remove_temporaries(self.folder)
        for name in (TABLE_NAME, REFERRALS_NAME, MODEL_NAME):
            (self.folder / name).unlink(missing_ok=True)

    def _stored(self) -> list[CasePrediction]:
        """Cases that the folder holds, by name."""
        cases = []
        for path in sorted(self.folder.glob("*.json")):
            if path.name.startswith("."):
                continue
            try:
                case = read_case_json(path) if is_case_json(path) else None
            except DatasetError as error:
                if path.stem not in self._names:
                    logger.warning("%s is left out of the tables: %s", path.name, error)
                continue
            if case is not None and case.identifier != path.stem:
                logger.warning("%s is left out of the tables: a copy of case %s.", path.name, case.identifier)
            elif case is not None:
                cases.append(case)
        return cases

    def _failures(self) -> list[tuple[str, str]]:
        try:
            return read_failures(self.folder)
        except DatasetError as error:
            logger.warning("Written anew, without what it said: %s", error)
            return []

    def _refuse_mixture(self) -> None:
        strangers = [case for case in self.others if case.model != self.model]
        if strangers:
            raise UsageError(
                f"-o {self.folder}: holds {counted(len(strangers), 'case')} of an earlier call "
                f"({some_names([case.identifier for case in strangers])}) by another model, or in another way: "
                f"{model_difference(strangers[0].model, self.model)}. One folder holds results of one model. Give "
                "another folder by -o, or predict all its cases again in one call."
            )

    def _claim(self, names: Collection[str]) -> dict[str, str]:
        """Note whose each file is; the shorter of two names goes first, as `x` before `x_evidence`."""
        clashing = {}
        for name in sorted(names, key=lambda name: (len(name), name)):
            own = {folded(file): file for file in self._files(name)}
            met = sorted(own.keys() & self._owners.keys())
            if met:
                other = self._owners[met[0]]
                clashing[name] = (
                    f"its result {own[met[0]]} would be taken for that of case {other}. Rename one of the images."
                )
            else:
                self._owners |= dict.fromkeys(own, name)
        return clashing

    def _files(self, case: str) -> list[str]:
        return _case_files(case, self._evidence)

    def clear(self, case: str) -> None:
        """Delete what an earlier call wrote of a case, its JSON first, except files of other cases."""
        pattern = re.compile(re.escape(case) + r"_evidence_(class\d+|severity)\.nii\.gz")
        # An earlier model may have had more classes.
        maps = [path.name for path in self.folder.glob("*_evidence_*.nii.gz") if pattern.fullmatch(path.name)]
        for file in dict.fromkeys([*self._files(case), *maps]):
            if self._owners.get(folded(file), case) == case:
                (self.folder / file).unlink(missing_ok=True)

    @contextlib.contextmanager
    def replacing(self, case: str) -> Iterator[None]:
        """Predict a case anew: of what fails nothing stays, neither of this call nor of an earlier one."""
        self.clear(case)
        try:
            yield
        except BaseException:
            self.clear(case)
            raise

    def write_tables(self, class_names: tuple[str, ...], failed: Mapping[str, str]) -> None:
        """Tables of all cases of the folder that are of this model, and the model.

        Parameters
        ----------
        failed : cases of this call that failed -> reason; those of earlier calls that are not of this one stay
        """
        stored = [case for case in self._stored() if case.model == self.model and case.identifier not in failed]
        write_table(self.folder, stored, class_names)
        write_referrals(self.folder, stored)
        present = {case.identifier for case in stored}
        earlier = {case: reason for case, reason in self._failed_earlier.items() if case not in present}
        write_failures(self.folder, sorted({**earlier, **failed}.items()))
        files.write_json(self.folder / MODEL_NAME, self.model)
        if self.others:
            logger.info(
                "The tables of %s also hold %s of earlier calls (%s).",
                self.folder,
                counted(len(self.others), "case"),
                some_names([case.identifier for case in self.others]),
            )
        if earlier:
            logger.warning("%s still names %s of earlier calls.", FAILURES_NAME, some_names(sorted(earlier)))


def model_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what two models, or the ways in which they are used, differ."""
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    said = []
    for key in differing:
        values = (before.get(key), now.get(key))
        short = all(len(str(value)) <= 40 for value in values)
        said.append(f"{key} was {values[0]} and is {values[1]}" if short else key)
    return "; ".join(said)
