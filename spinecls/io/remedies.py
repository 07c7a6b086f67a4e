"""Lines that a user can type to mend a file, with the numbers of the file filled in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from spinecls.io.affine import Affine, right_angled

BY_LIBRARY, BY_SFORM = "ITK-SNAP and 3D Slicer", "FSLeyes and nibabel"
"""Programs that show a NIfTI file where the image library reads it, and those that prefer its sform."""

_FLAT = "is a flat picture, not a volume. Export the scan as DICOM (then dcm2niix -z y FOLDER makes a .nii.gz of it)."
_UNPACK = "is an archive. Unpack it and give the images in it."
_UNFINISHED = "is an unfinished download or copy. Fetch it again."
_ARRAY = (
    "holds bare numbers, not where they lie in the patient. Write them with SimpleITK as .nii.gz, or give them to "
    "predict_array with their geometry."
)
SINGLE_DICOM = "is a single DICOM file. Give the folder of the whole series (in a dataset it is named <case>_0000)."
_FOREIGN = {
    (".hdr", ".img", ".hdr.gz", ".img.gz"): "is half of a .hdr/.img pair. Write the pair as one file: {pair}. Check in "
    "a viewer that left is left: old pairs do not say it.",
    (".mgz", ".mgh"): "is a FreeSurfer volume. Convert it: mri_convert {name} {stem}.nii.gz",
    (".mnc",): "is a MINC volume. Convert it: mnc2nii {name} {stem}.nii",
    (".dcm", ".ima", ".dicom"): SINGLE_DICOM,
    (".par", ".rec", ".v2"): "is a raw file of a scanner. Export DICOM, or convert it: dcm2niix -z y .",
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pdf", ".tif", ".tiff"): _FLAT,
    (".npy", ".npz", ".h5", ".hdf5", ".mat", ".raw", ".vtk"): _ARRAY,
    (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z"): _UNPACK,
    (".part", ".crdownload", ".tmp", ".filepart"): _UNFINISHED,
}


def foreign_format(path: Path) -> str | None:
    """What a file of another format is, by its name, and what to do with it; None for a name that says nothing."""
    name = path.name
    for endings, text in _FOREIGN.items():
        for ending in endings:
            if name.lower().endswith(ending):
                stem = name[: -len(ending)]
                pair = python_line(f"s.WriteImage(s.ReadImage('{stem}.hdr'), '{stem}.nii.gz')")
                return text.format(name=name, stem=stem, pair=pair)
    return None


def python_line(*statements: str) -> str:
    """A command for any shell; SimpleITK is there as `s`."""
    return f'python -c "import SimpleITK as s; {"; ".join(statements)}"'


def rewrite(path: Path) -> str:
    """Line that writes a file again as the image library reads it: all its fields then agree."""
    return python_line(f"s.WriteImage(s.ReadImage('{path.as_posix()}'), '{path.as_posix()}')")


def rewrite_at(path: Path, place: Affine) -> str:
    """Line that keeps the voxels of a file and writes where they lie; a shear is lost."""
    lengths = np.linalg.norm(place.matrix, axis=0)
    name = path.as_posix()
    return python_line(
        f"i = s.ReadImage('{name}')",
        f"i.SetOrigin({_numbers(place.origin)})",
        f"i.SetSpacing({_numbers(lengths)})",
        f"i.SetDirection({_numbers(right_angled(place.matrix / lengths).ravel())})",
        f"s.WriteImage(i, '{name}')",
    )


def rewrite_by_sform(path: Path) -> str:
    """Line that writes a NIfTI file again as version 1, voxel edges as its sform has them; by nibabel."""
    name = path.as_posix()
    return (
        f"python -c \"import nibabel as n, numpy as p; i = n.load('{name}'); "
        f"n.save(n.Nifti1Image(p.array(i.dataobj), i.affine), '{name}')\" (pip install nibabel)"
    )


def copy_grid(path: Path, image: Path) -> str:
    """Line that gives a map the place of its image, voxel for voxel."""
    statements = (f"i = s.ReadImage('{path}')", f"i.CopyInformation(s.ReadImage('{image}'))")
    return python_line(*statements, f"s.WriteImage(i, '{path}')")


def resample(path: Path, image: Path, interpolator: str) -> str:
    """Line that puts a map onto the grid of its image; `interpolator` as SimpleITK names it."""
    resampled = f"s.Resample(s.ReadImage('{path}'), s.ReadImage('{image}'), s.Transform(), s.{interpolator})"
    return python_line(f"s.WriteImage({resampled}, '{path}')")


def resample_sheared(path: Path, place: Affine) -> str:
    """Line that brings sheared axes to right angles; by nibabel, for the image library cannot hold them."""
    # Voxel edge along each world axis: that of the file's axis which runs most nearly along it.
    edges = np.linalg.norm(place.matrix, axis=0)[np.abs(place.matrix).argmax(axis=1)]
    name = path.as_posix()
    return (
        f"python -c \"import nibabel as n, nibabel.processing as p; n.save(p.resample_to_output(n.load('{name}'), "
        f"{_numbers(edges)}, order=1), '{name}')\" (order=0 for a map; pip install nibabel scipy)"
    )


def either(by_library: str, by_sform: str) -> str:
    """The two ways to settle a header that programs read differently."""
    return f"Keep a copy and run one. As {BY_LIBRARY} show it: {by_library}. As {BY_SFORM} show it: {by_sform}."


def _numbers(values: Iterable[float]) -> str:
    # Adding 0 turns -0 into 0.
    return f"({', '.join(f'{float(value) + 0:.9g}' for value in values)})"
