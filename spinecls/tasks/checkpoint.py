"""A trained network on disk: tensors and one JSON text, loaded without ever running code from the file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spinecls import __version__
from spinecls.errors import ModelError, PlanError
from spinecls.files import atomic_path, text_hash
from spinecls.networks.finder import Finder
from spinecls.networks.model import FINDER, SpineModel
from spinecls.networks.reader import Reader
from spinecls.plain import from_plain
from spinecls.planning.meaning import meaning
from spinecls.planning.plan import Configuration, NetworkPlan, Plan

EARLIER_SEAL = "S2"
"""Sealing level of checkpoints that do not name it."""

MEANING = "meaning"
"""Key of a final checkpoint: JSON text of what its outputs mean (`planning.meaning`).

What the network description and `seal` say stands there alone.
"""


TRAINING_ONLY = re.compile(r"([^.]+\.){1,2}auxiliary\.|readers\.\d+\.heads\.")
"""Names of weights that no prediction needs: parts of tasks, and all further heads of readers."""

LEARNED_FROM = "digest of the training images"
"""Part of the meaning that says which fold a checkpoint is of; the folds of a model differ in it."""


def learned_from(plan: Plan) -> dict[str, str]:
    """That part, by a fold's plan; empty where the plan does not say."""
    return {} if plan.training_images is None else {LEARNED_FROM: text_hash(list(plan.training_images))[:16]}


def meaning_text(plan: Plan, configuration: Configuration) -> str:
    """What a final checkpoint says of the meaning of its outputs, and of which fold it is."""
    parts = meaning(plan, configuration)
    networks = (part for part in parts if part.startswith(("network.", "reader_network.")))
    by_network = ("pooling", "class_order", "seal", "members", *networks)
    own = {part: value for part, value in parts.items() if part not in by_network}
    return json.dumps(own | learned_from(plan))


@dataclass(frozen=True)
class ModelSpec:
    """What rebuilds a model: no trainer and no task is needed.

    `network` and `dense_heads` are the finder's, `reader` and `reader_heads` those of each of the `members` readers,
    of which there are none without two classes.
    """

    network: NetworkPlan
    reader: NetworkPlan
    members: int
    image_channels: int
    num_classes: int
    dense_heads: dict[str, int]
    reader_heads: dict[str, int]
    pooling: str = "lse"
    ordinal: bool = False

    def build(self, seed: int | None = None) -> SpineModel:
        """Model with random weights.

        Parameters
        ----------
        seed : each network has a stream of its own, so the finder is the same whatever the readers are; None = as
            torch's generator stands
        """
        with seeded(seed, 0):
            finder = Finder(self.network, self.image_channels, self.dense_heads)
        readers = []
        for member in range(self.members if self.num_classes > 1 else 0):
            with seeded(seed, member + 1):
                readers.append(
                    Reader(
                        self.reader,
                        self.image_channels,
                        self.num_classes,
                        self.reader_heads,
                        self.pooling,
                        self.ordinal,
                    )
                )
        return SpineModel(finder, readers)


@contextlib.contextmanager
def seeded(seed: int | None, part: int) -> Iterator[None]:
    """Draw the weights of a part of a model from a stream of its own; torch's generator stays as it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence([seed, part]).generate_state(1)[0]))
        yield


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
    """What a final checkpoint holds: the networks without the heads that only training needed."""
    dropped = tuple(f"{FINDER}.heads.{name}." for name in spec.dense_heads if name not in kept_heads)
    weights = {
        key: value.cpu()
        for key, value in model.state_dict().items()
        if not key.startswith(dropped) and not TRAINING_ONLY.match(key)
    }
    kept = {name: channels for name, channels in spec.dense_heads.items() if name in kept_heads}
    plain = dataclasses.asdict(dataclasses.replace(spec, dense_heads=kept, reader_heads={}))
    return {"weights": weights, "spec": json.dumps(plain), "spinecls_version": __version__, **details}


def read_spec(content: Mapping[str, Any], where: Path | str) -> ModelSpec:
    """Description of the networks in a final checkpoint.

    Raises
    ------
    ModelError
        When there is none, or a faulty one, or one of an earlier version.
    """
    try:
        plain = json.loads(content["spec"])
    except (KeyError, ValueError, TypeError):
        raise ModelError(f"{where}: not a spinecls model (no network description in it).") from None
    if isinstance(plain, dict) and "network" in plain and "reader" not in plain:
        raise ModelError(
            f"{where}: of an earlier version ({content.get('spinecls_version', 'unknown')}), in which one network did "
            "all; now finder and readers are networks of their own. Train again, or predict with that version."
        )
    try:
        return from_plain(ModelSpec, plain, "network description")
    except PlanError as error:
        raise ModelError(f"{where}: its network description is faulty ({error}).") from None


def build_model(content: Mapping[str, Any], where: Path) -> SpineModel:
    """Network of a final checkpoint, in evaluation mode."""
    spec = read_spec(content, where)
    if "weights" not in content:
        raise ModelError(f"{where}: not a spinecls model (no weights in it).")
    try:
        model = spec.build()
        model.load_state_dict(content["weights"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{where}: its network description is faulty ({error}).") from None
    except RuntimeError as error:
        raise ModelError(f"{where}: the weights do not fit the network described in the file: {error}") from None
    return model.eval()


def short_hash(content: Mapping[str, Any], where: Path) -> str:
    """The first 16 digits of `model_hash`, by which files name a checkpoint."""
    return model_hash(content, where)[:16]


def model_hash(content: Mapping[str, Any], where: Path) -> str:
    """SHA-256 of what a final checkpoint predicts with: network, sealing level and weights.

    How torch packs the file has no influence, so a copy that was written anew has the same hash.
    """
    network = {"spec": dataclasses.asdict(read_spec(content, where)), "seal": content.get("seal", EARLIER_SEAL)}
    digest = hashlib.sha256(text_hash(network).encode())
    for name, tensor in sorted(content["weights"].items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
