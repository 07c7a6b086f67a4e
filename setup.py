"""Installation of spinecls; settings of the tools are in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
# The file alone: the package asks for libraries that are only about to be installed.
COMMANDS = runpy.run_path(str(HERE / "spinecls" / "cli" / "commands.py"))["COMMANDS"]

setup(
    name="spinecls",
    version="0.1.0",
    description="Locate, name and classify every vertebra of a spine MRI, the class from the vertebra's own voxels",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["spinecls", "spinecls.*"]),
    package_data={"spinecls": ["py.typed", "models/*.spinecls"]},
    install_requires=[
        "torch>=2.10",
        "dynamic-network-architectures>=0.4,<0.5",
        "batchgenerators>=0.25.1",
        "acvl-utils>=0.2.3,<0.3",
        "SimpleITK>=2.3",
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-image>=0.22",
        "scikit-learn>=1.4",
        "blosc2>=3.0",
        "filelock>=3.12",
        "psutil>=5.9",
        "matplotlib>=3.8",
        "typer>=0.12",
        "tqdm>=4.66",
        "safetensors>=0.4",
    ],
    extras_require={
        "verify": ["captum>=0.8"],
        "test": ["pytest>=8", "pytest-xdist>=3.5", "pytest-cov>=5", "crepes>=0.9", "ruff>=0.6", "mypy>=1.11"],
    },
    entry_points={
        "console_scripts": [
            "spinecls = spinecls.cli.main:umbrella",
            *(f"spinecls_{command} = spinecls.cli.main:{command}" for command in COMMANDS),
        ]
    },
)
