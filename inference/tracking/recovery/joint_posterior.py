"""Joint posterior of all reports since the prior, of an entity that does not move.

A belief that is updated report by report keeps a few components. What it drops as negligible may be what later reports
confirm: a second place, or that a run of reports were outliers. Of an entity at rest, all reports are about one state.
So one update of the prior with all of them loses nothing on the way, and its error is measured at once.

It takes longer than an update with one report, and is done where it can matter: where reports are unlikely under the
belief, and after 2, 3, 5, 8, 12, … instants. The answer depends on the reports alone, not on when it was asked for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from msgspec.structs import replace

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, expanded
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedErrors, counted
from beliefstream.inference.tracking.events import Instant, StateModel, Step
from beliefstream.inference.tracking.outcomes import Outcome, split
from beliefstream.inference.tracking.recovery.history import MOST_INSTANTS
from beliefstream.inference.update.settings import MOST_TOGETHER, UNLIKELY
from beliefstream.inference.update.updater import Updater

MOST_COMPONENTS = 64  # of a prior, which stated ones may multiply


def is_due(number: int) -> bool:
    """Whether there is a joint update after so many instants: 2, 3, 5, 8, 12, each half as many again as the last."""
    at = 2
    while at < number:
        at = math.ceil(1.5 * at)
    return at == number


def joint_outcomes(
    steps: Sequence[Step], outcomes: Sequence[Outcome], updater: Updater
) -> dict[int, Outcome]:
    """Return joint posteriors where these are due, by place in `steps`.

    `outcomes` are those of the instants alone. Their evidence, p-values and fits remain.
    """
    problems = {i: _problem_of(step, outcomes[i].p_value) for i, step in enumerate(steps)}
    due = {i: problem for i, problem in problems.items() if problem is not None}
    groups: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for i, (prior, readings) in due.items():
        # PyTorch evaluates functions of the user, which would hold up all others of a batch
        built_in = all(reading.sensor.is_built_in for reading in readings)
        groups[prior.dimension, steps[i].model.components, built_in].append(i)
    found: dict[int, Outcome] = {}
    for (dimension, components, _), places in groups.items():
        prior = concatenate([due[i][0] for i in places])
        observations = encode([due[i][1] for i in places], dimension)
        update = updater.with_components(components).update(prior, observations, simulated=False)
        errors = AccumulatedErrors.of([NO_ERROR] * len(places)).plus(counted(update))
        times = [steps[i].instant.time for i in places]
        for i, joint in zip(places, split(update, times, errors.single()), strict=True):
            alone = outcomes[i]
            found[i] = replace(joint, log_evidence=alone.log_evidence, p_value=alone.p_value, fits=alone.fits)
    return found


def _problem_of(step: Step, p_value: float) -> tuple[GaussianMixture, list[Reading]] | None:
    """Return the prior of an entity at rest and all readings since; None if no joint posterior is due, or possible."""
    earlier = step.earlier
    if earlier is None or not earlier.number or not step.instant.readings or not step.model.motion.is_static:
        return None
    if earlier.number >= MOST_INSTANTS or not (p_value < UNLIKELY or is_due(earlier.number + 1)):
        return None
    instants = earlier.read()
    return None if instants is None else since_prior(step.model, [*instants, step.instant])


def since_prior(
    model: StateModel, instants: Sequence[Instant]
) -> tuple[GaussianMixture, list[Reading]] | None:
    """Return what was stated about the state, and all readings since; None if they cannot be taken together.

    That is so if there are too many, if a prior replaced a part of the state, if a likelihood was learned, whose error
    counts for each report, or if a part of a sensor's error lasts.
    """
    prior, readings, last = model.prior.mixture(), list[Reading](), math.inf
    for instant in instants:
        if instant.time - last > model.expires_after:
            prior, readings = model.prior.mixture(), []
        last, change = instant.time, instant.prior
        if change is not None:
            if change.mode == "product":
                prior = prior.product(change.mixture.mixture(), change.axes)
            elif change.states_all(prior.dimension):
                prior, readings = change.whole(), []
            else:
                return None
        readings += expanded(instant.readings)
    too_many = len(readings) > MOST_TOGETHER or prior.components > MOST_COMPONENTS
    if too_many or any(each.sensor.is_learned or each.sensor.errors for each in readings):
        return None
    return prior, readings
