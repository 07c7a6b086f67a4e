"""`spinecls_import_model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_model(
    source: Annotated[Path, typer.Argument(help="File of spinecls_export_model.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace an installed model of the same name.")] = False,
) -> None:
    """Check a model file and install it below $spinecls_results, for spinecls_predict. No code of the file is run."""
    from spinecls.sharing.install import import_model as install

    model = install(source, force)
    print(f"Installed {model.name}, fold {' '.join(model.folds)}: {model.path}")
    print(f"Read {model.path / 'MODEL_CARD.md'}. To predict: spinecls_predict -i IN -o OUT -m {model.path}")
