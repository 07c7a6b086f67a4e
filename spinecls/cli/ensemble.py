"""`spinecls_ensemble`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinecls.errors import counted


def ensemble(
    sources: Annotated[
        list[Path], typer.Option("-i", help="Folders of spinecls_predict --save_probabilities.", show_default=False)
    ],
    target: Annotated[Path, typer.Option("-o", help="Folder for the results.", show_default=False)],
) -> None:
    """Average what several models predicted of the same images."""
    from spinecls.cli.outputs import refuse_other_folder, require_writable

    refuse_other_folder(target)
    require_writable(target)
    from spinecls.inference.averaged_predictions import ensemble_folders

    done = ensemble_folders(sources, target)
    count = sum(len(case.vertebrae) for case in done)
    print(f"{counted(len(done), 'case')}, {counted(count, 'vertebra', 'vertebrae')}: {target / 'predictions.csv'}")
