"""Advances a batch's entities in rounds: the r-th instant of every entity in one update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from beliefstream.inference.tracking.events import Instant
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.tracking.innovations import innovations
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import cloudevents
from beliefstream.streams.kafka.producing import Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.judged_observations import Fitted
from beliefstream.streams.worker.soundness import are_sound

log = structlog.get_logger()
IMPLAUSIBLE_DEVIATIONS = 100.0
Quality = tuple[str, float, float]  # method, effective sample size and accumulated error of a posterior


def run_rounds(
    entities: Sequence[EntityBatch],
    updater: Updater,
    names: TopicNames,
    application: str,
    fitted: Fitted | None = None,
) -> list[Record]:
    """Advance every entity through its instants, and return the posteriors to emit, in order for each entity.

    Instants that were applied with all their messages are added to `fitted`, with how they fit their prediction.
    """
    posteriors: list[Record] = []
    emitted: list[Quality] = []
    doubtful: list[tuple[EntityBatch, Step]] = []
    source = f"/{application}"

    def emit(entity: EntityBatch) -> None:
        assert entity.outcome is not None
        outcome = entity.outcome
        emitted.append((outcome.method, outcome.effective_sample_size, outcome.accumulated_error))
        posteriors.append(_posterior(entity, outcome, names.posteriors, source))

    for index in range(max((len(entity.instants) for entity in entities), default=0)):
        active = [entity for entity in entities if index < len(entity.instants)]
        steps = [_step(entity, entity.instants[index]) for entity in active]
        outcomes = _outcomes(steps, updater, fitted is not None)
        sound = are_sound(outcomes)
        for entity, step, outcome, is_sound in zip(active, steps, outcomes, sound, strict=True):
            instant = step.instant
            # readings so far out have a p-value of exactly 0 in float64: the others need no further check
            if outcome is not None and outcome.surprise == 0.0 and instant.readings:
                doubtful.append((entity, step))
            if is_sound and outcome is not None:
                entity.apply(instant, outcome)
            elif not _apply_older(entity, instant, updater):
                continue
            if (
                fitted is not None
                and outcome is not None
                and outcome.fits is not None
                and entity.outcome is outcome
            ):
                fitted.add(entity, instant, outcome.fits)
            if entity.emits(index):
                emit(entity)
    for entity in entities:
        if entity.revised and entity.outcome is not None:
            emit(entity)  # it has lost its newest time, because all its messages failed
    _count_implausible(doubtful)
    _measure(emitted)
    return posteriors


def _measure(emitted: Sequence[Quality]) -> None:
    """Update the metrics of posteriors."""
    for method, count in Counter([method for method, _, _ in emitted]).items():
        metrics.POSTERIORS.labels(method).inc(count)
    metrics.ACCUMULATED_ERROR.observe([error for _, _, error in emitted])
    metrics.EFFECTIVE_SAMPLE_SIZE.observe([size for method, size, _ in emitted if method != "prior"])


def _count_implausible(doubtful: Sequence[tuple[EntityBatch, Step]]) -> None:
    """Count new readings far from their prediction, by sensor."""
    if not doubtful:
        return
    try:
        distances = innovations([step for _, step in doubtful])
    except (ArithmeticError, ValueError, RuntimeError) as error:  # a failed count must not fail the batch
        log.error("implausible observations cannot be counted", error=repr(error))
        return
    for (entity, step), several in zip(doubtful, distances, strict=True):
        for label, distance in zip(step.instant.labels, several, strict=True):
            entry = entity.entries[label]
            if distance > IMPLAUSIBLE_DEVIATIONS and not entry.is_applied:
                metrics.count_implausible(entry.sensor)


def _apply_older(entity: EntityBatch, instant: Instant, updater: Updater) -> bool:
    """Apply an instant that has no sound outcome with its older messages only; returns whether there are such."""
    before = entity.without_new(instant)
    if before is None:
        entity.fail(instant.labels)
        return False
    entity.fail([label for label in instant.labels if label not in before.labels])
    outcome = _update_alone(_step(entity, before), updater)
    if outcome is None or not are_sound([outcome])[0]:
        return _apply_older(entity, before, updater)
    entity.apply(before, outcome)
    return True


def _step(entity: EntityBatch, instant: Instant) -> Step:
    assert entity.model is not None
    return Step(entity.belief, entity.model.state, instant)


def _outcomes(steps: Sequence[Step], updater: Updater, with_fits: bool) -> list[Outcome | None]:
    try:
        return list(advance(steps, updater, with_fits=with_fits))
    except MemoryError:
        raise  # not caused by these messages: the worker stops, and they are delivered again
    except Exception:
        log.exception("a round failed, its entities are updated one by one")
    return [_update_alone(step, updater) for step in steps]  # without fits, which may have been the cause


def _update_alone(step: Step, updater: Updater) -> Outcome | None:
    try:
        return advance([step], updater)[0]
    except MemoryError:
        raise
    except Exception as error:
        log.error("an update failed", error=repr(error))
        return None


def _posterior(entity: EntityBatch, outcome: Outcome, topic: str, source: str) -> Record:
    """The posterior of the entity's current belief."""
    assert entity.model is not None
    name, record, applied = entity.name, entity.record, entity.mark_emitted()
    value = entity.model.writer.write(
        name, outcome, record.sequence, record.prior_sequence, applied, record.revision
    )
    headers = cloudevents.headers(
        cloudevents.POSTERIOR, source, f"{name}:{record.sequence}", outcome.belief.time
    )
    return Record(topic, entity.partition, entity.key, value, headers)
