"""`spinecls_find_best_configuration`."""

from __future__ import annotations

from typing import Annotated

import typer

from spinecls.cli.common import Dataset


def find_best_configuration(
    dataset: Dataset,
    configurations: Annotated[list[str] | None, typer.Option("-c", help="Configurations [default: all].")] = None,
    trainers: Annotated[list[str] | None, typer.Option("-tr", help="Trainers [default: all].")] = None,
    plans: Annotated[list[str] | None, typer.Option("-p", help="Plans [default: all].")] = None,
    folds: Annotated[list[str] | None, typer.Option("-f", help="Folds [default: all that any of them has].")] = None,
    no_ensembles: Annotated[bool, typer.Option("--disable_ensembling", help="Single models only.")] = False,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Compare models that give no guarantee, too.")] = False,
) -> None:
    """Compare the trained models and pairs of them, and say what prediction should use.

    Out of fold, patients drawn together; none is called better unless the interval of the difference says so. What is
    chosen is what `spinecls_predict` takes when no model is named.
    """
    from spinecls import files
    from spinecls.evaluation.intervals import format_score
    from spinecls.inference.best_configuration import INSTRUCTIONS, BestRequest, find_best
    from spinecls.inference.models import BEST_CONFIGURATION

    judged, folder = find_best(
        BestRequest(
            dataset=dataset,
            configurations=tuple(configurations or ()),
            trainers=tuple(trainers or ()),
            plans=tuple(plans or ()),
            folds=tuple(folds or ()),
            ensembles=not no_ensembles,
            unsealed=unsealed,
        )
    )
    score = files.read_json(folder / BEST_CONFIGURATION)["score"]
    print(f"{score}, out of fold, 95 % intervals, gain over the chosen one:")
    for candidate in judged:
        gain = "" if candidate.gain is None else "  " + format_score(candidate.gain.as_dict(), "+.3f")
        print(f"  {format_score(candidate.score.as_dict())}{gain}  {candidate.verdict}: {' + '.join(candidate.models)}")
    print(f"How to predict: {folder / INSTRUCTIONS}")
