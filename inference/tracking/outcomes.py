"""Beliefs of single entities after an instant, with their quality."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.events import Belief, beliefs_of
from beliefstream.inference.tracking.health.columns import Array
from beliefstream.inference.tracking.learned_likelihoods import Trust
from beliefstream.inference.update.result import Answer, Method

METHODS = {int(method): method.name.lower() for method in Method}


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """Belief after an instant, with its quality.

    Attributes:
        belief: the belief.
        sample_efficiency: quality of the update, 0 to 1; the smallest of several updates. It is measured by
            importance sampling for the network, and computed from the divergence for closed forms and quadrature.
        log_evidence: log density of all observations of the instant under the prediction, in nats.
        p_value: p-value of the observations under the prediction.
        method: lower-case name of an `inference.update.result.Method`; `prior` for an instant with a prior only,
            `predicted` for one with a control only.
        learned: how far a likelihood that was learned can be trusted; None if all are exact.
        fits: how the readings fit the prediction, `inference.tracking.health.fits.fits`; None if not asked for.
        is_sound: whether all numbers are known to be finite, and the covariances positive definite; False if nobody has
            looked yet.
        log_prior_evidence: log of the integral of the prediction's product with a stated prior, up to a constant.
    """

    belief: Belief
    sample_efficiency: float
    log_evidence: float
    p_value: float
    method: str
    learned: Trust | None = None
    fits: Array | None = None
    is_sound: bool = False
    log_prior_evidence: float = 0.0

    @property
    def accumulated_error(self) -> float:
        """Estimate of KL(exact ‖ belief) in nats over the whole history; see `accumulated_error`."""
        return self.belief.error.nats


def split(
    update: Answer,
    times: Sequence[float],
    errors: Sequence[AccumulatedError],
    found: Sequence[Array] | None = None,
) -> list[Outcome]:
    """Split a batch of posteriors into single beliefs, without unused components; `found` are the fits."""
    beliefs = beliefs_of(update.posterior, times, errors)
    numbers = (update.sample_efficiency, update.log_evidence, update.p_value, update.method)
    columns = zip(beliefs, *(column.tolist() for column in numbers), strict=True)
    outcomes = []
    for row, (belief, size, evidence, p_value, method) in enumerate(columns):
        each = None if found is None else found[row]
        outcomes.append(Outcome(belief, size, evidence, p_value, METHODS[method], fits=each))
    return outcomes
