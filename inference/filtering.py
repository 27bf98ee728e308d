"""Beliefs through event time: predict to an instant, then update with what was observed or stated then.

`advance` is the step that a worker takes with every batch, one call over all entities; `replay` runs a whole log
through it without any Kafka, and is what the posteriors of a stream must equal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from inference.encoding import encode
from inference.events import Belief, Event, Instant, StateModel, instants
from inference.mixture import GaussianMixture
from inference.motion import Control
from inference.moving import Moved, move, together
from inference.readings import Reading, expanded, held
from inference.reduction import reduce
from inference.update import Method, Settings, Update, Updater

MOST_TOGETHER = 6  # observations in one update: as many as the network was trained on; more follow at once
WHOLE = Settings(bend_below=0.0)


@dataclass(frozen=True, eq=False)
class Step:
    """One entity's next instant; `belief` is None where there is none yet."""

    belief: Belief | None
    model: StateModel
    instant: Instant


@dataclass(frozen=True, eq=False)
class Outcome:
    """The belief after an instant, and how good it is."""

    belief: Belief
    effective_sample_size: float
    log_evidence: float
    surprise: float
    method: str  # of `Method`, in small letters; prior where none was observed, predicted under a control


def advance(steps: Sequence[Step], updater: Updater) -> list[Outcome]:
    """Each entity's belief moved to its instant and updated there; the results are in the order of `steps`.

    Raises ValueError where an instant lies before its belief.
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
    """The step from the model's prior, if the belief is too old to be gone on with."""
    belief = step.belief
    if belief is None or step.instant.time - belief.time <= step.model.expires_after:
        return step
    return replace(step, belief=None)


def _advance_alike(steps: Sequence[Step], updater: Updater) -> list[Outcome]:
    predicted = moved(steps, updater.settings).mixture
    outcomes: dict[int, Outcome] = {}
    observed = [i for i, step in enumerate(steps) if step.instant.readings]
    for i, step in enumerate(steps):
        if step.instant.prior is not None:
            outcomes[i] = _state_prior(predicted.rows(slice(i, i + 1)), step, updater)
        elif not step.instant.readings:
            outcomes[i] = _carried_on(predicted, i, step, updater)
    if observed:
        some = predicted.rows(torch.tensor(observed))
        update = _observe([steps[i].instant.readings for i in observed], some, updater)
        times = [steps[i].instant.time for i in observed]
        outcomes |= dict(zip(observed, _split(update, times), strict=True))
    return [_under_control(outcomes[i], step) for i, step in enumerate(steps)]


def _carried_on(predicted: GaussianMixture, row: int, step: Step, updater: Updater) -> Outcome:
    """The prediction; a model's prior may have more components than a belief keeps, and is reduced."""
    belief = _belief(predicted, row, step.instant.time)
    if len(belief.weights) > (most := updater.settings.components):
        reduced = reduce(predicted.rows(slice(row, row + 1)), most, updater.settings.merge_below)
        belief = _belief(reduced, 0, step.instant.time)
    return Outcome(belief, 1.0, 0.0, 1.0, "predicted")


def _under_control(outcome: Outcome, step: Step) -> Outcome:
    """With the inputs that hold from the instant on."""
    inputs = step.model.motion.inputs
    control = step.belief.control if step.belief is not None else None
    if control is not None and len(control.value) != inputs:
        control = None  # reported to another motion
    if step.instant.control is not None:
        control = held(control, step.instant.control, inputs)
    return outcome if control is None else replace(outcome, belief=replace(outcome.belief, control=control))


def predict(steps: Sequence[Step]) -> GaussianMixture:
    """Beliefs moved to the time of their instants, each component as one, whatever that loses: see `moved`."""
    return moved(steps, WHOLE).mixture


