"""How much the network's opinions on the names of one column count: the table that `EVIDENCE_SHARE` was chosen from.

    python benchmarks/naming_doubt.py --results RESULTS --preprocessed PREPROCESSED --folds 0 3

The opinions on neighbours come from one image and are wrong together, so as independent witnesses they make a shifted
column look certain. Every validation case of the folds is located once a view (whole, and cut to 60 % and 40 % of its
rows at three places) and decoded with the opinions counted by different shares. Printed for each share: the mean
negative log-probability of the annotated names (nats; the smaller the better), how often names are wrong, and how the
errors part between columns that are doubted and the others.
"""

from __future__ import annotations

import itertools
import json
from functools import partial

import numpy as np
import torch
from common import provenance
from levels import FRACTIONS, PLACES, cut, parse

from spinecls.anatomy import RANK
from spinecls.evaluation.matching import DETECTION_RADIUS_MM
from spinecls.inference import level_decoding as decoding
from spinecls.inference import locating
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.preprocessed import load_case
from spinecls.trainers.validation import plan_description

SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1)


def main() -> None:
    options = parse(__doc__)
    torch.set_num_threads(options.threads)
    views = [view for fold in options.folds for view in located_views(options, fold)]
    print(f"\n{options.dataset}, {options.trainer}, folds {' '.join(options.folds)}; {provenance()}\n")
    print("| share | view | nats a name | names wrong | cases doubted | wrong when doubted | when not |")
    print("|---|---|---|---|---|---|---|")
    for share in SHARES:
        decoded = [(view, judged(view, share)) for view in views]
        for fraction in (*FRACTIONS, None):
            chosen = [result for view, result in decoded if fraction in (None, view["fraction"])]
            words = "all" if fraction is None else f"{fraction:.0%}"
            print(f"| {share:g} | {words} | {row(chosen)} |")


def located_views(options, fold: str) -> list[dict]:
    """What the decoder is given for every view of every validation case, and the annotated names of its detections."""
    preprocessed = options.preprocessed / options.dataset
    folder = options.results / options.dataset / f"{options.trainer}__spineclsPlans__{options.configuration}"
    model = load_predictor(choose_model(ModelChoice(folder=folder, folds=(fold,))), torch.device("cpu"), augment=False)
    split = json.loads((preprocessed / "splits_final.json").read_text())[int(fold)]
    description = plan_description(model.plan)
    given: list[dict] = []
    original = decoding.decode_levels
    locating.decode_levels = partial(recorded, original, given)
    views = []
    for identifier, fraction in itertools.product(split["val"], FRACTIONS):
        case = load_case(preprocessed, f"spineclsPlans_{options.configuration}", identifier)
        for share in PLACES.values() if fraction < 1 else (0.0,):
            image, geometry, _, truth = cut(case, fraction, share, description)
            given.clear()
            model.locate(image, geometry)
            if truth.centres_lps and len(given[0]["centres"]):
                view = {**given[0], "fraction": fraction, "geometry": geometry}
                views.append(view | {"names": names_of(view["centres"], truth.centres_lps)})
    locating.decode_levels = original
    return views


def recorded(original, given: list[dict], centres, logs, pitch, *, visibility):
    given.append({"centres": centres, "logs": logs, "pitch": pitch, "visible": visibility})
    return original(centres, logs, pitch, visibility=visibility)


def names_of(centres: np.ndarray, truth: dict) -> dict[int, str]:
    """Annotated name of each detection within 10 mm of an annotated centre."""
    found = {}
    for level, centre in truth.items():
        distance = np.linalg.norm(centres - np.asarray(centre), axis=1)
        if distance.min() <= DETECTION_RADIUS_MM:
            found[int(distance.argmin())] = level
    return found


def judged(view: dict, share: float) -> dict:
    """Nats and errors of one column, decoded with the opinions counted by `share`."""
    visible = view["visible"] / locating.EVIDENCE_SHARE * share
    column = decoding.decode_levels(view["centres"], view["logs"], view["pitch"], visibility=np.minimum(visible, 1))
    column = decoding.see_anchors(column, view["centres"], view["geometry"], view["pitch"])
    nats = [-np.log(max(column.posterior[i, RANK[name]], 1e-12)) for i, name in view["names"].items()]
    wrong = [column.labels[i] != name for i, name in view["names"].items()]
    return {"nats": nats, "wrong": wrong, "doubted": column.ambiguous}


def row(results: list[dict]) -> str:
    def rate(chosen: list[dict]) -> str:
        wrong = [w for result in chosen for w in result["wrong"]]
        return f"{np.mean(wrong):.3f} of {len(wrong)}" if wrong else "none"

    nats = np.mean([n for result in results for n in result["nats"]])
    doubted, sure = ([r for r in results if r["doubted"] == state] for state in (True, False))
    share = len(doubted) / len(results)
    return f"{nats:.3f} | {rate(results)} | {share:.2f} | {rate(doubted)} | {rate(sure)}"


if __name__ == "__main__":
    main()
