"""All checks together, and the verdict."""

import csv
import dataclasses

import pytest
import torch

from spinecls import files
from spinecls.errors import ModelError
from spinecls.networks.model import SpineModel
from spinecls.verification import report, suite
from spinecls.verification.check_results import CheckResult, Outcome


def result(key, outcome, guarantee=False):
    return CheckResult(
        key=key, title=key, outcome=outcome, guarantee=guarantee, sentence=f"{key} said.", numbers={"n": 1.0}
    )


def results_of(outcome, guarantee=True):
    return [
        result("outside_swap", outcome, guarantee),
        result("outside_swap_with_marrow", Outcome.REPORTED),
        result("lesion_in_neighbour", outcome, guarantee),
    ]


def test_a_sealed_model_passes_with_its_guarantee(instrument):
    verdict = suite.verdict(instrument, results_of(Outcome.PASSED))
    assert not verdict.broken
    assert verdict.sentences[0].startswith("Sealed (S2)")
    assert "outside_swap_with_marrow said." in verdict.sentences


def test_a_broken_guarantee_is_named(instrument):
    verdict = suite.verdict(instrument, results_of(Outcome.FAILED))
    assert verdict.broken
    assert verdict.sentences[0].startswith("BROKEN")
    assert "outside_swap" in verdict.sentences[0]


def test_another_failure_breaks_no_guarantee_and_is_told(instrument):
    found = [*results_of(Outcome.PASSED), result("inside_swap", Outcome.FAILED)]
    verdict = suite.verdict(instrument, found)
    assert not verdict.broken
    assert any("inside_swap" in sentence for sentence in verdict.sentences)


def test_an_open_model_claims_nothing_and_says_what_was_measured(at_level):
    verdict = suite.verdict(at_level("S1"), results_of(Outcome.REPORTED, guarantee=False))
    assert not verdict.broken
    assert verdict.sentences[0].startswith("No guarantee is claimed")
    assert "outside_swap said." in verdict.sentences[0]


def test_the_suite_finds_a_leak(instrument, study, leak):
    assert suite.verdict(instrument, suite.run_checks(instrument, study, attribution=False)).broken


def test_the_suite_finds_no_fault_in_a_sealed_model(instrument, study):
    results = suite.run_checks(instrument, study, attribution=False)
    assert not suite.verdict(instrument, results).broken
    assert [r.outcome for r in results if r.guarantee] == [Outcome.PASSED] * 3
    assert len({r.key for r in results}) == len(results) == len(suite.CHECKS) + 4


def test_the_same_seed_gives_the_same_numbers(instrument, study):
    first, second = ([r.as_dict() for r in suite.run_checks(instrument, study, attribution=False)] for _ in range(2))
    assert repr(first) == repr(second)


def test_without_captum_attribution_is_left_out_and_said_to_be(instrument, study, monkeypatch):
    monkeypatch.setattr(suite, "captum_is_installed", lambda: False)
    found = {r.key: r for r in suite.run_checks(instrument, study, attribution=True)}["attribution"]
    assert found.outcome is Outcome.NOT_APPLICABLE
    assert "pip install spinecls[verify]" in found.sentence


def test_with_captum_attribution_is_measured(instrument, study):
    pytest.importorskip("captum", reason="captum is optional and not installed")
    found = {r.key: r for r in suite.run_checks(instrument, study, attribution=True)}["attribution"]
    assert found.outcome is Outcome.PASSED


def test_a_model_without_readers_is_refused(instrument):
    models = [SpineModel(model.finder, []) for model in instrument.models]
    with pytest.raises(ModelError, match="does not classify"):
        suite.instrument_of(dataclasses.replace(instrument.predictor, models=models))


def test_deterministic_algorithms_are_asked_for_and_given_back():
    before = torch.backends.cudnn.deterministic
    with suite.reproducible():
        assert torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.deterministic == before


def test_the_table_on_disk_has_a_row_for_each_number(study, instrument, tmp_path):
    found = results_of(Outcome.PASSED)
    content = report.content({"name": "m"}, "note", study, found, suite.verdict(instrument, found))
    report.write_report(tmp_path, content, found)
    with open(tmp_path / report.CSV_NAME, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["check"], row["number"], row["estimate"]) for row in rows] == [(r.key, "n", "1.0") for r in found]
    assert files.read_json(tmp_path / report.JSON_NAME)["vertebrae_examined"] == len(study.chosen)
