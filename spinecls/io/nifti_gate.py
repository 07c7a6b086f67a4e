"""What must hold before an image file is handed to the image library.

The library reads truncated NIfTI files without complaint and fills the missing voxels with zeros, replaces an
unusable voxel spacing by 1 mm and allocates whatever size a header claims. So the header is read here first, and the
number of bytes behind it is counted through to the end of the (compressed) stream.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls.io.affine import times
from spinecls.io.file_kinds import path_fault, readable_name, why_nothing_to_read
from spinecls.io.findings import CodedFault
from spinecls.io.nifti_forms import NiftiForms, forms_of
from spinecls.io.remedies import foreign_format, python_line, rewrite_by_sform
from spinecls.types import triple

MAX_VOXELS = 500_000_000
MAX_SIDE = 4096
_BLOCK = 1 << 20
_SURPLUS_BYTES = 64 << 20

_BYTES_OF_TYPE = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
_FLOAT_TYPES = {16: "f4", 64: "f8"}
_OTHER_TYPES = {1: "bits", 32: "complex", 1792: "complex", 2048: "complex", 128: "RGB colour", 2304: "RGBA colour"}
_TENSORS = 1005
"""Intent code under which the image library reads single numbers as tensors."""


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """The fields of a NIfTI header that decide whether the file can be trusted; axes in file order.

    `float_type` is the numpy type of floating-point voxels with their byte order, empty for whole numbers.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    version: int
    compressed: bool
    offset: int
    expected_bytes: int
    float_type: str
    forms: NiftiForms
    warnings: tuple[tuple[str, str], ...]


