"""The text files of a prediction folder: one JSON a case, one table of all vertebrae, one table of failures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinecls import files
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.plain import from_plain
from spinecls.records import (
    NOTHING_FOUND,
    REFER,
    REFER_REASONS,
    CasePrediction,
    VertebraPrediction,
)

FORMAT = "spinecls case prediction"
FORMAT_VERSION = 3
TABLE_NAME = "predictions.csv"
FAILURES_NAME = "failed.csv"
REFERRALS_NAME = "refer.csv"
_DIGEST = "digest"
"""Key of the hash over all others."""

_LEADING = ("case", "vertebra", "x_mm", "y_mm", "z_mm", "class")
_TRAILING = ("prediction_set", "entropy", "p_vertebra", "visible_fraction", "flags")
_REFERRAL_COLUMNS = ("case", "vertebra", "class", "entropy", "prediction_set", "reasons")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One vertebra of `predictions.csv`; numbers that were empty are not-a-number.

    `class_probabilities` maps class names to probabilities in the order of the columns; `level_probability` is the
    probability of the name of the vertebra.
    """

    case: str
    level: str
    centre_lps: tuple[float, float, float]
    class_name: str
    class_probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...]
    entropy: float
    level_probability: float
    visible_fraction: float
    flags: tuple[str, ...]


def write_case_json(folder: Path, prediction: CasePrediction) -> Path:
    """Write `<folder>/<case>.json`, whole or not at all, and return its path.

    The keys are the fields of `CasePrediction` and `VertebraPrediction`; class probabilities are keyed by class name.

    Raises
    ------
    DatasetError
        When the case identifier cannot be a file name or a vertebra has another number of probabilities than classes.
    """
    path = Path(folder) / f"{_file_stem(prediction.identifier)}.json"
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identifier": prediction.identifier,
        "class_names": prediction.class_names,
        "vertebrae": [_vertebra_as_dict(vertebra, prediction) for vertebra in prediction.vertebrae],
        "model": prediction.model,
        "geometry": None if prediction.geometry is None else dataclasses.asdict(prediction.geometry),
        "warnings": prediction.warnings,
        "input": prediction.input,
        "outputs": prediction.outputs,
    }
    files.write_json(path, {**content, _DIGEST: files.text_hash(content)})
    return path


def was_changed(path: Path) -> bool:
    """Whether the JSON of a case says something else than was written; of earlier versions this is not known."""
    content = dict(files.read_json(path))
    digest = content.pop(_DIGEST, None)
    return digest is not None and digest != files.text_hash(content)


def _file_stem(identifier: str) -> str:
    if not identifier or identifier.startswith(".") or any(character in identifier for character in "/\\\0"):
        raise DatasetError(
            f"Case {identifier!r}: a case identifier becomes a file name, so it must not be empty, start with a dot "
            "or hold a slash, a backslash or a zero byte. Rename the case."
        )
    return identifier


def _vertebra_as_dict(vertebra: VertebraPrediction, prediction: CasePrediction) -> dict[str, Any]:
    return dataclasses.asdict(vertebra) | {"class_probabilities": _named_probabilities(vertebra, prediction)}


def _named_probabilities(vertebra: VertebraPrediction, prediction: CasePrediction) -> dict[str, float]:
    if len(vertebra.class_probabilities) != len(prediction.class_names):
        raise DatasetError(
            f"Case {prediction.identifier}, vertebra {vertebra.level}: {len(vertebra.class_probabilities)} class "
            f"probabilities for {len(prediction.class_names)} classes ({', '.join(prediction.class_names)}); "
            "expected one a class."
        )
    return dict(zip(prediction.class_names, vertebra.class_probabilities, strict=True))


