"""What a bundle holds: names of its members, their sizes, and the JSON of each, checked before it is used."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinecls import files
from spinecls.calibration.record import CALIBRATION, LARGEST_FILE_BYTES
from spinecls.errors import DatasetError, ModelError, PlanError
from spinecls.model_folder import PLAN, SUMMARY
from spinecls.plain import from_plain
from spinecls.planning.plan import Plan
from spinecls.sharing.archive import MOST_BYTES
from spinecls.tasks.checkpoint import EARLIER_SEAL, ModelSpec

SUFFIX = ".spinecls"
FORMAT = "spinecls model bundle"
FORMAT_VERSION = 2
"""Others are refused, such as 1, whose weights are those of a single network."""

MODEL = "model.json"
CARD = "MODEL_CARD.md"
WEIGHTS = "model.safetensors"

_JSON_BYTES = 4 << 20
_TEXT_BYTES = 1 << 20
_SIZES = {MODEL: _TEXT_BYTES, PLAN: _JSON_BYTES, CARD: _TEXT_BYTES, CALIBRATION: LARGEST_FILE_BYTES}
_FOLD_SIZES = {PLAN: _JSON_BYTES, MODEL: _TEXT_BYTES, WEIGHTS: MOST_BYTES, SUMMARY: _JSON_BYTES}

_FOLD = re.compile(r"0|[1-9][0-9]?|all")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.+-]{0,78}[A-Za-z0-9_+-])?")
_DATASET = re.compile(r"Dataset[0-9]+_.+")
_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}

_DEEPEST = 16
_LARGEST_INTEGER = 2**53
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

MOST_VOXELS = 2**27
"""Of a patch or crop in a plan that comes with a bundle: 512 a side, more than any GPU trains on."""

_SUMMARY_KEYS = (
    "fold", "cases", "patients", "vertebrae", "vertebrae_without_position", "draws", "seed", "location",
    "classification",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BundleDescription:
    """Which model a bundle holds: the content of its `model.json`.

    `spinecls_version` is the version that wrote the bundle.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    dataset: str
    trainer: str
    plans: str
    configuration: str
    folds: tuple[str, ...]
    spinecls_version: str

    def check(self, where: Path | str) -> None:
        """Refuse names that are not plain names of folders, so none can lead out of the results folder."""
        for label in ("dataset", "trainer", "plans", "configuration"):
            _check_name(getattr(self, label), label, where)
        if not _DATASET.fullmatch(self.dataset):
            raise ModelError(f"{where}: dataset {self.dataset!r} is not of the form DatasetXXX_Name.")
        if not self.trainer.isidentifier():
            raise ModelError(f"{where}: trainer {self.trainer!r} is not the name of a class.")
        wrong = [fold for fold in self.folds if not _FOLD.fullmatch(fold)]
        if wrong or not self.folds or len(set(self.folds)) < len(self.folds):
            raise ModelError(f"{where}: folds {list(self.folds)} are not distinct numbers below 100, or all.")


@dataclass(frozen=True, kw_only=True)
class FoldDescription:
    """Everything but the weights that the checkpoint of a fold holds: the content of `fold_K/model.json`."""

    spec: ModelSpec
    spinecls_version: str = ""
    trainer: str = ""
    steps: int = 0
    seed: int = 0
    seal: str = EARLIER_SEAL

    def details(self) -> dict[str, str | int]:
        """Plain values of the checkpoint beside the network's description."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "spec"}


def _check_name(name: str, label: str, where: Path | str) -> None:
    if not _NAME.fullmatch(name) or "__" in name:
        raise ModelError(
            f"{where}: {label} {name!r} cannot be part of a folder's name everywhere. Expected at most 80 letters, "
            "digits and _ . + - without accents, not two underscores in a row, no dot at the end."
        )
    if name.split(".")[0].upper() in _WINDOWS_DEVICES:
        raise ModelError(f"{where}: {label} {name!r} is the name of a device on Windows.")


def fold_member(fold: str, name: str) -> str:
    """Name of a fold's member."""
    return f"fold_{fold}/{name}"


def size_limit(name: str) -> int | None:
    """Most bytes of a member, None when a bundle has no member of that name."""
    folder, slash, inner = name.partition("/")
    if not slash:
        return _SIZES.get(name)
    prefix, _, fold = folder.partition("_")
    return _FOLD_SIZES.get(inner) if prefix == "fold" and _FOLD.fullmatch(fold) else None


