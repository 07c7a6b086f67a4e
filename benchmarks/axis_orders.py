"""One image in many axis orders and an oblique direction: does the prediction stay the same in the world?

    python benchmarks/axis_orders.py --model RESULTS/Dataset001_LumbarSpA/AuxSegTrainer__spineclsPlans__3d_fullres

Writes the image in nine axis orders and turned by an oblique rotation, predicts all by `spinecls_predict`, and prints
the largest distance of a centre from that of the first order, and whether all levels agree.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from common import DATA, provenance, spinecls

ORDERS = ("PIR", "RAS", "LPS", "AIL", "SRP", "IAL", "LSA", "PLS", "RIA")
TURN = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--image", type=Path, default=DATA / "Dataset001_LumbarSpA/imagesTr/VB1_15_0000.nii.gz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_variants(options.image, folder / "in")
        model = ("-m", options.model, "-f", options.fold)
        spinecls("predict", "-i", folder / "in", "-o", folder / "out", *model, "--disable_tta")
        compare(folder / "out")
    print(provenance())


def write_variants(path: Path, folder: Path) -> None:
    folder.mkdir()
    image = sitk.ReadImage(str(path))
    for code in ORDERS:
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(folder / f"{code}.nii.gz"))
    turned = sitk.DICOMOrient(image, "PIR")
    matrix = np.array(TURN.GetMatrix()).reshape(3, 3)
    turned.SetOrigin(tuple(matrix @ np.array(turned.GetOrigin())))
    turned.SetDirection(tuple((matrix @ np.array(turned.GetDirection()).reshape(3, 3)).ravel()))
    sitk.WriteImage(turned, str(folder / "oblique.nii.gz"))


def compare(folder: Path) -> None:
    matrix = np.array(TURN.GetMatrix()).reshape(3, 3)
    reference = json.loads((folder / f"{ORDERS[0]}.json").read_text())["vertebrae"]
    print("| order | vertebrae | levels as in the first | largest distance, mm | largest change of a probability |")
    print("|---|---|---|---|---|")
    for name in (*ORDERS, "oblique"):
        found = json.loads((folder / f"{name}.json").read_text())["vertebrae"]
        same = [v["level"] for v in found] == [v["level"] for v in reference]
        turn = matrix if name == "oblique" else np.eye(3)
        away = [
            np.linalg.norm(np.array(a["centre_lps"]) - turn @ np.array(b["centre_lps"]))
            for a, b in zip(found, reference, strict=False)
        ]
        change = [
            abs(a["class_probabilities"][k] - b["class_probabilities"][k])
            for a, b in zip(found, reference, strict=False)
            for k in a["class_probabilities"]
        ]
        print(f"| {name} | {len(found)} | {same} | {max(away):.2e} | {max(change):.2e} |")


if __name__ == "__main__":
    main()