def check_file(path: Path) -> None:
    """Raise `CodedFault` when `path` is no file, is empty or holds text instead of an image."""
    if reason := path_fault(path):
        raise CodedFault("E301", Path(readable_name(str(path))), f"{reason}.")
    if path.is_symlink() and not path.exists():
        raise CodedFault("E301", path, "the link points to a file that does not exist. Fetch the file it stands for.")
    if not path.exists():
        raise CodedFault("E301", path, "the file does not exist.")
    if path.is_dir():
        raise CodedFault("E301", path, "is a folder, expected an image file.")
    if reason := why_nothing_to_read(path):
        raise CodedFault("E301", path, f"{reason}.")
    try:
        with open(path, "rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise CodedFault("E301", path, f"cannot be opened ({error.strerror}).") from None
    if not start:
        raise CodedFault("E301", path, "the file has zero bytes. Copy it again.")
    if start.startswith(b"version https://git-lfs"):
        size = path.stat().st_size
        raise CodedFault("E304", path, f"is a {size}-byte Git LFS pointer, not the image. Run git lfs pull.")
    if b"/annex/objects/" in start:
        raise CodedFault("E304", path, "is a git-annex pointer, not the image. Run git annex get.")
    head = start.lstrip()[:64].lower()
    if head.startswith((b"<html", b"<!doctype", b"<?xml")):
        raise CodedFault("E304", path, "starts with an HTML or XML tag: a saved web page. Download it again.")
    if (foreign := foreign_format(path)) is not None:
        raise CodedFault("E306", path, foreign)


def is_nifti(path: Path) -> bool:
    """Whether the file's name says NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _open(path: Path, compressed: bool):
    return gzip.open(path, "rb") if compressed else open(path, "rb")


def read_nifti_header(path: Path) -> NiftiHeader:
    """Parse and judge the header of a NIfTI-1 or NIfTI-2 file.

    Raises
    ------
    CodedFault
        E30x for a damaged or foreign file, E40x for a header that describes no usable volume.
    """
    ending = path.name[path.name.lower().rindex(".nii") :]
    if ending not in (ending.lower(), ending.upper()):
        text = f"the image library reads no ending {ending}. Rename it to {path.name[: -len(ending)]}{ending.lower()}."
        raise CodedFault("E308", path, text)
    with open(path, "rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    named_compressed = path.name.lower().endswith(".gz")
    if compressed and not named_compressed:
        raise CodedFault("E305", path, "is compressed, but its name ends with .nii. Rename it to .nii.gz.")
    try:
        with _open(path, compressed) as stream:
            header = stream.read(540)
    except EOFError:
        raise CodedFault("E302", path, "the compressed data stop within the header. Copy the file again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CodedFault("E303", path, f"the compressed data cannot be read ({error}). Copy the file again.") from None
    fields = _parse(path, header)
    warnings = []
    if named_compressed and not compressed:
        warnings.append(("W305", "is named .nii.gz but is not compressed"))
    shape, spacing_mm = _judged_grid(path, fields)
    warnings += _scaling_warnings(fields)
    _require_plain_numbers(path, fields)
    forms = forms_of(path, fields, shape)
    # A start before the end of the header is read as the first place behind it.
    offset = max(int(fields["offset"]), fields["header_bytes"] + 4)
    voxels = math.prod(shape)
    return NiftiHeader(
        shape=shape,
        spacing_mm=spacing_mm,
        version=1 if fields["header_bytes"] == 348 else 2,
        compressed=compressed,
        offset=offset,
        expected_bytes=offset + voxels * _bytes_a_voxel(path, fields["datatype"]),
        float_type=fields["order"] + _FLOAT_TYPES[fields["datatype"]] if fields["datatype"] in _FLOAT_TYPES else "",
        forms=forms,
        warnings=(*warnings, *forms.notes),
    )


def _parse(path: Path, header: bytes) -> dict:
    """Fields of either NIfTI version and byte order."""
    if len(header) < 348:
        raise CodedFault("E302", path, f"only {len(header)} bytes, a header alone has 348. Copy the file again.")
    for order in "<>":
        size = struct.unpack_from(order + "i", header)[0]
        if size == 348:
            if header[344:347] == b"ni1":
                raise CodedFault("E306", path, "is the header of a .hdr/.img pair. Save it as one .nii.gz file.")
            if header[344:347] != b"n+1":
                raise CodedFault("E304", path, f"not a NIfTI file: its mark is {header[344:348]!r}, expected b'n+1'.")
            return _fields(
                header,
                order,
                dims=("8h", 40),
                types=70,
                pixdim=("8f", 76),
                offset=("f", 108),
                codes=("2h", 252),
                quaternion=("6f", 256),
                rows=("12f", 280),
                scaling=("2f", 112),
                unit=("b", 123),
                intent=("h", 68),
            )
        if size == 540:
            if len(header) < 540:
                raise CodedFault("E302", path, f"only {len(header)} bytes, a header alone has 540. Copy it again.")
            return _fields(
                header,
                order,
                dims=("8q", 16),
                types=12,
                pixdim=("8d", 104),
                offset=("q", 168),
                codes=("2i", 344),
                quaternion=("6d", 352),
                rows=("12d", 400),
                scaling=("2d", 176),
                unit=("i", 500),
                intent=("i", 504),
            )
    raise CodedFault("E304", path, f"not a NIfTI file: it starts with {header[:8]!r}.")


def _fields(header, order, *, dims, types, pixdim, offset, codes, quaternion, rows, scaling, unit, intent) -> dict:
    def unpack(form, position):
        return struct.unpack_from(order + form, header, position)

    qform_code, sform_code = unpack(*codes)
    return {
        "order": order,
        "header_bytes": unpack("i", 0)[0],
        "dims": unpack(*dims),
        "datatype": unpack("h", types)[0],
        "pixdim": unpack(*pixdim),
        "offset": unpack(*offset)[0],
        "qform_code": qform_code,
        "sform_code": sform_code,
        "quaternion": unpack(*quaternion),
        "rows": np.array(unpack(*rows)).reshape(3, 4),
        "scaling": unpack(*scaling),
        # The lowest three bits are the unit of length, the next three that of time.
        "unit": unpack(*unit)[0] & 7,
        "intent": unpack(*intent)[0],
    }


def _judged_grid(path: Path, fields: dict) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    dims = fields["dims"]
    count = dims[0]
    if not 1 <= count <= 7:
        raise CodedFault("E401", path, f"the header says {count} dimensions. The file is damaged.")
    sides = list(dims[1 : count + 1])
    if min(sides) < 1 or max(sides) > MAX_SIDE:
        raise CodedFault("E401", path, f"the header says {times(sides)} voxels, expected sides of 1 to {MAX_SIDE}.")
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) == 5 and sides[3] == 1:
        kind = "a colour image" if fields["datatype"] == 2 and sides[4] in (3, 4) else "a field of vectors"
        raise CodedFault("E403", path, f"{kind} ({sides[4]} values a voxel), {one_value(path)}")
    if len(sides) > 3:
        raise CodedFault("E402", path, several_volumes(path, sides))
    if len(sides) < 3:
        text = f"a flat image of {times(sides)} voxels, expected a volume. "
        if len(sides) == 2 and dims[3] > 1:
            text += f"dim[0] says 2 dimensions, dim[3] {dims[3]} slices: the header is damaged. "
        raise CodedFault("E402", path, text + "Convert the whole series, not one slice.")
    if math.prod(sides) > MAX_VOXELS:
        raise CodedFault("E401", path, f"the header says {times(sides)} voxels, at most {MAX_VOXELS} are read.")
    spacing = fields["pixdim"][1:4]
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        text = times(spacing)
        text = f"the header says a voxel spacing of {text} mm, expected numbers above 0. "
        raise CodedFault("E404", path, text + _edges_remedy(path, fields))
    if not (math.isfinite(fields["offset"]) and 0 <= fields["offset"] < 1 << 30):
        raise CodedFault("E303", path, f"the header says the voxels start at byte {fields['offset']}.")
    return triple(sides), triple(float(value) for value in spacing)


def _edges_remedy(path: Path, fields: dict) -> str:
    """How to mend a pixdim; the columns of an sform tell the edges too."""
    rows = fields["rows"]
    edges = np.linalg.norm(rows[:, :3], axis=0)
    if not fields["sform_code"] or not np.all(np.isfinite(rows)) or np.any(edges == 0):
        return "Convert it again from DICOM."
    return f"Its sform says {times(edges)} mm. Keep a copy and run: {rewrite_by_sform(path)}"


def _bytes_a_voxel(path: Path, datatype: int) -> int:
    if datatype not in _BYTES_OF_TYPE:
        kind = _OTHER_TYPES.get(datatype, f"type {datatype}")
        raise CodedFault("E403", path, f"its voxels are {kind}, {one_value(path)}")
    return _BYTES_OF_TYPE[datatype]


def one_value(path: Path) -> str:
    """What is expected of voxels that hold several numbers, and how to keep one of them."""
    name = path.as_posix()
    line = python_line(f"i = s.ReadImage('{name}')", f"s.WriteImage(s.VectorIndexSelectionCast(i, 0), '{name}')")
    text = "expected one real number a voxel. Export the scan itself (a colour image is a screenshot or a fusion), or "
    return text + f"keep a copy and take the first number of each voxel: {line}"


def several_volumes(path: Path, sides: Sequence[int]) -> str:
    """What a file of several volumes is, and how to save one of them."""
    name, rest = path.as_posix(), ", 0" * (len(sides) - 3)
    line = python_line(f"i = s.ReadImage('{name}')", f"s.WriteImage(i[:, :, :{rest}], '{name}')")
    text = f"{len(sides)}-dimensional ({times(sides)}), {math.prod(sides[3:])} volumes, expected one. Save one volume "
    return text + f"a file; to keep the first one only, keep a copy and run: {line}"


def _scaling_warnings(fields: dict) -> list[tuple[str, str]]:
    if all(math.isfinite(value) for value in fields["scaling"]):
        return []
    slope, intercept = fields["scaling"]
    return [("W420", f"its scl_slope is {slope:g} and scl_inter {intercept:g}; the numbers are taken as stored")]


def _require_plain_numbers(path: Path, fields: dict) -> None:
    if fields["intent"] == _TENSORS:
        line = f"import nibabel as n; i = n.load('{path.as_posix()}'); i.header.set_intent('none'); "
        text = "its intent_code 1005 says that voxels are tensors, but they are single numbers. Keep a copy and run: "
        text += f"python -c \"{line}n.save(i, '{path.as_posix()}')\" (pip install nibabel)"
        raise CodedFault("E420", path, text)


def check_nifti_bytes(path: Path, header: NiftiHeader) -> list[tuple[str, str]]:
    """Read the bytes to the end of the stream, so that truncation, damage and numbers that are not finite are found.

    The image library turns not-a-number and infinity of a NIfTI file into 0, so they can be seen only here.

    Returns
    -------
    Coded warnings

    Raises
    ------
    CodedFault
        E302 when voxels are missing, E303 when the check sum or the stream is wrong or far too long, E501 when
        voxels are not finite.
    """
    count = bad = 0
    try:
        with _open(path, header.compressed) as stream:
            count += len(stream.read(header.offset))
            while block := stream.read(_BLOCK):
                voxel_bytes = block[: max(0, header.expected_bytes - count)]
                bad += _not_finite(voxel_bytes, header.float_type)
                count += len(block)
                if count > header.expected_bytes + _SURPLUS_BYTES:
                    text = f"holds far more bytes than its header says ({header.expected_bytes})."
                    raise CodedFault("E303", path, text)
    except EOFError:
        _require_bytes(path, count, header.expected_bytes)
        raise CodedFault("E302", path, "the compressed data stop before their end. Copy the file again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CodedFault("E303", path, f"the compressed data are damaged ({error}). Copy the file again.") from None
    _require_bytes(path, count, header.expected_bytes)
    if bad:
        text = f"{bad} of {math.prod(header.shape)} voxels are not finite. Repair the image."
        raise CodedFault("E501", path, text)
    surplus = (count - header.expected_bytes) // (header.expected_bytes - header.offset)
    if surplus > 0:
        return [("W426", f"holds the bytes of {surplus + 1} volumes, its header tells of one; the first is taken")]
    return []


def _not_finite(block: bytes, float_type: str) -> int:
    """Number of voxels in a block that are not finite; only the last block may end within a voxel."""
    if not float_type:
        return 0
    size = np.dtype(float_type).itemsize
    values = np.frombuffer(block, float_type, count=len(block) // size)
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def _require_bytes(path: Path, count: int, expected: int) -> None:
    if count < expected:
        share = 100 * count / expected
        raise CodedFault("E302", path, f"only {share:.0f} % of the voxels are in the file. Copy it again.")
