"""All checks, one after the other, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tqdm import tqdm

from spinecls.errors import ModelError
from spinecls.inference.predictor import Predictor
from spinecls.verification.additivity import evidence_adds_up
from spinecls.verification.attribution import attribution_inside, captum_is_installed, evidence_on_lesions
from spinecls.verification.check_results import CheckResult, Outcome, not_applicable
from spinecls.verification.controls import controls
from spinecls.verification.curves import deletion_and_insertion
from spinecls.verification.inside import inside_swap, region_shift
from spinecls.verification.instrument import Instrument, reproducible
from spinecls.verification.outside import lesion_in_neighbour, outside_swap, outside_swap_with_marrow
from spinecls.verification.randomisation import model_randomisation
from spinecls.verification.study import Study

CHECKS: tuple[Callable[[Instrument, Study], CheckResult], ...] = (
    outside_swap,
    outside_swap_with_marrow,
    lesion_in_neighbour,
    evidence_adds_up,
    inside_swap,
    region_shift,
    evidence_on_lesions,
    deletion_and_insertion,
    model_randomisation,
)


def instrument_of(predictor: Predictor) -> Instrument:
    """Instrument for a predictor.

    Raises
    ------
    ModelError
        When the model does not classify.
    """
    if not predictor.models[0].readers:
        raise ModelError("This model does not classify vertebrae, so there is no evidence to verify.")
    return Instrument(predictor)


def run_checks(instrument: Instrument, study: Study, attribution: bool) -> list[CheckResult]:
    """Results of all checks, in the order of a report.

    Parameters
    ----------
    attribution : also integrated gradients, where captum is installed
    """
    results = []
    with reproducible(), tqdm(total=len(CHECKS) + 2, desc="verify", unit="check", disable=None) as progress:
        for check in CHECKS:
            results.append(check(instrument, study))
            progress.update()
        results.append(_attribution(instrument, study, attribution))
        progress.update()
        results += controls(study)
        progress.update()
    return results


def _attribution(instrument: Instrument, study: Study, wanted: bool) -> CheckResult:
    title = "integrated gradients inside the region"
    if not wanted:
        return not_applicable("attribution", title, "Left out by --no_attribution.")
    if not captum_is_installed():
        return not_applicable(
            "attribution", title, "Left out: captum is not installed. Install it by pip install spinecls[verify]."
        )
    # Imported here, because captum is optional.
    from spinecls.verification.integrated_gradients import integrated_gradients

    return attribution_inside(instrument, study, integrated_gradients)


@dataclass(frozen=True)
class Verdict:
    """What all checks say together.

    Attributes
    ----------
    broken : whether a promise of the sealing level was disproved
    sentences : in words
    """

    broken: bool
    sentences: tuple[str, ...]


def verdict(instrument: Instrument, results: list[CheckResult]) -> Verdict:
    """The verdict, in words."""
    broken = [result for result in results if result.breaks_guarantee]
    return Verdict(bool(broken), tuple(_sentences(instrument, results, broken)))


def _sentences(instrument: Instrument, results: list[CheckResult], broken: list[CheckResult]) -> Iterator[str]:
    by_key = {result.key: result for result in results}
    if broken:
        yield (
            f"BROKEN: this model is sealed ({instrument.seal}), and yet {_listed(broken)} failed. The class of a "
            "vertebra does not come from its own voxels alone. Do not use it as if it did."
        )
    elif instrument.guaranteed:
        numbers = "" if instrument.seal == "S3" else " and two marrow numbers a channel"
        yield (
            f"Sealed ({instrument.seal}): in every test the class of a vertebra came from the voxels of its own "
            f"region{numbers}, to the last bit; nothing else in the image changed it."
        )
        if instrument.seal == "S2":
            yield by_key["outside_swap_with_marrow"].sentence
    else:
        yield (
            f"No guarantee is claimed: at level {instrument.seal} the network sees what lies outside the region. "
            f"Measured: {by_key['outside_swap'].sentence} {by_key['lesion_in_neighbour'].sentence}"
        )
    failed = [result for result in results if result.outcome is Outcome.FAILED and not result.breaks_guarantee]
    if failed:
        yield f"Not as expected, though no promise is broken by it: {_listed(failed)}."
    warned = [result for result in results if result.outcome is Outcome.WARNING]
    if warned:
        yield f"Look at: {_listed(warned)}."
    yield (
        "The regions themselves come from the whole image; shortcuts inside a region (scanner texture, gain) are "
        "beyond any such test and need data of another site."
    )


def _listed(results: list[CheckResult]) -> str:
    return "; ".join(result.title for result in results)
