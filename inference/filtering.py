"""Filtering: predict each belief to the next instant, then update it with the readings and priors of that instant.

`advance` is the step that a worker takes with every batch, one call for all entities. `replay` runs a whole log through
it without Kafka; a stream's posteriors must equal its result.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from inference.accumulated import NO_ERROR, AccumulatedError, AccumulatedErrors
from inference.condensing import condense
from inference.encoding import encode
from inference.events import Belief, Event, Instant, StateModel, instants
from inference.mixture import GaussianMixture
from inference.motion import Control
from inference.moving import Moved, move, together
from inference.readings import Reading, expanded, held
from inference.stacking import single_belief, stacked, with_axes
from inference.update import Method, Settings, Update, Updater

MOST_TOGETHER = 6  # most observations in one update, as in training; the rest follow in further updates
WHOLE = Settings(bend_below=0.0)


@dataclass(frozen=True, eq=False)
class Step:
    """One entity's next instant; `belief` is None if it has none yet."""

    belief: Belief | None
    model: StateModel
    instant: Instant


@dataclass(frozen=True, eq=False)
class Outcome:
    """The belief after an instant, and its quality.

    Attributes:
        effective_sample_size: of the importance samples that checked the update, as a fraction, 0 to 1; the smallest of
            several updates.
        log_evidence: of all observations of the instant, in nats.
        surprise: p-value of the observations under the prediction.
        method: lower-case name of an `inference.results.Method`; `prior` if nothing was observed, `predicted` if there
            was only a control.
    """

    belief: Belief
    effective_sample_size: float
    log_evidence: float
    surprise: float
    method: str

    @property
    def accumulated_error(self) -> float:
        """Estimate of KL(exact ‖ belief) in nats, caused by all steps so far; see `accumulated`."""
        return self.belief.error.nats


def advance(steps: Sequence[Step], updater: Updater) -> list[Outcome]:
    """Predict each entity's belief to its instant and update it there; results are in the order of `steps`.

    Raises ValueError if an instant lies before its belief.
    """
    steps = [without_expired(step) for step in steps]
    outcomes: list[Outcome | None] = [None] * len(steps)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        groups[step.model.motion.dimension, step.model.components].append(index)
    for (_, components), indices in groups.items():
        tuned = updater.with_components(components)
        for index, outcome in zip(indices, _advance_alike([steps[i] for i in indices], tuned), strict=True):
            outcomes[index] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def without_expired(step: Step) -> Step:
    """Drop the belief if it has expired, so that the step starts from the model's prior."""
    belief = step.belief
    if belief is None or step.instant.time - belief.time <= step.model.expires_after:
        return step
    return replace(step, belief=None)


def _advance_alike(steps: Sequence[Step], updater: Updater) -> list[Outcome]:
    prediction, errors = _predicted(steps, updater.settings)
    predicted = prediction.mixture
    outcomes: dict[int, Outcome] = {}
    observed = [i for i, step in enumerate(steps) if step.instant.readings]
    for i, step in enumerate(steps):
        if step.instant.prior is not None:
            one = torch.tensor([i])
            outcomes[i] = _state_prior(predicted.rows(one), errors.rows(one), step, updater)
        elif not step.instant.readings:
            one = torch.tensor([i])
            outcomes[i] = _carried_on(predicted.rows(one), errors.rows(one), step, updater)
    if observed:
        index = torch.tensor(observed)
        some = predicted.rows(index)
        update = _observe([steps[i].instant.readings for i in observed], some, updater)
        times = [steps[i].instant.time for i in observed]
        known = errors.rows(index).updated(some, update.posterior).plus(update.divergence)
        outcomes |= dict(zip(observed, _split(update, times, known.single()), strict=True))
    return [_under_control(outcomes[i], step) for i, step in enumerate(steps)]


def _carried_on(
    predicted: GaussianMixture, errors: AccumulatedErrors, step: Step, updater: Updater
) -> Outcome:
    """Keep the prediction, reduced if the model's prior has more components than a belief keeps."""
    if int(predicted.present.sum()) > (most := updater.settings.components):
        predicted, lost = condense(predicted, most, updater.settings.merge_below)
        errors = errors.plus(lost)
    belief = single_belief(predicted, step.instant.time, errors)
    return Outcome(belief, 1.0, 0.0, 1.0, "predicted")


