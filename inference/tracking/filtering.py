"""Filtering: predicts each belief to its next instant, then updates it with the readings and priors of that instant.

A worker calls `advance` once for all entities of a round. `replay` runs a whole log through it without Kafka; the
posteriors of a stream must equal its result.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from msgspec.structs import replace

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, expanded, held
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedErrors, counted
from beliefstream.inference.tracking.closed_steps import solved
from beliefstream.inference.tracking.events import (
    Belief,
    Event,
    Instant,
    StateModel,
    Step,
    instants,
    single_belief,
    with_axes,
)
from beliefstream.inference.tracking.gains import linearised
from beliefstream.inference.tracking.health.fits import fits
from beliefstream.inference.tracking.hidden import prepared, with_hidden
from beliefstream.inference.tracking.learned_likelihoods import trust_in
from beliefstream.inference.tracking.motion_modes import ByMode, by_mode, combined, has_modes
from beliefstream.inference.tracking.outcomes import Outcome, split
from beliefstream.inference.tracking.prediction import moved, predict, without_expired
from beliefstream.inference.tracking.recovery.doubt import with_doubt
from beliefstream.inference.tracking.recovery.history import History
from beliefstream.inference.tracking.recovery.joint_posterior import joint_outcomes
from beliefstream.inference.tracking.recovery.light_components import with_light, without_light
from beliefstream.inference.tracking.recovery.refiltering import Filters, refiltered
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.result import Answer
from beliefstream.inference.update.settings import MOST_TOGETHER
from beliefstream.inference.update.updater import Updater

__all__ = ["MOST_TOGETHER", "Outcome", "Step", "advance", "replay"]


def advance(steps: Sequence[Step], updater: Updater, *, with_fits: bool = False) -> list[Outcome]:
    """Predict the belief of each entity to its instant and update it; the outcomes are in the order of `steps`.

    `with_fits` adds how each reading fits its prediction.

    Raises:
        ValueError: an instant is earlier than its belief.
    """
    outcomes = _in_stages(steps, updater, with_fits)

    def parts(some: Sequence[Step]) -> list[Outcome]:
        return _in_groups(some, updater, False)

    def whole(some: Sequence[Step]) -> list[Outcome]:
        return _in_stages(some, updater, False)

    better = joint_outcomes(steps, outcomes, updater) | refiltered(
        steps, outcomes, updater, Filters(parts, whole)
    )
    return [better.get(i, outcome) for i, outcome in enumerate(outcomes)]


@dataclass(slots=True)
class Advance:
    """One entity on its way through the stages.

    Attributes:
        step: as the stages so far have left it.
        has_modes: whether the motion noise has modes.
        whole: its belief with light components, while these are set aside.
        modes: the step in each mode, if it has some.
        outcome: after the update.
    """

    step: Step
    has_modes: bool = False
    whole: Belief | None = None
    modes: ByMode = field(init=False)
    outcome: Outcome = field(init=False)


class Batch(NamedTuple):
    """The entities that are advanced together."""

    each: list[Advance]
    updater: Updater
    with_fits: bool


def _expire(batch: Batch) -> None:
    """Forget beliefs that are too old."""
    for one in batch.each:
        one.step = without_expired(one.step)
        one.has_modes = has_modes(one.step)


def _arrange_errors(batch: Batch) -> None:
    """Give beliefs a hidden coordinate for each error that lasts; errors that multiply are made ones that add."""
    steps = linearised([prepared(one.step) for one in batch.each])
    for one, step in zip(batch.each, steps, strict=True):
        one.step = step


def _set_light_aside(batch: Batch) -> None:
    """Take light components out; beliefs with modes have none."""
    for one in batch.each:
        if not one.has_modes:
            one.step, one.whole = without_light(one.step)


def _divide_by_mode(batch: Batch) -> None:
    """Make a step of each mode of the motion noise."""
    modal = [one for one in batch.each if one.has_modes]
    for one, modes in zip(
        modal, by_mode([one.step for one in modal], batch.updater.settings.merge_below), strict=True
    ):
        one.modes = modes


def _predict_and_update(batch: Batch) -> None:
    """Predict each step to its instant, and update and reduce it there; then weigh the modes of each entity."""
    modal = [step for one in batch.each if one.has_modes for step in one.modes.steps]
    others = [one.step for one in batch.each if not one.has_modes]
    in_modes = iter(_in_groups(modal, batch.updater, False))
    alone = iter(_in_groups(others, batch.updater, batch.with_fits))
    for one in batch.each:
        if not one.has_modes:
            one.outcome = next(alone)
            continue
        found = [next(in_modes) for _ in one.modes.steps]
        one.outcome = combined(one.modes, found, len(one.step.model.modes))
        if batch.with_fits and one.step.instant.readings:
            judged = fits([one.step.instant.readings], predict([one.step]))[0]
            one.outcome = replace(one.outcome, fits=judged)


def _keep_errors(batch: Batch) -> None:
    """Say which errors the last coordinates are."""
    for one in batch.each:
        one.outcome = with_hidden(one.outcome, one.step)


def _doubt(batch: Batch) -> None:
    """Count surprising observations as evidence against the belief."""
    for one in batch.each:
        one.outcome = with_doubt(one.outcome, one.step)


def _put_light_back(batch: Batch) -> None:
    """Update light components, and put them back while the belief is in doubt."""
    some = [one for one in batch.each if not one.has_modes]
    outcomes, steps = [one.outcome for one in some], [one.step for one in some]
    for one, outcome in zip(
        some, with_light(outcomes, steps, [one.whole for one in some], batch.updater), strict=True
    ):
        one.outcome = outcome


STAGES: tuple[Callable[[Batch], None], ...] = (
    _expire,
    _arrange_errors,
    _set_light_aside,
    _divide_by_mode,
    _predict_and_update,
    _keep_errors,
    _doubt,
    _put_light_back,
)
"""What happens to the steps of a batch, in this order; then `advance` recovers beliefs that were sure and wrong."""


def _in_stages(steps: Sequence[Step], updater: Updater, with_fits: bool) -> list[Outcome]:
    """Advance by the instants of the steps alone."""
    batch = Batch([Advance(step) for step in steps], updater, with_fits)
    for stage in STAGES:
        stage(batch)
    return [one.outcome for one in batch.each]


def _in_groups(steps: Sequence[Step], updater: Updater, with_fits: bool) -> list[Outcome]:
    """Predict and update steps in groups of which each can be one batch."""
    groups: dict[tuple[int, int, int, bool], list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        # PyTorch evaluates functions of the user, which would hold up all others of a batch
        built_in = all(reading.sensor.is_built_in for reading in step.instant.readings)
        hidden = len(step.belief.hidden.errors) if step.belief is not None else 0
        groups[step.model.motion.dimension, hidden, step.model.components, built_in].append(index)
    outcomes: dict[int, Outcome] = {}
    for (_, _, components, _), indices in groups.items():
        tuned = updater.with_components(components)
        alike = _advance_alike([steps[i] for i in indices], tuned, with_fits)
        outcomes.update(zip(indices, alike, strict=True))
    return [outcomes[i] for i in range(len(steps))]


def _advance_alike(steps: Sequence[Step], updater: Updater, with_fits: bool) -> list[Outcome]:
    outcomes: list[Outcome | None] = [None] * len(steps)
    if updater.has_closed_forms:
        outcomes = solved(steps, updater.settings, with_fits)
    places = [i for i, outcome in enumerate(outcomes) if outcome is None]
    if places:
        left = _by_operators([steps[i] for i in places], updater, with_fits)
        for i, outcome in zip(places, left, strict=True):
            outcomes[i] = outcome
    return [_with_control(outcome, step) for outcome, step in zip(outcomes, steps, strict=True) if outcome]


def _by_operators(steps: Sequence[Step], updater: Updater, with_fits: bool) -> list[Outcome]:
    """Predict, and update with the readings and priors of their instants."""
    moves, errors = moved(steps, updater.settings)
    predicted = moves.mixture
    outcomes: dict[int, Outcome] = {}
    observed = [i for i, step in enumerate(steps) if step.instant.readings]
    for i, step in enumerate(steps):
        if step.instant.prior is not None:
            one = torch.tensor([i])
            outcomes[i] = _state_prior(predicted.rows(one), errors.rows(one), step, updater)
        elif not step.instant.readings:
            one = torch.tensor([i])
            outcomes[i] = _predicted(predicted.rows(one), errors.rows(one), step, updater)
    if observed:
        index = torch.tensor(observed)
        prior, readings = predicted.rows(index), [steps[i].instant.readings for i in observed]
        # where each entity has one number, both take the same observations
        shared = encode(readings, prior.dimension) if all(map(_is_one_number, readings)) else None
        update = _observe(readings, prior, updater) if shared is None else updater.update(prior, shared)
        times = [steps[i].instant.time for i in observed]
        trusts = [
            trust and trust.for_data(p_value)
            for trust, p_value in zip(map(trust_in, readings), update.p_value.tolist(), strict=True)
        ]
        lost = torch.tensor([trust.counted if trust else 0.0 for trust in trusts], dtype=torch.float64)
        state = range(steps[0].model.motion.dimension)
        after = errors.rows(index).updated(prior.marginal(state), update.posterior.marginal(state))
        after = after.plus(counted(update) + lost)
        found = fits(readings, prior, shared) if with_fits else None
        updated = split(update, times, after.single(), found)
        for i, each, trust in zip(observed, updated, trusts, strict=True):
            if trust is not None:
                each = replace(each, learned=trust.over(each.belief, steps[i].instant.readings))
            outcomes[i] = each
    return [outcomes[i] for i in range(len(steps))]


def _predicted(
    predicted: GaussianMixture, errors: AccumulatedErrors, step: Step, updater: Updater
) -> Outcome:
    """Return the prediction, reduced if the model's prior has more components than a belief may have."""
    if int(predicted.present.sum()) > (most := updater.settings.components):
        predicted, lost = condense(predicted, most, updater.settings.merge_below)
        errors = errors.plus(lost)
    belief = single_belief(predicted, step.instant.time, errors)
    return Outcome(belief, 1.0, 0.0, 1.0, "predicted")