def moved(steps: Sequence[Step], settings: Settings) -> Moved:
    """Beliefs moved to the time of their instants under the controls in force, as one batch, and what that loses.

    Where there is no belief it is the model's prior, which is not moved.
    """
    beliefs = [step.belief or replace(step.model.prior, time=step.instant.time) for step in steps]
    intervals = torch.tensor(
        [step.instant.time - belief.time for step, belief in zip(steps, beliefs, strict=True)],
        dtype=torch.float64,
    )
    if bool((intervals < 0).any()):
        late = int((intervals < 0).nonzero()[0, 0])
        raise ValueError(f"time: {steps[late].instant.time} lies before the belief's {beliefs[late].time}")
    mixture = _stack(beliefs)
    by_motion: dict[int, list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        by_motion[id(step.model.motion)].append(index)
    parts, order = [], []
    for indices in by_motion.values():
        rows, motion = torch.tensor(indices), steps[indices[0]].model.motion
        control = _controls([beliefs[index] for index in indices], motion.inputs)
        alone = len(by_motion) == 1
        some = mixture if alone else mixture.rows(rows)
        parts.append(move(motion, some, intervals if alone else intervals[rows], control, settings))
        order.append(rows)
    return parts[0] if len(parts) == 1 else together(parts, order)


def _controls(beliefs: Sequence[Belief], count: int) -> Control | None:
    """The inputs of all, zero and exact where none was reported; None where that is so of all, or there are none.

    What was kept under a motion of other inputs is taken as not reported.
    """
    known = [belief.control for belief in beliefs]
    if not count or all(control is None for control in known):
        return None
    value, covariance = np.zeros((len(known), count)), np.zeros((len(known), count, count))
    for row, control in enumerate(known):
        if control is not None and len(control.value) == count:
            value[row], covariance[row] = control.value, control.covariance
    return Control(torch.from_numpy(value), torch.from_numpy(covariance))


def _stack(beliefs: Sequence[Belief]) -> GaussianMixture:
    """One batch from beliefs of any number of components."""
    most, size = max(len(b.weights) for b in beliefs), beliefs[0].means.shape[1]
    weights = np.zeros((len(beliefs), most))
    means = np.zeros((len(beliefs), most, size))
    covariances = np.tile(np.eye(size), (len(beliefs), most, 1, 1))
    for row, belief in enumerate(beliefs):
        count = len(belief.weights)
        weights[row, :count], means[row, :count] = belief.weights, belief.means
        covariances[row, :count] = belief.covariances
    parts = (torch.from_numpy(part) for part in (weights, means, covariances))
    return GaussianMixture.from_weights(*parts)


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
    """So that those taken together are not neighbours, if they are more than go into one update.

    Readings of one time are in order of their sensors. Sensors side by side, as the anchors along one wall, cannot tell
    a place from its mirror image; a part of them from all sides can.
    """
    parts = math.ceil(len(readings) / MOST_TOGETHER)
    return readings if parts < 2 else [each for start in range(parts) for each in readings[start::parts]]


def _state_prior(predicted: GaussianMixture, step: Step, updater: Updater) -> Outcome:
    change = step.instant.prior
    assert change is not None
    stated = change.mixture.mixture()
    if change.mode == "product":
        mixture = predicted.product(stated, change.axes)
    elif change.axes is None or len(change.axes) == predicted.dimension:
        order = np.argsort(change.axes) if change.axes is not None else np.arange(predicted.dimension)
        mixture = stated.marginal(order.tolist())
    else:
        mixture = _replace_axes(predicted, stated, change.axes)
    reduced = reduce(mixture, updater.settings.components, updater.settings.merge_below)
    belief = _belief(reduced, 0, step.instant.time)
    return Outcome(belief, 1.0, 0.0, 1.0, "prior")


def _replace_axes(old: GaussianMixture, new: GaussianMixture, axes: tuple[int, ...]) -> GaussianMixture:
    """`new` over `axes`, independent of what was believed of the other coordinates."""
    rest = [axis for axis in range(old.dimension) if axis not in axes]
    kept = old.marginal(rest)
    count = (old.components, new.components)
    means = torch.zeros(1, *count, old.dimension, dtype=torch.float64)
    covariances = torch.zeros(1, *count, old.dimension, old.dimension, dtype=torch.float64)
    means[..., rest], means[..., list(axes)] = kept.means[:, :, None], new.means[:, None]
    covariances[..., np.ix_(rest, rest)[0], np.ix_(rest, rest)[1]] = kept.covariances[:, :, None]
    covariances[..., np.ix_(axes, axes)[0], np.ix_(axes, axes)[1]] = new.covariances[:, None]
    log_weights = kept.log_weights[:, :, None] + new.log_weights[:, None]
    return GaussianMixture(log_weights.flatten(1, 2), means.flatten(1, 2), covariances.flatten(1, 2))


def _belief(mixture: GaussianMixture, row: int, time: float) -> Belief:
    present = mixture.present[row]
    weights = mixture.log_weights[row, present].exp().numpy()
    return Belief(
        time,
        weights / weights.sum(),
        mixture.means[row, present].numpy(),
        mixture.covariances[row, present].numpy(),
    )


def _split(update: Update, times: Sequence[float]) -> list[Outcome]:
    """A batch's posteriors, an entity at a time, without the unused places."""
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
        # reduced mixtures have their components in front, heaviest first
        count = counts[row]
        share = weights[row, :count]
        belief = Belief(
            times[row], share / share.sum(), means[row, :count].copy(), covariances[row, :count].copy()
        )
        outcomes.append(Outcome(belief, size, evidence, surprise, names[method]))
    return outcomes


def replay(
    events: Iterable[Event], model_of: Callable[[str], StateModel], updater: Updater
) -> Iterator[tuple[str, Outcome]]:
    """The whole log in order of event time; yields every posterior of every entity, each entity's in order.

    There is one for each instant that `informs`; controls move the belief on, and have no posterior of their own.

    Entities do not depend on each other, so they go through `advance` side by side: the r-th instants of all together.
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
