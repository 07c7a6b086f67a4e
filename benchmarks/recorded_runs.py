"""Whether a change of the code changes results: runs whose weights, tables and maps are recorded, and compared.

    python benchmarks/recorded_runs.py record runs.json     # before
    python benchmarks/recorded_runs.py compare runs.json    # after

Six phantoms, and four real scans where they are at hand, are checked, planned for a machine of given speed and
preprocessed. Every trainer is trained for `STEPS` steps on the phantoms, `AuxSegTrainer` on the scans; each predicts
and is evaluated, one is exported. What is written is recorded as a digest for each file: tensors of checkpoints by
name, voxels and grid of images, tables and JSON without times, paths and versions. One thread, so that sums are
rounded alike; records of another machine or torch are not comparable.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from common import DATA, roots

from spinecls.cli.main import run
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.testing.phantom import write_dataset
from spinecls.trainers import probe
from spinecls.trainers.registered import TRAINERS

STEPS = 12
SMALL = (
    "network.features=8,12,16", "patch_size=8,48,32", "reader_network.features=8,12,16", "sealed_size=8,24,24",
    "sealed_batch_size=4", "members=2",
)  # fmt: skip
MACHINE = MachineProfile(device="cpu", memory_gb=16, cores=2, gflop_per_second=60)
REAL_CASES = ("VB2_07", "VB2_09", "VB3_05", "VB3_06", "VB1_03", "VB3_10")
VOLATILE = re.compile(
    r"^finder$|seconds|time|date|began|ended|finished|version|commit|path|folder|memory|created|machine|host"
)
"""Keys and columns that tell of a run and not of its result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    probe.machine_profile = lambda *_, **__: MACHINE
    with tempfile.TemporaryDirectory() as folder:
        found = recorded(Path(folder))
    if options.what == "record":
        options.file.write_text(json.dumps(found, indent=1))
        print(f"{len(found)} files recorded")
        return
    before = json.loads(options.file.read_text())
    changed = [name for name in before if name in found and found[name] != before[name]]
    for words, names in (("differs", changed), ("gone", before.keys() - found), ("new", found.keys() - before)):
        for name in sorted(names):
            print(f"{words}: {name}")
    print(f"{len(before) - len(changed)} of {len(before)} files as before")
    sys.exit(1 if changed or before.keys() - found else 0)


def recorded(root: Path) -> dict[str, str]:
    """Digest of every file that the runs write, by its path below `root`."""
    os.environ.update(roots(root))
    write_dataset(root / "raw" / "Dataset001_Phantom", 6, seed=3, num_test=2)
    commands("1", root, sorted(TRAINERS.names()), root / "raw" / "Dataset001_Phantom" / "imagesTs")
    if (source := DATA / "Dataset001_LumbarSpA").exists():
        images = part_of(source, root / "raw" / "Dataset002_Scans")
        commands("2", root, ["AuxSegTrainer"], images)
    found = {path: digest for path in sorted(root.rglob("*")) if (digest := digest_of(path))}
    return {str(named(path, digest).relative_to(root)): digest for path, digest in found.items()}


def named(path: Path, digest: str) -> Path:
    """Stored finders are called by what they were trained from, with names of modules in it; here by their weights."""
    return path.with_name(digest) if path.parent.name == "finders" else path


def commands(dataset: str, root: Path, trainers: list[str], images: Path) -> None:
    spinecls("check", dataset)
    spinecls("plan_and_preprocess", "-d", dataset, "-c", "3d_fullres", "-np", "1", "-device", "cpu", "--set", *SMALL)
    for name in trainers:
        steps = ("--set", f"steps={STEPS}", f"reader_steps={STEPS}")
        spinecls("train", dataset, "3d_fullres", "0", "-tr", name, "-device", "cpu", *steps)
        if name.startswith("Pretrain"):
            continue
        out = root / "out" / dataset / name
        spinecls("predict", "-i", images, "-o", out, "-d", dataset, "-tr", name, "-f", "0", "-device", "cpu")
    model = next((root / "results").glob(f"Dataset00{dataset}_*/AuxSegTrainer__*"))
    split = "Ts" if dataset == "1" else "Tr"
    spinecls("evaluate", "-i", root / "out" / dataset / "AuxSegTrainer", "-gt", dataset, "--split", split)
    spinecls("export_model", "-m", model, "-o", root / f"bundle_{dataset}.spinecls", "-f", "0")


