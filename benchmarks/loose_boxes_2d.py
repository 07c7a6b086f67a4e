"""Boxes instead of outlines, in the plane: which parts of the loss keep a classifier from collapsing.

A pixel is told apart by a linear classifier on three features of a noisy picture, each with a bright ellipse in it, so
that only the supervision decides. Boxes are tight, or loose by four pixels on every side. Rows: what is learnt from;
cells: Dice at 0.5 on pictures never seen, mean of the seeds with its 95 % interval over them.

    python benchmarks/loose_boxes_2d.py --seeds 10
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as functional
from common import provenance
from scipy import ndimage

from spinecls.beliefs.bags import Bag, bag_map
from spinecls.beliefs.voxel import VoxelBeliefs, mean_beliefs, voxel_beliefs
from spinecls.tasks.belief_losses import bag_loss, voxel_belief_loss
from spinecls.tasks.belief_patches import BagPatches, BeliefPatches

SIZE, PICTURES, STEPS = 32, 16, 300
CONTRAST = 1.2
"""Brightness of the object over the standard deviation of the noise."""

FILL = (0.55, 0.95)
"""Share of a tight box that an object fills in the plane; an ellipse fills 0.785."""

ROWS = (
    "dense truth", "box treated as mask", "sets only", "sets + size", "sets + tightness", "sets + size + tightness",
)  # fmt: skip


def picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(3, N, N) features and (N, N) truth of one picture."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centre, axes, turn = rng.uniform(13, 19, 2), rng.uniform(6, 10, 2), rng.uniform(0, np.pi)
    across = (columns - centre[1]) * np.cos(turn) + (rows - centre[0]) * np.sin(turn)
    along = (rows - centre[0]) * np.cos(turn) - (columns - centre[1]) * np.sin(turn)
    truth = (across / axes[0]) ** 2 + (along / axes[1]) ** 2 <= 1
    image = CONTRAST * truth + rng.normal(0, 1, truth.shape)
    return np.stack([image, ndimage.gaussian_filter(image, 1), ndimage.gaussian_filter(image, 2)]), truth


def box_of(truth: np.ndarray, slack: int) -> np.ndarray:
    """Box around the truth, `slack` pixels larger on each side."""
    index = np.argwhere(truth)
    low, high = np.maximum(index.min(axis=0) - slack, 0), index.max(axis=0) + slack + 1
    box = np.zeros(truth.shape, bool)
    box[low[0] : high[0], low[1] : high[1]] = True
    return box


def told(row: str, truth: np.ndarray, slack: int) -> tuple[VoxelBeliefs, list[Bag]]:
    """Beliefs (1, N, N) and bags of one picture."""
    if row == "dense truth":
        return mean_beliefs([truth[None].astype(int)], 2), []
    box = box_of(truth, slack)
    if row == "box treated as mask":
        return mean_beliefs([box[None].astype(int)], 2), []
    beliefs = voxel_beliefs({(0,): ~box[None]}, 2)
    if row == "sets only":
        return beliefs, []
    edges = np.argwhere(box).max(axis=0) - np.argwhere(box).min(axis=0) + 1
    share = np.prod(np.maximum(edges - 2 * slack, 1)) / np.prod(edges)
    low, high = (FILL[0] * share, FILL[1] * share) if "size" in row else (0.0, 1.0)
    return beliefs, [Bag(box[None], (1,), low, high, line="tightness" in row)]


def batch_of(row: str, truths: list[np.ndarray], slack: int) -> tuple[BeliefPatches, BagPatches]:
    """All pictures as one batch of patches one slice thick."""
    pairs = [told(row, truth, slack) for truth in truths]
    beliefs = pairs[0][0]
    codes = torch.from_numpy(np.stack([b.codes for b, _ in pairs])).long()
    # Every picture's table is the same, as the same sets occur in each.
    patches = BeliefPatches(
        codes, torch.from_numpy(beliefs.sets), torch.from_numpy(beliefs.masses).expand(len(pairs), -1, -1),
        torch.zeros(len(pairs)),
    )  # fmt: skip
    shape = (1, SIZE, SIZE)
    maps = [bag_map(bags or [Bag(np.ones(shape, bool), (1,), 0.0, 1.0)], shape, 2) for _, bags in pairs]
    stacked = {
        name: torch.from_numpy(np.stack([getattr(m, name) for m in maps]))
        for name in ("classes", "low", "high", "line")
    }
    position = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"))
    members = torch.from_numpy(np.stack([np.array([[False], [True]])] * len(maps)))
    regions = torch.from_numpy(np.stack([m.codes > 0 for m in maps])).long()
    whole = torch.ones((len(maps), 1), dtype=torch.bool)
    return patches, BagPatches(regions, members, whole=whole, position=position.expand(len(maps), 3, *shape), **stacked)


def dice(row: str, slack: int, seed: int) -> float:
    """Dice on unseen pictures after learning from `row`."""
    rng = np.random.default_rng(seed)
    features, truths = zip(*(picture(rng) for _ in range(PICTURES)), strict=True)
    tests, answers = zip(*(picture(rng) for _ in range(PICTURES)), strict=True)
    beliefs, bags = batch_of(row, list(truths), slack)
    torch.manual_seed(seed)
    classifier = torch.nn.Conv3d(3, 2, 1)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.05)
    images = torch.tensor(np.stack(features), dtype=torch.float32)[:, :, None]
    for _ in range(STEPS):
        optimiser.zero_grad()
        log_p = functional.log_softmax(classifier(images), dim=1)
        loss = voxel_belief_loss(log_p, beliefs)
        if "+" in row:
            loss = loss + bag_loss(log_p, bags)
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        logits = classifier(torch.tensor(np.stack(tests), dtype=torch.float32)[:, :, None])
        found = (torch.softmax(logits, dim=1)[:, 1, 0] > 0.5).numpy()
    truth = np.stack(answers)
    overlap = 2 * (found & truth).sum(axis=(1, 2)) / np.maximum(found.sum(axis=(1, 2)) + truth.sum(axis=(1, 2)), 1)
    return float(overlap.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    print(provenance())
    print("| Learnt from | tight box | box loose by 4 pixels |\n|---|---|---|")
    rng = np.random.default_rng(0)
    for row in ROWS:
        cells = []
        for slack in (0, 4):
            scores = np.array([dice(row, slack, seed) for seed in seeds])
            draws = rng.choice(scores, (2000, len(scores))).mean(axis=1)
            low, high = np.percentile(draws, (2.5, 97.5))
            cells.append(f"{scores.mean():.3f} [{low:.3f}, {high:.3f}]")
        print(f"| {row} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