def _under_control(outcome: Outcome, step: Step) -> Outcome:
    """Add the control inputs that hold from the instant on."""
    inputs = step.model.motion.inputs
    control = step.belief.control if step.belief is not None else None
    if control is not None and len(control.value) != inputs:
        control = None  # it was reported for another motion
    if step.instant.control is not None:
        control = held(control, step.instant.control, inputs)
    return outcome if control is None else replace(outcome, belief=replace(outcome.belief, control=control))


def predict(steps: Sequence[Step]) -> GaussianMixture:
    """Predict beliefs to the time of their instants without splitting components, whatever the loss; see `moved`."""
    return moved(steps, WHOLE).mixture


def moved(steps: Sequence[Step], settings: Settings) -> Moved:
    """Predict beliefs to the time of their instants under the current controls, as one batch, with the loss.

    An entity without a belief gets the model's prior at that time.
    """
    return _predicted(steps, settings)[0]


def _predicted(steps: Sequence[Step], settings: Settings) -> tuple[Moved, AccumulatedErrors]:
    """As `moved`, with the accumulated errors after the prediction; a prior has none."""
    beliefs = [step.belief or replace(step.model.prior, time=step.instant.time) for step in steps]
    intervals = torch.tensor(
        [step.instant.time - belief.time for step, belief in zip(steps, beliefs, strict=True)],
        dtype=torch.float64,
    )
    if bool((intervals < 0).any()):
        late = int((intervals < 0).nonzero()[0, 0])
        raise ValueError(f"time: {steps[late].instant.time} lies before the belief's {beliefs[late].time}")
    mixture = stacked(beliefs)
    predicted = _moved(steps, beliefs, mixture, intervals, settings)
    errors = AccumulatedErrors.of([belief.error for belief in beliefs])
    if bool((errors.small * intervals > 0).any()):
        # a point mass, when moved, has the motion's noise as its covariance
        mean, covariance = mixture.moments()
        point = GaussianMixture.gaussian(mean, torch.zeros_like(covariance))
        noise = _moved(steps, beliefs, point, intervals, None).mixture.covariances[:, 0]
        errors = errors.moved(predicted.mixture, noise)
    return predicted, errors.plus(predicted.loss)


