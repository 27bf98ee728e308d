"""Doubt in beliefs: the evidence of a run of surprising observations against a belief, nats.

A p-value p of an instant is turned into a likelihood ratio that a true belief does not favour, so that small p-values
of single outliers prove little and runs of them prove much: ``½ min(1 / ε, 0.1 / p)``, an e-value (V. Vovk and R. Wang,
"E-values: Calibration, combination and applications", Annals of Statistics 49(3), 2021), where ε is the probability
that an instant has an outlier. Under a true belief its mean is at most 1: an outlier adds ½ at most, and all others,
whose p-values are uniform, less than another half. Its logarithm is summed from the last time when it was zero, as
in a test for a change (E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from beliefstream.inference.sensors.readings import Reading, expanded
from beliefstream.inference.tracking.events import Step
from beliefstream.inference.tracking.outcomes import Outcome

LEAST_SHARE = 1.25e-3  # of outliers, where none are stated; of less, the mean of the ratio could exceed 1
UNSURPRISING = 0.05  # a larger p-value reduces doubt
MOST = 40.0  # nats, so that a belief that fits again is soon without doubt


def with_doubt(outcome: Outcome, step: Step) -> Outcome:
    """Return the outcome with the doubt in its belief after the instant.

    A belief without any loss is not doubted: nothing was dropped from it, however surprising the observations.
    """
    before = 0.0 if step.belief is None else step.belief.error.doubt
    readings, change = step.instant.readings, step.instant.prior
    if not before and (not readings or outcome.p_value >= UNSURPRISING):
        return outcome
    if change is not None and change.replaces_all(step.model.motion.dimension):
        return outcome
    belief, after = outcome.belief, before
    if readings:
        share = outlier_share(readings)
        is_exact = share == 0 and belief.error.nats == 0
        after = 0.0 if is_exact else min(max(before + evidence(outcome.p_value, share), 0.0), MOST)
    return replace(outcome, belief=replace(belief, error=belief.error._replace(doubt=after)))


def evidence(p_value: float, share: float) -> float:
    """Evidence of an instant with that p-value against the belief, nats; outliers have a `share` of 0 to 1."""
    return math.log(0.5 / max(share, LEAST_SHARE, p_value / (2 * UNSURPRISING)))


def outlier_share(readings: Sequence[Reading]) -> float:
    """Probability that one of the readings is an outlier."""
    none = 1.0
    for reading in expanded(readings):
        noise = reading.sensor.noise
        clutter = 0.0 if noise is None else noise.clutter_probability
        none *= 1 - reading.sensor.outlier_probability - clutter
    return 1 - none
