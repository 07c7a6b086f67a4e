"""`spinecls_loosen`."""

from __future__ import annotations

from typing import Annotated

import typer

from spinecls.cli.common import LARGEST_SEED, refuse_useless
from spinecls.cli.simulate import new_dataset_folder
from spinecls.errors import UsageError
from spinecls.paths import raw_dataset_folder

OF_FORM = {
    "--slack_mm": ("box",),
    "--tolerance_mm": ("coarse",),
    "--jitter_mm": ("point",),
    "--scribble_share": ("scribble",),
    "--every": ("slices",),
}
"""Options that only some forms have."""


def loosen(
    context: typer.Context,
    source: Annotated[str, typer.Option("-d", help="Raw dataset with exact maps: number, name or path.")],
    target: Annotated[str, typer.Option("-o", help="New raw dataset: DatasetXXX_Name, or a path.")],
    form: Annotated[str, typer.Option("--form", help="box, point, coarse, scribble, slices or none.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="Which maps: vertebrae or structures.")] = "vertebrae",
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of every draw.")] = 0,
    slack: Annotated[
        list[float] | None, typer.Option("--slack_mm", help="Least and greatest slack of a box [default: 0 0, tight].")
    ] = None,
    tolerance: Annotated[float, typer.Option("--tolerance_mm", help="Greatest offset of a coarse outline.")] = 3.0,
    jitter: Annotated[float, typer.Option("--jitter_mm", help="Standard deviation of a point's error.")] = 3.0,
    share: Annotated[
        float, typer.Option("--scribble_share", help="Length of a stroke against a label's voxels on a slice.")
    ] = 0.15,
    every: Annotated[int, typer.Option("--every", help="Draw one slice in so many.")] = 4,
    exact: Annotated[int, typer.Option("--exact_cases", help="Cases, drawn at random, that stay exact.")] = 0,
    noise: Annotated[float, typer.Option("--class_noise", help="Share of the classes replaced by another.")] = 0.0,
    sets: Annotated[float, typer.Option("--class_sets", help="Share of the classes that become one of two.")] = 0.0,
    readers: Annotated[
        list[float] | None, typer.Option("--readers", help="Readers: the chance that each is right, e.g. 0.9 0.8.")
    ] = None,
) -> None:
    """Make the annotation of a dataset looser: what would a physician with less time have drawn?

    Writes a raw dataset with the same images, and loosening.csv: how long each form takes to draw.
    """
    from spinecls.simulation.loose_dataset import TIMES, LoosenOptions, loosen_dataset

    for option, forms in OF_FORM.items():
        if form not in forms:
            refuse_useless(context, (option,), f"goes with --form {' or '.join(forms)} only. Leave it out")
    if not form:
        refuse_useless(context, ("--kind", "--exact_cases"), "needs --form, which says what is drawn. Give both")
    if slack is not None and len(slack) != 2:
        raise UsageError(f"--slack_mm {' '.join(map(str, slack))}: expected two numbers.")
    least_mm, greatest_mm = slack or (0.0, 0.0)
    options = LoosenOptions(
        form=form,
        kind=kind,
        seed=seed,
        slack_mm=(least_mm, greatest_mm),
        tolerance_mm=tolerance,
        jitter_mm=jitter,
        scribble_share=share,
        every=every,
        exact_cases=exact,
        class_noise=noise,
        class_sets=sets,
        reader_accuracy=tuple(readers or ()),
    )
    folder = new_dataset_folder(target)
    seconds = loosen_dataset(raw_dataset_folder(source), folder, options)
    if seconds["exact"]:
        loose, whole = seconds["loose"] / 3600, seconds["exact"] / 3600
        print(f"Drawing: {loose:.1f} h instead of {whole:.1f} h ({loose / whole:.0%}); {TIMES}")
    print(f"Written to {folder}")