def members(folds: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Names that a bundle of these folds must have, and those that it may have besides."""
    required = {MODEL, PLAN, CARD} | {fold_member(k, name) for k in folds for name in (PLAN, MODEL, WEIGHTS)}
    return required, {CALIBRATION, *(fold_member(k, SUMMARY) for k in folds)}


def to_json(content: Any) -> bytes:
    """JSON text as all files of the project have it."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def parse_text(data: bytes, where: str) -> str:
    """Text of a member, or of a file that is to become one."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    if match := _UNPRINTABLE.search(re.sub(r"[\t\n\r]", "", text)):
        raise ModelError(f"{where}: holds the control character {match[0]!r}, which could steer a terminal.")
    return text


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """JSON object whose depth, numbers and texts are such that nothing that follows can stumble over them."""
    try:
        content = files.parse_json(parse_text(data, where), where)
    except DatasetError as error:
        raise ModelError(str(error)) from None
    except RecursionError:
        raise ModelError(f"{where}: nested more than {_DEEPEST} levels deep.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{where}: expected a JSON object, got {type(content).__name__}.")
    _check_values(content, where)
    return content


def _check_values(content: dict, where: str) -> None:
    rest: list[tuple[Any, int]] = [(content, 1)]
    while rest:
        value, depth = rest.pop()
        if depth > _DEEPEST:
            raise ModelError(f"{where}: nested more than {_DEEPEST} levels deep.")
        if isinstance(value, dict):
            rest += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            rest += [(item, depth + 1) for item in value]
        elif isinstance(value, str) and _UNPRINTABLE.search(value):
            raise ModelError(f"{where}: holds control characters ({value[:40]!r}).")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"{where}: holds a number that is too large.")
        elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            raise ModelError(f"{where}: holds an integer that is too large.")


def parse_description(data: bytes, where: str) -> BundleDescription:
    """Content of the bundle's `model.json`."""
    content = parse_object(data, where)
    if content.get("format") != FORMAT:
        raise ModelError(f"{where}: not a model bundle (format {content.get('format')!r}, expected {FORMAT!r}).")
    if (version := content.get("format_version")) != FORMAT_VERSION:
        older = isinstance(version, int) and version < FORMAT_VERSION
        raise ModelError(
            f"{where}: format_version {version!r}, this spinecls reads {FORMAT_VERSION}. Install the version that "
            f"wrote it ({content.get('spinecls_version')!r}){'' if older else ' or a later one'}."
        )
    description = _rebuilt(BundleDescription, content, where)
    description.check(where)
    return description


def parse_fold(data: bytes, where: str) -> FoldDescription:
    """Content of `fold_K/model.json`."""
    return _rebuilt(FoldDescription, parse_object(data, where), where)


def parse_plan(data: bytes, configuration: str, where: str) -> Plan:
    """Plan of a bundle, whose numbers are such that prediction can start with them."""
    plan = _rebuilt(Plan, parse_object(data, where), where)
    try:
        used = plan.configuration(configuration)
    except PlanError as error:
        raise ModelError(f"{where}: {error}") from None
    spacings = (*used.spacing_mm, *used.sealed_spacing_mm)
    if not all(0.01 <= spacing <= 100 for spacing in spacings):
        raise ModelError(f"{where}: spacing {spacings} mm; expected 0.01 to 100.")
    if max(math.prod(used.patch_size), math.prod(used.sealed_size)) > MOST_VOXELS:
        raise ModelError(
            f"{where}: patch {used.patch_size} or crop {used.sealed_size} has more than {MOST_VOXELS} voxels."
        )
    if len(used.normalisation) != len(plan.channel_names) or not plan.channel_names:
        raise ModelError(f"{where}: {len(used.normalisation)} normalisations for {len(plan.channel_names)} channels.")
    return plan


def _rebuilt(kind: type, content: Mapping, where: str):
    try:
        return from_plain(kind, content, "content")
    except PlanError as error:
        raise ModelError(f"{where}: {error}") from None
    except (ArithmeticError, TypeError, ValueError) as error:
        # The checks of a plan reckon with its numbers, which can be anything here.
        raise ModelError(f"{where}: its numbers contradict each other ({error}).") from None


def shared_plan(plan: Plan) -> Plan:
    """Plan without the names of the persons who read the training cases; prediction does not need them."""
    return dataclasses.replace(plan, readers=(), readers_judged=False)


def shared_summary(content: Mapping[str, Any]) -> dict[str, Any]:
    """Validation scores without the names of cases; sites are numbered."""
    kept = {key: content[key] for key in _SUMMARY_KEYS if key in content}
    scores = kept.get("classification")
    if isinstance(scores, Mapping) and isinstance(scores.get("by_site"), Mapping):
        numbered = {f"site {i}": site for i, site in enumerate(scores["by_site"].values(), start=1)}
        kept["classification"] = {**scores, "by_site": numbered}
    return kept
