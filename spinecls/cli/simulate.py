"""`spinecls_simulate`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import LARGEST_SEED, refuse_useless, typed
from spinecls.cli.outputs import refuse_other_folder, require_writable
from spinecls.errors import UsageError, counted
from spinecls.paths import dataset_number, raw_dataset_folder, raw_root

Words = list[str] | None


def simulate(
    context: typer.Context,
    target: Annotated[str, typer.Option("-o", help="New raw dataset: DatasetXXX_Name, or a path.")],
    source: Annotated[str, typer.Option("-d", help="Raw dataset with vertebra maps: number, name or path.")] = "",
    phantom: Annotated[
        int, typer.Option("--phantom", min=0, help="Draw this many phantoms, as spinecls_demo does; no -d.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of every draw.")] = 0,
    task: Annotated[str, typer.Option("--task", help="nominal, ordinal or binary.")] = "nominal",
    prevalence: Annotated[float, typer.Option("--prevalence", help="Share of diseased vertebrae.")] = 0.4,
    contrast: Annotated[str, typer.Option("--contrast", help="subtle, mid, intense or mixed.")] = "mixed",
    kinds: Annotated[Words, typer.Option("--kinds", help="Kinds of lesion [default: by sequence and task].")] = None,
    sequence: Annotated[str, typer.Option("--sequence", help="T2, STIR or T1, for data of one channel.")] = "",
    cases: Annotated[Words, typer.Option("--cases", help="Only these cases.")] = None,
    exclude_cases: Annotated[Words, typer.Option("--exclude_cases", help="All but these cases.")] = None,
    distractors: Annotated[
        float, typer.Option("--distractors", help="Share of vertebrae with a spot outside the bodies.")
    ] = 0.3,
    sham: Annotated[bool, typer.Option("--sham/--no_sham", help="List shams in lesions.csv.")] = True,
    shortcut: Annotated[Words, typer.Option("--shortcut", help="Markers m1 to m5 to plant.")] = None,
    correlation: Annotated[float, typer.Option("--shortcut_correlation", help="P(marker | diseased).")] = 0.5,
    strength: Annotated[
        float, typer.Option("--shortcut_contrast", help="Strength of m1 and m2 in marrow deviations.")
    ] = 6.0,
) -> None:
    """Put lesions into real labelled scans, as a new raw dataset; also distractors and planted shortcuts."""
    if bool(source) == bool(phantom):
        raise UsageError("Give either -d, scans to put lesions into, or --phantom, a number of phantoms to draw.")
    new_folder = new_dataset_folder(target)
    if phantom:
        others = typed(context) - {"-o", "--phantom", "--seed", "--prevalence"}
        refuse_useless(context, others, "changes real scans; --phantom goes with --seed and --prevalence only")
        return _draw_phantoms(new_folder, phantom, seed, prevalence)
    if not shortcut:
        refuse_useless(context, ("--shortcut_correlation", "--shortcut_contrast"), "needs --shortcut. Give both")
    elif not {"m1", "m2"} & set(shortcut):
        refuse_useless(context, ("--shortcut_contrast",), "is of --shortcut m1 and m2 only. Leave it out")
    from spinecls.simulation.options import SimulationOptions
    from spinecls.simulation.simulated_dataset import simulate_dataset

    options = SimulationOptions(
        seed=seed,
        task=task,
        prevalence=prevalence,
        contrast=contrast,
        kinds=tuple(kinds or ()),
        sequence=sequence,
        cases=tuple(cases or ()),
        exclude_cases=tuple(exclude_cases or ()),
        distractors=distractors,
        sham=sham,
        shortcuts=tuple(shortcut or ()),
        shortcut_correlation=correlation,
        shortcut_contrast=strength,
    )
    folder = simulate_dataset(raw_dataset_folder(source), new_folder, options)
    _say(folder)


def _draw_phantoms(folder: Path, count: int, seed: int, prevalence: float) -> None:
    from spinecls.testing.phantom import PhantomOptions, write_dataset

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists. Give the name of a new dataset.")
    write_dataset(folder, count, seed, PhantomOptions(lesion_probability=prevalence))
    print(f"{counted(count, 'phantom')} with lesions, their maps and their classes: {folder}")


def new_dataset_folder(text: str) -> Path:
    """Folder of a dataset to be written, given by full name or path.

    Raises
    ------
    UsageError
        When a name is not of the form DatasetXXX_Name, or another dataset has its number.
    """
    refuse_other_folder(Path(text))
    if len(Path(text).parts) > 1:
        require_writable(Path(text))
        return Path(text)
    if not re.fullmatch(r"Dataset\d{3}_\w[\w.+-]*", text):
        raise UsageError(f"-o {text}: expected a name such as Dataset011_Simulated, or a path with a folder.")
    root = raw_root()
    others = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    for other in others:
        if other != text and other.startswith("Dataset") and dataset_number(other) == dataset_number(text):
            raise UsageError(f"-o {text}: {other} has this number already. Choose another.")
    require_writable(root / text)
    return root / text


def _say(folder: Path) -> None:
    from spinecls.files import read_csv
    from spinecls.simulation.simulated_dataset import LESIONS, TABLE

    classes = Counter(row["class"] or "(not read)" for row in read_csv(folder / TABLE))
    inserts = read_csv(folder / LESIONS)
    strata = Counter(row["stratum"] for row in inserts if row["role"] == "lesion")
    others = Counter(
        row["kind"] if row["role"] == "marker" else "distractors"
        for row in inserts
        if row["role"] in ("marker", "distractor")
    )
    for title, counts in (("Vertebrae", classes), ("Lesions by contrast", strata), ("Elsewhere", others)):
        print(f"{title}: " + (", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"))
    print(f"Written to {folder}; what was put where: {LESIONS}. Results on simulated lesions are an upper bound.")
