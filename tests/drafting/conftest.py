"""Raw datasets of phantoms that tell no place of a vertebra but by their maps."""

import pytest

from spinecls import files
from spinecls.testing.phantom import write_dataset


@pytest.fixture
def write_phantoms(tmp_path):
    """Function: a raw dataset of so many phantoms, whose table has classes and no places."""

    def write(count):
        folder = write_dataset(tmp_path / "Dataset001_Phantom", count, seed=5)
        rows = files.read_csv(folder / "vertebraeTr.csv")
        kept = [name for name in rows[0] if not name.endswith("_mm")]
        files.write_csv(folder / "vertebraeTr.csv", kept, [{name: row[name] for name in kept} for row in rows])
        return folder

    return write