def spinecls(command: str, *words: object) -> None:
    """Run a command in this process; what it refuses is part of the record."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        try:
            run(command, [str(word) for word in words])
        except SystemExit as left:
            if left.code:
                print(command, *words, "ended with", left.code, said.getvalue()[-2000:], file=sys.__stderr__)


def part_of(source: Path, target: Path) -> Path:
    """A raw dataset of a few scans of `source`, by links; returns the folder of two of them to predict."""
    for part in ("imagesTr", "labelsTr", "structuresTr"):
        (target / part).mkdir(parents=True)
        for case in REAL_CASES:
            for path in (source / part).glob(f"{case}[_.]*"):
                (target / part / path.name).symlink_to(path.resolve())
    facts = json.loads((source / "dataset.json").read_text())
    (target / "dataset.json").write_text(json.dumps(facts | {"numTraining": len(REAL_CASES)}))
    header, *rows = (source / "vertebraeTr.csv").read_text().splitlines(keepends=True)
    (target / "vertebraeTr.csv").write_text(header + "".join(r for r in rows if r.split(",")[0] in REAL_CASES))
    images = target.parents[1] / "in"
    images.mkdir()
    for case in REAL_CASES[:2]:
        (images / f"{case}_0000.nii.gz").symlink_to((source / "imagesTr" / f"{case}_0000.nii.gz").resolve())
    return images


def digest_of(path: Path) -> str | None:
    """Digest of what a file says; None of folders, raw data, logs and of kinds of files that are not compared."""
    # The index of hashes holds the times of files.
    if not path.is_file() or "raw" in path.parts or "in" in path.parts or path.name == "input_hashes.json":
        return None
    content = hashlib.sha256()
    for piece in pieces(path):
        content.update(piece)
    return content.hexdigest()[:16]


def pieces(path: Path) -> Iterator[bytes]:
    if path.suffix == ".pt":
        yield from tensors("", torch.load(path, map_location="cpu", weights_only=True))
    elif path.name.endswith((".nii.gz", ".nrrd", ".mha")):
        image = SimpleITK.ReadImage(str(path))
        yield repr((image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())).encode()
        yield SimpleITK.GetArrayViewFromImage(image).tobytes()
    elif path.suffix == ".json":
        yield json.dumps(lasting(json.loads(path.read_text())), sort_keys=True).encode()
    elif path.suffix == ".csv":
        for row in csv.DictReader(path.open()):
            yield repr({key: value for key, value in row.items() if not VOLATILE.search(key or "")}).encode()
    elif path.suffix in (".npy", ".npz", ".b2nd"):
        yield path.read_bytes() if path.suffix != ".npz" else repr(archive(path)).encode()


def tensors(name: str, content: object) -> Iterator[bytes]:
    if isinstance(content, dict):
        for key, value in sorted(content.items(), key=lambda item: str(item[0])):
            if not VOLATILE.search(str(key)):
                yield from tensors(f"{name}.{key}", value)
    elif isinstance(content, torch.Tensor):
        yield f"{name}{tuple(content.shape)}{content.dtype}".encode()
        yield content.numpy().tobytes()


def archive(path: Path) -> dict[str, str]:
    with np.load(path) as arrays:
        return {name: hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in sorted(arrays.files)}


def lasting(content: object) -> object:
    """JSON without what tells of the run alone."""
    if isinstance(content, dict):
        return {key: lasting(value) for key, value in content.items() if not VOLATILE.search(key)}
    if isinstance(content, list):
        return [lasting(value) for value in content]
    return None if isinstance(content, str) and "/" in content else content


if __name__ == "__main__":
    main()