def _with_control(outcome: Outcome, step: Step) -> Outcome:
    """Add the inputs that hold from the instant on."""
    control = step.belief.control if step.belief is not None else None
    if control is None and step.instant.control is None:
        return outcome
    inputs = step.model.motion.inputs
    if control is not None and len(control.value) != inputs:
        control = None  # it was reported for another motion
    if step.instant.control is not None:
        control = held(control, step.instant.control, inputs)
    return outcome if control is None else replace(outcome, belief=replace(outcome.belief, control=control))


def _observe(readings: Sequence[Sequence[Reading]], prior: GaussianMixture, updater: Updater) -> Answer:
    """Update with all readings of an instant, at most `MOST_TOGETHER` observations at a time."""
    readings = [_spread(expanded(row)) for row in readings]
    first = [row[:MOST_TOGETHER] for row in readings]
    update = updater.update(prior, encode(first, prior.dimension))
    more = [i for i, row in enumerate(readings) if len(row) > MOST_TOGETHER]
    if not more:
        return update
    index = torch.tensor(more)
    rest = _observe([readings[i][MOST_TOGETHER:] for i in more], update.posterior.rows(index), updater)
    earlier = update.rows(index)
    joint = Answer(
        rest.posterior,
        torch.minimum(earlier.sample_efficiency, rest.sample_efficiency),
        earlier.log_evidence + rest.log_evidence,
        torch.minimum(earlier.p_value, rest.p_value),
        rest.method,
        earlier.lost + rest.lost,
    )
    return update.with_rows(index, joint)