def is_case_json(path: Path) -> bool:
    """Whether a JSON file is the prediction of a case (other JSON files may lie beside them)."""
    content = files.read_json(path)
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_folder(folder: Path) -> list[CasePrediction]:
    """All cases of a prediction folder, by file name; JSON files of other kinds are passed over.

    Raises
    ------
    DatasetError
        When the folder does not exist, holds no prediction, or a file bears the name of another case.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder. Expected a folder written by spinecls_predict.")
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".") and is_case_json(path)]
    if not paths:
        raise DatasetError(f"{folder}: no prediction found. Expected files <case>.json written by spinecls_predict.")
    cases = [read_case_json(path) for path in paths]
    for path, case in zip(paths, cases, strict=True):
        if case.identifier != path.stem:
            raise DatasetError(
                f"{path}: holds case {case.identifier!r}, expected {path.stem!r}, its own name. A renamed copy would "
                "count a case twice; remove it."
            )
    return cases


def read_case_json(path: Path) -> CasePrediction:
    """Prediction of one case; inverse of `write_case_json`, with null read as not-a-number.

    Raises
    ------
    DatasetError
        When the file is missing, is no JSON, is of another kind or version, or lacks or misspells a key.
    """
    path = Path(path)
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f'{path}: not the prediction of a case, because "format" is not "{FORMAT}".')
    if content.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format_version {content.get('format_version')!r}, expected {FORMAT_VERSION}. "
            "Predict again with this version."
        )
    names = {field.name for field in dataclasses.fields(CasePrediction)}
    # Results of earlier versions do not say which image they are of, and with which files.
    content = {"input": {}, "outputs": {}, **content}
    content.pop(_DIGEST, None)
    _check_keys(content, names | {"format", "format_version"}, str(path))
    try:
        classes = tuple(content["class_names"])
        return CasePrediction(
            identifier=str(content["identifier"]),
            class_names=classes,
            vertebrae=tuple(_vertebra(v, classes, f"{path}: vertebra {i}") for i, v in enumerate(content["vertebrae"])),
            model=content["model"],
            geometry=from_plain(Geometry | None, content["geometry"], f"{path}: geometry", DatasetError),
            warnings=tuple(map(str, content["warnings"])),
            input=dict(content["input"] or {}),
            outputs=dict(content["outputs"] or {}),
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: a value has the wrong type or number of entries: {error}.") from error


def _vertebra(content: Mapping[str, Any], class_names: tuple[str, ...], where: str) -> VertebraPrediction:
    _check_keys(content, {field.name for field in dataclasses.fields(VertebraPrediction)}, where)
    _check_keys(content["class_probabilities"], set(class_names), f"{where}, class_probabilities")
    return VertebraPrediction(
        level=str(content["level"]),
        runner_up=str(content["runner_up"]),
        relative_name=str(content["relative_name"]),
        level_probability=_number(content["level_probability"]),
        runner_up_probability=_number(content["runner_up_probability"]),
        score=_number(content["score"]),
        entropy=_number(content["entropy"]),
        visible_fraction=_number(content["visible_fraction"]),
        centre_lps=_point(content["centre_lps"]),
        box_lps=(_point(content["box_lps"][0]), _point(content["box_lps"][1])),
        class_probabilities=tuple(_number(content["class_probabilities"][name]) for name in class_names),
        prediction_set=tuple(content["prediction_set"]),
        region=content["region"],
        evidence={str(name): dict(values) for name, values in content["evidence"].items()},
        doubt=dict(content["doubt"]),
        level_probabilities=dict(content["level_probabilities"]),
        flags=tuple(content["flags"]),
    )


def _check_keys(content: Mapping[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = expected - content.keys(), content.keys() - expected
    if missing or unknown:
        raise DatasetError(
            f"{where}: missing keys: {', '.join(sorted(missing)) or 'none'}; "
            f"unknown keys: {', '.join(sorted(unknown)) or 'none'}."
        )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _point(values: Sequence[float | None]) -> tuple[float, float, float]:
    x_mm, y_mm, z_mm = (_number(value) for value in values)
    return x_mm, y_mm, z_mm


def write_table(
    folder: Path, predictions: Sequence[CasePrediction], class_names: tuple[str, ...] | None = None
) -> Path:
    """Write `predictions.csv`, one row a vertebra, and return its path.

    Columns: case, vertebra, x_mm, y_mm, z_mm (centre, LPS), class (the most probable one), p_<class> (one a class),
    prediction_set and flags (joined by `|`), entropy, p_vertebra (probability of the name), visible_fraction.

    Parameters
    ----------
    class_names : classes of the table; by default those of the first case

    Raises
    ------
    DatasetError
        When the cases do not share their classes.
    """
    classes = class_names if class_names is not None else predictions[0].class_names if predictions else ()
    for prediction in predictions:
        if prediction.class_names != classes:
            raise DatasetError(
                f"Case {prediction.identifier}: classes {', '.join(prediction.class_names) or 'none'}, but case "
                f"{predictions[0].identifier} has {', '.join(classes) or 'none'}. One table holds one set of classes."
            )
    header = [*_LEADING, *(f"p_{name}" for name in classes), *_TRAILING]
    path = Path(folder) / TABLE_NAME
    rows = [_table_row(vertebra, prediction) for prediction in predictions for vertebra in prediction.vertebrae]
    files.write_csv(path, header, rows)
    return path


def _table_row(vertebra: VertebraPrediction, prediction: CasePrediction) -> dict[str, Any]:
    probabilities = _named_probabilities(vertebra, prediction)
    known = {name: p for name, p in probabilities.items() if math.isfinite(p)}
    return {
        "case": prediction.identifier,
        "vertebra": vertebra.level,
        **{name: _cell(v, 3) for name, v in zip(("x_mm", "y_mm", "z_mm"), vertebra.centre_lps, strict=True)},
        "class": max(known, key=known.__getitem__) if known else None,
        **{f"p_{name}": _cell(p, 6) for name, p in probabilities.items()},
        "prediction_set": "|".join(vertebra.prediction_set),
        "entropy": _cell(vertebra.entropy, 6),
        "p_vertebra": _cell(vertebra.level_probability, 6),
        "visible_fraction": _cell(vertebra.visible_fraction, 4),
        "flags": "|".join(vertebra.flags),
    }


def _cell(value: float, decimals: int) -> float | None:
    return round(float(value), decimals) if math.isfinite(value) else None


def read_table(path: Path) -> list[TableRow]:
    """Rows of a `predictions.csv`.

    Raises
    ------
    DatasetError
        When the file or a column is missing or a number cannot be read; the message names the line.
    """
    rows = _read_rows(Path(path), (*_LEADING, *_TRAILING))
    return [_parse_row(row, f"{path}: line {line}") for line, row in enumerate(rows, start=2)]


def _parse_row(row: Mapping[str, str], where: str) -> TableRow:
    text = {key: files.unquoted(value) for key, value in row.items()}
    classes = [key for key in row if key.startswith("p_") and key != "p_vertebra"]
    try:
        number = {
            key: float(text[key] or "nan")
            for key in ("x_mm", "y_mm", "z_mm", "entropy", "p_vertebra", "visible_fraction", *classes)
        }
    except ValueError as error:
        raise DatasetError(f"{where}: a number was expected: {error}.") from None
    return TableRow(
        case=text["case"],
        level=text["vertebra"],
        centre_lps=(number["x_mm"], number["y_mm"], number["z_mm"]),
        class_name=text["class"],
        class_probabilities={key.removeprefix("p_"): number[key] for key in classes},
        prediction_set=_split(text["prediction_set"]),
        entropy=number["entropy"],
        level_probability=number["p_vertebra"],
        visible_fraction=number["visible_fraction"],
        flags=_split(text["flags"]),
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("|")) if text else ()


def write_failures(folder: Path, failures: Iterable[tuple[str, str]]) -> Path:
    """Write `failed.csv` with the columns case and reason; without failures it holds the header alone."""
    path = Path(folder) / FAILURES_NAME
    files.write_csv(path, ["case", "reason"], ({"case": case, "reason": reason} for case, reason in failures))
    return path


def write_referrals(folder: Path, predictions: Iterable[CasePrediction]) -> Path:
    """Write `refer.csv`, what a reader should look at again, and return its path.

    Scans in which no vertebra was found come first, with the reason `nothing_found` and empty cells; then vertebrae,
    the least sure first.

    Columns: case, vertebra, class (the most probable one), entropy, prediction_set, reasons (joined by `|`).
    """
    path = Path(folder) / REFERRALS_NAME
    predictions = list(predictions)
    rows = [{"case": p.identifier, "reasons": NOTHING_FOUND} for p in predictions if not p.vertebrae]
    referred = [(p, v) for p in predictions for v in p.vertebrae if REFER in v.flags]
    # Without classes nobody is referred, so there is a greatest probability.
    referred.sort(key=lambda pair: max(pair[1].class_probabilities))
    for prediction, vertebra in referred:
        row = _table_row(vertebra, prediction)
        rows.append(
            {name: row[name] for name in _REFERRAL_COLUMNS[:-1]}
            | {"reasons": "|".join(flag for flag in vertebra.flags if flag in REFER_REASONS)}
        )
    files.write_csv(path, list(_REFERRAL_COLUMNS), rows)
    return path


def read_failures(folder: Path) -> list[tuple[str, str]]:
    """Pairs (case, reason) of `failed.csv`; none when the file does not exist."""
    path = Path(folder) / FAILURES_NAME
    if not path.is_file():
        return []
    rows = _read_rows(path, ("case", "reason"))
    return [(files.unquoted(row["case"]), files.unquoted(row["reason"])) for row in rows]


def _read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DatasetError(f"{path}: the file does not exist.")
    rows = files.read_csv(path)
    for line, row in enumerate(rows, start=2):
        missing = [name for name in columns if row.get(name) is None]
        if missing or None in row:
            fault = f"no value for {', '.join(missing)}" if missing else "more cells than the header has columns"
            raise DatasetError(f"{path}: line {line}: {fault}. Expected the columns {', '.join(columns)}.")
    return rows
