"""A trained network on disk: tensors and one JSON text, loaded without ever running code from the file."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from spinecls import __version__
from spinecls.errors import ModelError, PlanError
from spinecls.files import atomic_path
from spinecls.networks.model import SpineModel
from spinecls.planning.plan import NetworkPlan, from_plain


@dataclass(frozen=True)
class ModelSpec:
    """What rebuilds a network: no trainer and no task is needed."""

    network: NetworkPlan
    image_channels: int
    num_classes: int
    dense_heads: dict[str, int]
    pooling: str = "lse"
    ordinal: bool = False

    def build(self) -> SpineModel:
        """Network with random weights."""
        return SpineModel(
            self.network, self.image_channels, self.num_classes, self.dense_heads, self.pooling, self.ordinal
        )


def save_checkpoint(path: Path, content: dict) -> None:
    """Write a dictionary of tensors and plain values whole, or not at all."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """Content of a checkpoint.

    Raises
    ------
    ModelError
        When the file is missing, damaged (its checksums are verified) or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ModelError(f"{path}: damaged (checksum of {damaged} is wrong). Train again, or copy the file again.")
        return torch.load(path, map_location=device, weights_only=True)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({type(error).__name__}: {error}).") from None
    except Exception as error:
        # pickle.UnpicklingError, raised for a file that asks for more than tensors, among others of torch's own.
        raise ModelError(f"{path}: refused, it holds more than tensors and plain values ({error}).") from None


def model_content(model: SpineModel, spec: ModelSpec, kept_heads: set[str], **details: str | float | int) -> dict:
    """What a final checkpoint holds: the network without the heads that only training needed."""
    dropped = ("auxiliary.", *(f"heads.{name}." for name in spec.dense_heads if name not in kept_heads))
    weights = {key: value.cpu() for key, value in model.state_dict().items() if not key.startswith(dropped)}
    plain = {
        "network": spec.network.__dict__,
        "image_channels": spec.image_channels,
        "num_classes": spec.num_classes,
        "dense_heads": {name: n for name, n in spec.dense_heads.items() if name in kept_heads},
        "pooling": spec.pooling,
        "ordinal": spec.ordinal,
    }
    return {"weights": weights, "spec": json.dumps(plain), "spinecls_version": __version__, **details}


def build_model(content: dict, where: Path) -> SpineModel:
    """Network of a final checkpoint, in evaluation mode."""
    try:
        plain = json.loads(content["spec"])
        weights = content["weights"]
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"{where}: not a spinecls model (no network description in it).") from None
    try:
        spec = ModelSpec(
            from_plain(NetworkPlan, plain["network"], f"{where}: network"),
            int(plain["image_channels"]),
            int(plain["num_classes"]),
            {str(name): int(n) for name, n in plain["dense_heads"].items()},
            # Checkpoints of earlier versions do not name these; there was one pooling, and no grades.
            str(plain.get("pooling", "lse")),
            bool(plain.get("ordinal", False)),
        )
        model = spec.build()
        model.load_state_dict(weights)
    except (KeyError, TypeError, AttributeError, PlanError) as error:
        raise ModelError(f"{where}: its network description is faulty ({error}).") from None
    except RuntimeError as error:
        raise ModelError(f"{where}: the weights do not fit the network described in the file: {error}") from None
    return model.eval()