def _is_one_number(readings: Sequence[Reading]) -> bool:
    return len(readings) == 1 and readings[0].sensor.is_one_number


def _spread(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Reorder readings that need several updates, so that adjacent sensors are in different updates.

    Readings of one time are in the order of their sensors. Adjacent sensors, such as anchors along one wall, cannot
    distinguish a position from its mirror image, but sensors from all sides can.
    """
    parts = math.ceil(len(readings) / MOST_TOGETHER)
    return readings if parts < 2 else [each for start in range(parts) for each in readings[start::parts]]


def _state_prior(
    predicted: GaussianMixture, errors: AccumulatedErrors, step: Step, updater: Updater
) -> Outcome:
    """Apply a prior; if it replaces the whole belief, the accumulated error restarts at zero."""
    change, dimension = step.instant.prior, step.model.motion.dimension
    assert change is not None
    stated, evidence = change.mixture.mixture(), 0.0
    if change.mode == "product":
        mixture, integral = predicted.product_with_evidence(stated, change.axes or range(dimension))
        evidence = float(integral)
    elif change.states_all(dimension):
        mixture, errors = change.whole(), AccumulatedErrors.of([NO_ERROR])
    else:
        assert change.axes is not None
        mixture = with_axes(predicted, stated, change.axes)
    reduced, lost = condense(mixture, updater.settings.components, updater.settings.merge_below)
    belief = single_belief(reduced, step.instant.time, errors.plus(lost))
    return Outcome(belief, 1.0, 0.0, 1.0, "prior", log_prior_evidence=evidence)


def replay(
    events: Iterable[Event],
    model_of: Callable[[str], StateModel],
    updater: Updater,
    *,
    with_fits: bool = False,
    accept: Callable[[str, Instant, Outcome], bool] = lambda *_: True,
) -> Iterator[tuple[str, Outcome]]:
    """Replay a whole log in event time, and yield every posterior of every entity, in order of time for each entity.

    There is one posterior for each instant that `informs`; a control alone gives none. Where `accept` is false for an
    entity's instant and outcome, the belief stays as it was, and nothing is yielded.

    Entities are independent, so `advance` processes their first instants together, then their second ones, and so on.
    """
    logs: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        logs[event.entity].append(event)
    timelines = {entity: instants(log) for entity, log in logs.items()}
    beliefs: dict[str, Belief] = {}
    histories = {entity: History() for entity in timelines}
    for number in range(max(map(len, timelines.values()), default=0)):
        active = [entity for entity, timeline in timelines.items() if number < len(timeline)]
        steps = []
        for entity in active:
            instant = timelines[entity][number]
            earlier = histories[entity].earlier(instant.time)
            steps.append(Step(beliefs.get(entity), model_of(entity), instant, earlier))
        for step, entity, outcome in zip(
            steps, active, advance(steps, updater, with_fits=with_fits), strict=True
        ):
            instant = step.instant
            if not accept(entity, instant, outcome):
                continue
            beliefs[entity] = outcome.belief
            histories[entity].add(step, outcome)
            if instant.informs:
                yield entity, outcome
