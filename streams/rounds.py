"""A batch's entities through event time: the r-th instant of every entity together, one update a round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import structlog

from inference.events import Instant
from inference.filtering import Outcome, Step, advance
from inference.innovations import innovations
from inference.update import Updater
from schemas import cloudevents
from streams import metrics
from streams.entities import EntityBatch
from streams.sending import Record
from streams.topics import TopicNames

log = structlog.get_logger()
IMPLAUSIBLE_DEVIATIONS = 100.0


def run_rounds(
    entities: Sequence[EntityBatch], updater: Updater, names: TopicNames, application: str
) -> list[Record]:
    """Advance every entity through its instants; returns the posteriors to emit, each entity's in order."""
    posteriors: list[Record] = []
    for turn in range(max((len(entity.instants) for entity in entities), default=0)):
        active = [entity for entity in entities if turn < len(entity.instants)]
        outcomes = _outcomes(active, turn, updater)
        _count_implausible(active, turn, outcomes)
        for entity, outcome in zip(active, outcomes, strict=True):
            if _settle(entity, entity.instants[turn], outcome, updater) and entity.shows(turn):
                posteriors.append(_posterior(entity, names, application))
    # of those whose newest time has gone, because all of it failed
    owed = [entity for entity in entities if entity.revised and entity.outcome is not None]
    return [*posteriors, *(_posterior(entity, names, application) for entity in owed)]


def _count_implausible(active: Sequence[EntityBatch], turn: int, outcomes: Sequence[Outcome | None]) -> None:
    """Count the new readings that lie far from what was predicted, by their sensors; before the beliefs go on."""
    # so far from it the p-value is 0 in float64, and it is nothing else: the others need no second look
    doubtful = [
        entity
        for entity, outcome in zip(active, outcomes, strict=True)
        if outcome is not None and outcome.surprise == 0.0 and entity.instants[turn].readings
    ]
    if not doubtful:
        return
    try:
        distances = innovations([_step(entity, entity.instants[turn]) for entity in doubtful])
    except (ArithmeticError, ValueError, RuntimeError) as error:  # a count is not worth a batch
        log.error("implausible observations cannot be counted", error=repr(error))
        return
    for entity, several in zip(doubtful, distances, strict=True):
        for label, distance in zip(entity.instants[turn].labels, several, strict=True):
            entry = entity.entries[label]
            if distance > IMPLAUSIBLE_DEVIATIONS and not entry.again:
                metrics.count_implausible(entry.sensor)


def _settle(entity: EntityBatch, instant: Instant, outcome: Outcome | None, updater: Updater) -> bool:
    """Apply the outcome if it is sound; what was there before goes in without what is new if need be."""
    if outcome is None or not _sound(outcome):
        before = entity.without_new(instant)
        if before is None:
            entity.fail(instant.labels)
            return False
        entity.fail([label for label in instant.labels if label not in before.labels])
        return _settle(entity, before, _alone(_step(entity, before), updater), updater)
    entity.apply(instant, outcome)
    return True


def _step(entity: EntityBatch, instant: Instant) -> Step:
    assert entity.model is not None
    return Step(entity.belief, entity.model.state, instant)


def _outcomes(active: Sequence[EntityBatch], turn: int, updater: Updater) -> list[Outcome | None]:
    steps = [_step(entity, entity.instants[turn]) for entity in active]
    try:
        return list(advance(steps, updater))
    except MemoryError:
        raise  # no fault of these messages: the worker stops, and they are delivered again
    except Exception:
        log.exception("a round failed, its entities are tried one by one")
    return [_alone(step, updater) for step in steps]


def _alone(step: Step, updater: Updater) -> Outcome | None:
    try:
        return advance([step], updater)[0]
    except MemoryError:
        raise
    except Exception as error:
        log.error("an update failed", error=repr(error))
        return None


def _sound(outcome: Outcome) -> bool:
    """Whether it is a belief to go on with, and one that readers of the posterior can take."""
    belief = outcome.belief
    quality = (
        outcome.effective_sample_size + outcome.log_evidence + outcome.surprise + outcome.accumulated_error
    )
    # not finite if any is not
    total = quality + belief.weights.sum() + belief.means.sum() + belief.covariances.sum()
    if len(belief.weights) == 0 or not math.isfinite(total):
        return False
    try:
        np.linalg.cholesky(belief.covariances)
    except np.linalg.LinAlgError:
        return False
    return True


def _posterior(entity: EntityBatch, names: TopicNames, application: str) -> Record:
    """Of the entity's belief as it is now."""
    assert entity.model is not None
    assert entity.outcome is not None
    record, outcome, applied = entity.record, entity.outcome, entity.show()
    metrics.POSTERIORS.labels(outcome.method).inc()
    metrics.ACCUMULATED_ERROR.observe(outcome.accumulated_error)
    if outcome.method != "prior":
        metrics.EFFECTIVE_SAMPLE_SIZE.observe(outcome.effective_sample_size)
    value = entity.model.writer.write(
        entity.name, outcome, record.sequence, record.prior_sequence, applied, record.revision
    )
    headers = cloudevents.headers(
        cloudevents.POSTERIOR, f"/{application}", f"{entity.name}:{record.sequence}", outcome.belief.time
    )
    return Record(names.posteriors, entity.partition, entity.key, value, headers)
