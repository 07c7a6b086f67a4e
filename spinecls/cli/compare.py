"""`spinecls_compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from spinecls.cli.common import BatchProcesses, Dataset, Device, Overrides, Plans, batch_processes, parse_settings
from spinecls.paths import DEFAULT_PLANS


def compare(
    dataset: Dataset,
    trainers: Annotated[
        list[str], typer.Option("-tr", help="Trainers; the others are compared with the first.", show_default=False)
    ],
    sizes: Annotated[
        list[str] | None, typer.Option("--patients", help="Numbers of training patients, or all [default: all].")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Draws of the training patients.")] = 5,
    configuration: Annotated[str, typer.Option("-c", help="2d, 3d_fullres or 3d_lowres.")] = "3d_fullres",
    fold: Annotated[str, typer.Option("-f", help="Fold whose validation patients all runs are tested on.")] = "0",
    plans: Plans = DEFAULT_PLANS,
    name: Annotated[str, typer.Option("--name", help="Name of the comparison's folder.")] = "comparison",
    device: Device = None,
    workers: BatchProcesses = None,
    settings: Overrides = None,
) -> None:
    """Train several trainers on the same patients, with equal steps, and say whether one is better.

    Every draw takes other training patients, smaller numbers of them being part of larger ones, and another seed. The
    same command goes on where it was stopped; with more draws it adds to the same table.
    """
    from spinecls.networks.device import pick_device
    from spinecls.trainers.comparison import ComparisonRequest, run_comparison

    chosen = pick_device(device)
    comparisons, folder = run_comparison(
        ComparisonRequest(
            dataset=dataset,
            configuration=configuration,
            trainers=trainers,
            sizes=list(dict.fromkeys(sizes or ["all"])),
            draws=draws,
            fold=fold,
            plans=plans,
            name=name,
            device=chosen,
            workers=batch_processes(workers, chosen.type),
            overrides=parse_settings(settings),
        )
    )
    print(f"\nMacro AUC, end to end, validation patients of fold {fold}; gain over {comparisons[0].arm}; 95 %")
    print(f"{'patients':>8}  {'trainer':<24} {'draws':>5}  {'AUC':<22} {'gain':<24} {'p, Holm':>7}  verdict")
    for c in comparisons:
        gain, p = ("", "") if c.gain is None else (_text(c.gain, "+.3f"), f"{c.adjusted:.3f}")
        print(f"{c.size:>8}  {c.arm:<24} {c.draws:>5}  {_text(c.area, '.3f'):<22} {gain:<24} {p:>7}  {c.verdict}")
    print(f"Tables and learning curve: {folder}")


def _text(score, form: str) -> str:
    from spinecls.evaluation.intervals import format_score

    return format_score(score.as_dict(), form)