def _moved(
    steps: Sequence[Step],
    beliefs: Sequence[Belief],
    mixture: GaussianMixture,
    intervals: Tensor,
    settings: Settings | None,
) -> Moved:
    """Move `mixture` by the model and control of each step; without settings no component is split."""
    by_motion: dict[int, list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        by_motion[id(step.model.motion)].append(index)
    parts, order = [], []
    for indices in by_motion.values():
        rows, motion = torch.tensor(indices), steps[indices[0]].model.motion
        control = _controls([beliefs[index] for index in indices], motion.inputs)
        alone = len(by_motion) == 1
        some, interval = (mixture, intervals) if alone else (mixture.rows(rows), intervals[rows])
        if settings is None:
            parts.append(Moved(motion.predict(some, interval, control), torch.zeros(len(rows)).double()))
        else:
            parts.append(move(motion, some, interval, control, settings))
        order.append(rows)
    return parts[0] if len(parts) == 1 else together(parts, order)


def _controls(beliefs: Sequence[Belief], count: int) -> Control | None:
    """The inputs of all beliefs, zero and exact where none was reported; None if no belief has any.

    Inputs kept from a motion with another number of inputs count as not reported.
    """
    known = [belief.control for belief in beliefs]
    if not count or all(control is None for control in known):
        return None
    value, covariance = np.zeros((len(known), count)), np.zeros((len(known), count, count))
    for row, control in enumerate(known):
        if control is not None and len(control.value) == count:
            value[row], covariance[row] = control.value, control.covariance
    return Control(torch.from_numpy(value), torch.from_numpy(covariance))


def _observe(readings: Sequence[Sequence[Reading]], prior: GaussianMixture, updater: Updater) -> Update:
    """Update with all readings of an instant, at most `MOST_TOGETHER` numbers or vectors at a time."""
    readings = [_spread(expanded(row)) for row in readings]
    first = [row[:MOST_TOGETHER] for row in readings]
    update = updater.update(prior, encode(first, prior.dimension))
    more = [i for i, row in enumerate(readings) if len(row) > MOST_TOGETHER]
    if not more:
        return update
    index = torch.tensor(more)
    rest = _observe([readings[i][MOST_TOGETHER:] for i in more], update.posterior.rows(index), updater)
    earlier = update.rows(index)
    joint = Update(
        rest.posterior,
        torch.minimum(earlier.effective_sample_size, rest.effective_sample_size),
        earlier.log_evidence + rest.log_evidence,
        torch.minimum(earlier.surprise, rest.surprise),
        rest.method,
        earlier.divergence + rest.divergence,
    )
    return update.with_rows(index, joint)


def _spread(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Reorder readings that need several updates, so that each update gets no neighbours.

    Readings of one time are in the order of their sensors. Adjacent sensors, as the anchors along one wall, cannot tell
    a place from its mirror image. A sample of sensors from all sides can.
    """
    parts = math.ceil(len(readings) / MOST_TOGETHER)
    return readings if parts < 2 else [each for start in range(parts) for each in readings[start::parts]]


def _state_prior(
    predicted: GaussianMixture, errors: AccumulatedErrors, step: Step, updater: Updater
) -> Outcome:
    """Apply a prior; if it replaces the whole belief, the accumulated error starts again from zero."""
    change = step.instant.prior
    assert change is not None
    stated = change.mixture.mixture()
    if change.mode == "product":
        mixture = predicted.product(stated, change.axes)
    elif change.axes is None or len(change.axes) == predicted.dimension:
        order = np.argsort(change.axes) if change.axes is not None else np.arange(predicted.dimension)
        mixture, errors = stated.marginal(order.tolist()), AccumulatedErrors.of([NO_ERROR])
    else:
        mixture = with_axes(predicted, stated, change.axes)
    reduced, lost = condense(mixture, updater.settings.components, updater.settings.merge_below)
    belief = single_belief(reduced, step.instant.time, errors.plus(lost))
    return Outcome(belief, 1.0, 0.0, 1.0, "prior")


def _split(update: Update, times: Sequence[float], errors: Sequence[AccumulatedError]) -> list[Outcome]:
    """Split a batch of posteriors into single beliefs, without the unused components."""
    weights = update.posterior.log_weights.exp().numpy()
    means, covariances = update.posterior.means.numpy(), update.posterior.covariances.numpy()
    counts = update.posterior.present.sum(1).tolist()
    names = {int(method): method.name.lower() for method in Method}
    columns = zip(
        update.effective_sample_size.tolist(),
        update.log_evidence.tolist(),
        update.surprise.tolist(),
        update.method.tolist(),
        strict=True,
    )
    outcomes = []
    for row, (size, evidence, surprise, method) in enumerate(columns):
        # a reduced mixture has its components first, heaviest first
        count = counts[row]
        share = weights[row, :count]
        belief = Belief(
            times[row],
            share / share.sum(),
            means[row, :count].copy(),
            covariances[row, :count].copy(),
            error=errors[row],
        )
        outcomes.append(Outcome(belief, size, evidence, surprise, names[method]))
    return outcomes


def replay(
    events: Iterable[Event], model_of: Callable[[str], StateModel], updater: Updater
) -> Iterator[tuple[str, Outcome]]:
    """Replay a whole log in event time; yields every posterior of every entity, each entity's in order.

    There is one posterior for each instant that `informs`; controls move the belief on, but yield none.

    Entities are independent, so they go through `advance` together: first all first instants, then all second ones.
    """
    logs: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        logs[event.entity].append(event)
    timelines = {entity: instants(log) for entity, log in logs.items()}
    beliefs: dict[str, Belief] = {}
    for turn in range(max(map(len, timelines.values()), default=0)):
        active = [entity for entity, timeline in timelines.items() if turn < len(timeline)]
        steps = [Step(beliefs.get(entity), model_of(entity), timelines[entity][turn]) for entity in active]
        for entity, outcome in zip(active, advance(steps, updater), strict=True):
            beliefs[entity] = outcome.belief
            if timelines[entity][turn].informs:
                yield entity, outcome
