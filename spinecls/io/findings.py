"""Faults of a raw dataset: their codes, how they are collected and how they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spinecls.errors import DatasetError, counted

TITLES: dict[str, str] = {
    "101": "dataset.json cannot be read",
    "102": "unknown key in dataset.json",
    "103": "required key missing in dataset.json",
    "104": "value in dataset.json cannot be used",
    "105": "classes cannot be used",
    "106": "codes in dataset.json cannot be used",
    "107": "lesion structure without structure or class",
    "108": "older nnU-Net format",
    "109": "number of cases differs from numTraining",
    "110": "image folder missing or empty",
    "111": "no annotation at all",
    "120": "test cases without classes",
    "201": "unsafe case identifier",
    "202": "channel missing",
    "203": "channel not declared",
    "204": "one case in several files",
    "205": "case names differ only in case or spelling",
    "206": "other file ending than declared",
    "207": "map without image",
    "208": "no channel suffix",
    "209": "hidden files",
    "220": "test image is a training image",
    "221": "test image is among the unlabelled scans",
    "222": "name of a test and a training case",
    "223": "patient of a test and a training case",
    "301": "file cannot be opened",
    "302": "file truncated",
    "303": "file damaged",
    "304": "not an image",
    "305": "compression and file ending disagree",
    "306": "unsupported image format",
    "307": "segmentation of 3D Slicer",
    "308": "file ending in mixed case",
    "401": "impossible dimensions",
    "402": "not a volume",
    "403": "not one real number a voxel",
    "404": "impossible voxel spacing",
    "405": "axes not at right angles, or directions unusable",
    "406": "implausible spacing or field of view",
    "407": "orientation unknown",
    "408": "few slices",
    "409": "not a sagittal stack",
    "410": "other grid than the image: size",
    "411": "other grid than the image: spacing",
    "412": "other grid than the image: position",
    "413": "other grid than the image: direction",
    "414": "channels on different grids",
    "415": "qform and sform disagree",
    "416": "orientation differs between cases",
    "417": "voxel edges in the header disagree",
    "418": "unit of length is not the millimetre",
    "419": "warning of the image library",
    "420": "header field out of range",
    "423": "fields of orientation or voxel size disagree",
    "424": "slice distance of the DICOM header differs from the positions",
    "425": "map lies a fraction of a voxel away",
    "426": "more bytes than the header says",
    "501": "not finite voxel values",
    "502": "constant image",
    "503": "mostly empty image",
    "504": "computed tomography",
    "505": "same image under two patients",
    "506": "same image twice",
    "507": "extreme voxel values",
    "508": "clipped voxel values",
    "509": "empty slices",
    "510": "few different values",
    "601": "label values are not whole numbers",
    "602": "negative label values",
    "603": "unknown code in a map",
    "604": "empty map",
    "605": "levels upside down",
    "606": "levels out of order",
    "607": "missing level between two levels",
    "608": "vertebra in separate parts",
    "609": "tiny vertebra",
    "610": "readers' maps show other levels",
    "611": "map is the image",
    "612": "label values too large",
    "613": "not a map of chances",
    "614": "names that the sizes contradict",
    "615": "several vertebrae under one code",
    "701": "table cannot be read",
    "702": "column missing in the table",
    "703": "unknown column in the table",
    "704": "unknown vertebra",
    "705": "unknown class",
    "706": "row without case",
    "707": "row of a case without image",
    "708": "number cannot be read",
    "709": "value out of range",
    "710": "one reader, two classes",
    "711": "vertebra of the table missing in the map",
    "712": "patient or site not unique",
    "713": "point or box incomplete or reversed",
    "714": "point or box outside the image",
    "715": "two positions of one vertebra",
    "716": "class never read",
    "717": "few patients of a class",
    "718": "vertebra without class",
    "719": "no position in the whole dataset",
    "720": "row repeated",
    "721": "patients not given",
    "722": "point or box away from its vertebra in the map",
    "723": "two vertebrae at one place",
    "724": "positions that no column has",
    "725": "positions beside the middle of the images",
    "726": "patient not given for some cases",
    "727": "one name in several spellings",
    "728": "table without rows",
    "729": "names of files as cases",
    "730": "class numbers without a 0",
    "731": "class number with two meanings",
    "732": "repeated rows without a reader",
    "733": "contradicting rows without a reader",
    "734": "box of a size that no vertebra has",
    "735": "box over the centre of another vertebra",
    "736": "two cases with the same positions",
    "737": "a name that a spreadsheet spoiled or that names nobody",
    "738": "names that the image does not seem to show",
    "801": "annotationsTr.json cannot be used",
    "802": "unknown annotation form",
    "803": "annotation form of an unknown case",
    "804": "form probability and map of chances do not go together",
    "901": "no DICOM series",
    "902": "several DICOM series",
    "903": "slice missing",
    "904": "slice repeated",
    "905": "slices unevenly spaced",
    "906": "slices differ in size or orientation",
    "907": "slice cannot be read",
    "908": "multi-frame DICOM",
    "909": "slice without position",
}
"""What each number means; `E` before it is an error, `W` a warning."""


class CodedFault(DatasetError):
    """One fault with its code; `detail` is the text without the place."""

    def __init__(self, code: str, place: object, detail: str) -> None:
        super().__init__(f"[{code}] {place}: {detail}")
        self.code = code
        self.place = str(place)
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of one case (or of the dataset, `case` empty). `code` starts with E (error) or W (warning)."""

    code: str
    text: str
    case: str = ""

    @property
    def is_error(self) -> bool:
        return self.code.startswith("E")

    @property
    def title(self) -> str:
        return TITLES[self.code[1:]]

    @property
    def line(self) -> str:
        """The finding in one line."""
        return f"[{self.code}] {self.case + ': ' if self.case else ''}{self.text}"


def error(number: str, text: str, case: str = "") -> Finding:
    """Finding that forbids the use of the dataset."""
    return Finding(code="E" + number, text=text, case=case)


def warning(number: str, text: str, case: str = "") -> Finding:
    """Finding that is worth a look."""
    return Finding(code="W" + number, text=text, case=case)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings of a dataset, identifiers of its cases and test cases, and what was understood (see `inventory`)."""

    folder: str
    findings: tuple[Finding, ...]
    cases: tuple[str, ...] = ()
    test_cases: tuple[str, ...] = ()
    inventory: Mapping = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.is_error)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.is_error)

    def as_dict(self) -> dict:
        """Plain types for JSON."""
        return {
            "dataset": self.folder,
            "cases": len(self.cases),
            "test_cases": len(self.test_cases),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "inventory": dict(self.inventory),
            "findings": [{"code": f.code, "title": f.title, "case": f.case, "text": f.text} for f in self.findings],
        }


class DatasetFaults(DatasetError):
    """All errors of a dataset at once; `findings` holds them."""

    def __init__(self, folder: object, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(_text(folder, self.findings))


def grouped(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by code, errors first, codes in order."""
    groups: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda f: (not f.is_error, f.code, f.case)):
        groups.setdefault(finding.code, []).append(finding)
    return groups


def _text(folder: object, findings: tuple[Finding, ...]) -> str:
    lines = [f"{folder}: {counted(len(findings), 'error')}. Correct the data and run spinecls_check again."]
    for code, group in grouped(findings).items():
        lines.append(f"[{code}] {group[0].title} ({len(group)})")
        lines += [f"  {finding.case + ': ' if finding.case else ''}{finding.text}" for finding in group]
    return "\n".join(lines)
