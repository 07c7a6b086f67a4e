"""Records of preprocessed cases, made without an image."""

from pathlib import Path

from spinecls.geometry import Geometry
from spinecls.io.preprocessed_records import (
    NATIVE,
    NATIVE_SETTINGS,
    STORAGE_VERSION,
    NativeRecord,
    StoredArray,
    write_record,
)
from spinecls.records import AnnotationForms

GEOMETRY = Geometry(
    shape=(3, 8, 6),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(1.0, -2.0, 3.0),
    direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


def write_native(dataset_folder: Path, identifier: str, vertebrae=(), patient="p1") -> None:
    """Store the record of a case that has an image and no map."""
    record = NativeRecord(
        version=STORAGE_VERSION, identifier=identifier, inputs="a", settings=NATIVE_SETTINGS, patient=patient, site="",
        geometry=GEOMETRY, vertebrae=tuple(vertebrae), annotation_form=AnnotationForms(),
        arrays={"image": StoredArray(sha256="", bytes=0)},
    )  # fmt: skip
    write_record(dataset_folder / NATIVE, record)
