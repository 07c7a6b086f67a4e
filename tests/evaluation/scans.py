"""A raw dataset of small scans, and predictions of them that are right in everything."""

import json

import numpy as np
import SimpleITK as sitk
from evaluation.conftest import make_case, make_vertebra

from spinecls.evaluation.truth import truth_of
from spinecls.io import predictions as prediction_files
from spinecls.io.dataset import load_dataset

CODES = {"L3": 22, "L4": 23, "L5": 24}
CASES = {"a": (0, 1, 0), "b": (1, 0, 0), "c": (0, 0, 1), "d": (0, 0, 0)}
CLASSES = ("normal", "oedema")


def build_split(folder, split, cases):
    """Scans of 4 x 60 x 20 mm voxels with three vertebrae 20 voxels apart along head-feet."""
    for name in (f"images{split}", f"labels{split}"):
        (folder / name).mkdir(parents=True)
    rows = ["case,vertebra,class"]
    for seed, (case, classes) in enumerate(cases.items()):
        noise = np.random.default_rng([seed, split == "Ts"]).normal(100, 10, (60, 20, 4)).astype(np.float32)
        labels = np.zeros((60, 20, 4), np.uint8)
        # The slowest axis of a file is its z, which runs from feet to head.
        for start, (level, code) in zip((45, 25, 5), CODES.items(), strict=True):
            labels[start : start + 10, 5:15, 1:3] = code
            rows.append(f"{case},{level},{CLASSES[classes[list(CODES).index(level)]]}")
        for array, path in ((noise, f"images{split}/{case}_0000.nii.gz"), (labels, f"labels{split}/{case}.nii.gz")):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((4.0, 1.0, 1.5))
            sitk.WriteImage(image, str(folder / path))
    (folder / f"vertebrae{split}.csv").write_text("\n".join(rows) + "\n")


def build_dataset(folder):
    """Dataset of the four training cases."""
    build_split(folder, "Tr", CASES)
    description = {
        "name": "Dataset009_Tiny", "channel_names": {"0": "T2"}, "classes": {"normal": 0, "oedema": 1},
        "vertebrae": CODES, "file_ending": ".nii.gz", "numTraining": len(CASES),
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_perfect(dataset, folder, *names, split="Tr", maps=True, **more):
    """Write predictions of some cases: at the true centres, with the true names and probabilities 0.9 of the truth.

    `more` are further fields of each prediction, such as `model`.
    """
    folder.mkdir(exist_ok=True)
    raw = load_dataset(dataset, verify_voxels=False, split=split)
    for truth in [truth_of(c, raw.description) for c in raw.cases if c.identifier in names]:
        found = [
            make_vertebra(level, centre, np.where(np.arange(2) == truth.classes[level], 0.9, 0.1).tolist(), CLASSES)
            for level, centre in truth.centres_lps.items()
        ]
        prediction_files.write_case_json(folder, make_case(truth.identifier, found, CLASSES, **more))
        if maps:
            source = dataset / f"labels{split}" / f"{truth.identifier}.nii.gz"
            (folder / source.name).write_bytes(source.read_bytes())
    return folder
