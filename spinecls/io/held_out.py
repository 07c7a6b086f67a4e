"""Test cases of a raw dataset: their own faults, and what they share with the cases that are trained on.

A test case that training has seen is scored for memory. Nothing of it forbids training, so it is told when a dataset is
checked, and again when predictions are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spinecls.errors import some_names
from spinecls.io.case_facts import CaseFacts, CaseFiles, Inspect
from spinecls.io.dataset_assembly import assemble
from spinecls.io.findings import Finding, error, warning
from spinecls.io.table_twins import twin_key
from spinecls.records import Case, DatasetDescription, RawDataset

TEST = "Ts"
_UNLABELLED = "imagesUn"


@dataclass
class SeenFacts:
    """Judges the files of cases and remembers what it found, by identifier."""

    inspect: Inspect
    facts: dict[str, CaseFacts] = field(default_factory=dict)

    def __call__(self, cases: Sequence[CaseFiles], description: DatasetDescription) -> Mapping[str, CaseFacts]:
        facts = self.inspect(cases, description)
        self.facts.update(facts)
        return facts


def has_test_cases(folder: Path) -> bool:
    """Whether anything was put where test cases belong; an empty folder is only a place for them."""
    folders = [folder / f"{kind}{TEST}" for kind in ("images", "labels", "structures")]
    filled = any(not entry.name.startswith(".") for place in folders if place.is_dir() for entry in place.iterdir())
    return filled or (folder / f"vertebrae{TEST}.csv").exists()


def check_test_cases(
    folder: Path,
    training: RawDataset,
    training_facts: Mapping[str, CaseFacts],
    told: Iterable[Finding],
    inspect: Inspect,
) -> tuple[tuple[Case, ...], list[Finding]]:
    """Test cases and all findings about them that were not told of the training cases already.

    Parameters
    ----------
    training : the dataset as assembled from its training cases
    training_facts : what was found in their files, by identifier
    inspect : judges the files of cases
    """
    seen = SeenFacts(inspect)
    dataset, findings = assemble(folder, TEST, seen)
    told = set(told)
    new_findings = [finding for finding in findings if finding not in told]
    if dataset is None:
        return (), new_findings
    cases = dataset.all_cases
    table = folder / f"vertebrae{TEST}.csv"
    if dataset.cases and training.description.class_names and not table.is_file():
        text = f"{table.name} is missing, so the classes of the test cases are not known and will not be scored"
        new_findings.append(warning("120", text))
    new_findings += _shared_images(training, training_facts, seen.facts)
    new_findings += _shared_patients(training.all_cases, cases)
    return cases, new_findings


def _shared_images(
    training: RawDataset, training_facts: Mapping[str, CaseFacts], facts: Mapping[str, CaseFacts]
) -> list[Finding]:
    """Test images that lie in imagesTr or imagesUn as well, in whatever file and under whatever name."""
    owner: dict[str, Case] = {}
    for case in training.all_cases:
        for digest in _digests(case.identifier, training_facts):
            owner.setdefault(digest, case)
    findings = []
    for identifier in sorted(facts):
        # One channel is enough: it shows the same scan.
        for other in [owner[digest] for digest in _digests(identifier, facts) if digest in owner][:1]:
            place = f"{other.images[0].parent.name}/{other.images[0].name}"
            text = f"test image has the same voxels as {place}"
            if other.images[0].parent.name == _UNLABELLED:
                text += ", which a trainer of unlabelled scans learns from"
                findings.append(warning("221", text, identifier))
            else:
                text += "; the model learns from it, so its score says nothing. Remove one of them."
                findings.append(error("220", text, identifier))
    return findings


def _digests(identifier: str, facts: Mapping[str, CaseFacts]) -> tuple[str, ...]:
    return facts[identifier].image_hash if identifier in facts else ()


def _shared_patients(training: Iterable[Case], tests: Iterable[Case]) -> list[Finding]:
    """Patients and names of cases on both sides."""
    cases_of: dict[str, list[str]] = {}
    for case in training:
        cases_of.setdefault(twin_key(case.patient), []).append(case.identifier)
    names = {case.identifier for case in training}
    findings = []
    for case in tests:
        if case.identifier in names:
            text = "is the name of a training case too; predictions of the two cannot be told apart"
            findings.append(warning("222", text, case.identifier))
        elif others := cases_of.get(twin_key(case.patient)):
            text = f"test case of patient {case.patient!r}, who is in training too ({some_names(others)}); scores are "
            text += "better than on strangers. Move the case, or rename the patient if these are two persons"
            findings.append(warning("223", text, case.identifier))
    return findings
