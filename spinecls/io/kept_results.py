"""Whether the result of an earlier call is finished: whole, of this input, of this model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinecls import files
from spinecls.errors import DatasetError, some_names
from spinecls.io.file_hashes import files_of
from spinecls.io.prediction_folder import model_difference
from spinecls.io.predictions import read_case_json, was_changed
from spinecls.records import CasePrediction

logger = logging.getLogger(__name__)


_CHANGED = "is not as it was written (damaged or changed)"


def input_digest(images: Sequence[Path]) -> str:
    """Hash of the content of all files of a case, channel by channel; empty where the system does not give one.

    Reading the image then says why.
    """
    try:
        return files.text_hash([[files.content_hash(path) for path in files_of(image)] for image in images])
    except OSError:
        return ""


def output_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Hashes of the files of a case that were written."""
    return {name: files.content_hash(folder / name) for name in names}


def require_whole(folder: Path, prediction: CasePrediction, names: Iterable[str]) -> None:
    """Refuse files of a case that are not as they were written; results of earlier versions are not known.

    Raises
    ------
    DatasetError
        When one is missing or changed.
    """
    if not prediction.outputs:
        return
    own = f"{prediction.identifier}.json"
    faults = {own: _CHANGED if was_changed(folder / own) else None}
    faults |= {name: _fault(folder, name, prediction.outputs) for name in names}
    for name, reason in faults.items():
        if reason:
            remedy = "Predict again with --continue_prediction --save_probabilities."
            raise DatasetError(f"{folder / name}: {reason}. {remedy}")


def changed_since(folder: Path, prediction: CasePrediction) -> bool:
    """Whether the JSON or the map of a case is not as it was predicted; of earlier versions this is not known."""
    level_map = f"{prediction.identifier}.nii.gz"
    if level_map not in prediction.outputs:
        return False
    return was_changed(folder / f"{prediction.identifier}.json") or bool(_fault(folder, level_map, prediction.outputs))


def _fault(folder: Path, name: str, outputs: Mapping[str, str]) -> str | None:
    path = folder / name
    if not path.is_file():
        return "is missing"
    return None if files.content_hash(path) == outputs.get(name) else _CHANGED


@dataclass
class KeptResults:
    """Results of earlier calls in a folder, for `--continue_prediction`.

    Attributes
    ----------
    kept : cases whose results stay
    again : why others are predicted -> their names
    """

    folder: Path
    model: Mapping[str, Any]
    kept: list[str] = field(default_factory=list)
    again: dict[str, list[str]] = field(default_factory=dict)

    def find(self, case: str, images: Sequence[Path], needed: Collection[str]) -> CasePrediction | None:
        """The finished result of a case; None when it is to be predicted.

        Parameters
        ----------
        needed : names of the files that must be there
        """
        verdict = self._judge(case, images, needed)
        if isinstance(verdict, CasePrediction):
            self.kept.append(case)
            return verdict
        self.again.setdefault(verdict, []).append(case)
        return None

    def _judge(self, case: str, images: Sequence[Path], needed: Collection[str]) -> CasePrediction | str:
        if not (self.folder / f"{case}.json").exists():
            return "not predicted yet"
        try:
            prediction = read_case_json(self.folder / f"{case}.json")
        except DatasetError:
            return "its JSON file is damaged or of another version"
        if not (prediction.input.get("files") and prediction.outputs):
            return "written by an earlier version, which did not note its input and files"
        if prediction.identifier != case:
            return "its JSON file is that of another case"
        if was_changed(self.folder / f"{case}.json"):
            return f"<case>.json {_CHANGED}"
        if prediction.model != self.model:
            return f"by another model, or in another way: {model_difference(prediction.model, self.model)}"
        if prediction.input["files"] != input_digest(images):
            return "the input has changed"
        if missing := sorted(set(needed) - prediction.outputs.keys()):
            return f"<case>{missing[0].removeprefix(case)} was not asked for"
        for name in prediction.outputs:
            if reason := _fault(self.folder, name, prediction.outputs):
                return f"<case>{name.removeprefix(case)} {reason}"
        return prediction

    def tell(self) -> None:
        """Log how many results are kept, and why the others are predicted."""
        total = len(self.kept) + sum(map(len, self.again.values()))
        logger.info("%s: %d of %d results are kept.", self.folder, len(self.kept), total)
        for reason, names in sorted(self.again.items()):
            logger.info("  %d predicted (%s): %s", len(names), some_names(names), reason)
