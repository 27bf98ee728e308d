"""Advances a batch's entities in rounds: the r-th instant of every entity in one update."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import structlog

from beliefstream.inference.tracking.events import Instant
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.tracking.health.columns import WIDTH, Array
from beliefstream.inference.tracking.health.innovations import innovations
from beliefstream.inference.tracking.health.sums import terms
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import cloudevents
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.kafka.producing import Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.sensor_records import Offsets
from beliefstream.streams.worker.entity_batch import EntityBatch

log = structlog.get_logger()
IMPLAUSIBLE_DEVIATIONS = 100.0


def are_sound(outcomes: Sequence[Outcome | None]) -> list[bool]:
    """Whether each outcome is finite, with positive definite covariances; None is not sound.

    Almost always all are, so that one test of all together is enough. Native steps have looked already.
    """
    found = [outcome for outcome in outcomes if outcome is not None and not outcome.is_sound]
    if all(map(_are_all_sound, _by_dimension(found))):
        return [outcome is not None for outcome in outcomes]
    return [outcome is not None and (outcome.is_sound or _are_all_sound([outcome])) for outcome in outcomes]


def _by_dimension(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    groups: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.belief.means.shape[1]].append(outcome)
    return list(groups.values())


def _are_all_sound(outcomes: Sequence[Outcome]) -> bool:
    """Whether all outcomes are sound; they have the same dimension."""
    beliefs = [outcome.belief for outcome in outcomes]
    if not all(len(belief.weights) for belief in beliefs):
        return False
    quality = 0.0
    for each in outcomes:
        quality += each.sample_efficiency + each.log_evidence + each.p_value + each.accumulated_error
    weights = np.concatenate([belief.weights for belief in beliefs])
    means = np.concatenate([belief.means for belief in beliefs])
    covariances = np.concatenate([belief.covariances for belief in beliefs])
    with np.errstate(invalid="ignore", over="ignore"):
        total = quality + weights.sum() + means.sum() + covariances.sum()
    if not math.isfinite(total):  # it is not finite if any term is not
        return False
    try:
        np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        return False
    return True


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
    emitted: list[Outcome] = []
    doubtful: list[tuple[EntityBatch, Step]] = []
    source = f"/{application}"

    def emit(entity: EntityBatch) -> None:
        outcome, model = entity.outcome, entity.model
        assert outcome is not None and model is not None
        emitted.append(outcome)
        applied = entity.mark_emitted()
        posteriors.append(posterior(entity, model, outcome, applied, names.posteriors, source))

    for index in range(max((len(entity.instants) for entity in entities), default=0)):
        active = [entity for entity in entities if index < len(entity.instants)]
        steps = [_step(entity, entity.instants[index]) for entity in active]
        outcomes = _outcomes(steps, updater, fitted is not None)
        sound = are_sound(outcomes)
        for entity, step, outcome, is_sound in zip(active, steps, outcomes, sound, strict=True):
            instant = step.instant
            # readings so far out have a p-value of exactly 0 in float64: the others need no further check
            if outcome is not None and outcome.p_value == 0.0 and instant.readings:
                doubtful.append((entity, step))
            if is_sound and outcome is not None:
                entity.apply(instant, outcome)
            elif not _apply_older(entity, instant, updater):
                continue
            applied = outcome if entity.outcome is outcome else None
            if fitted is not None and applied is not None and applied.fits is not None:
                fitted.add(entity, instant, applied.fits)
            if entity.emits(index):
                emit(entity)
    for entity in entities:
        if entity.revised and entity.outcome is not None:
            emit(entity)  # it has lost its newest time, because all its messages failed
    _count_implausible(doubtful)
    _measure(emitted)
    return posteriors


def _measure(emitted: Sequence[Outcome]) -> None:
    """Update the metrics of posteriors."""
    for method, number in Counter([each.method for each in emitted]).items():
        metrics.POSTERIORS.labels(method).inc(number)
    metrics.observe_all(metrics.ACCUMULATED_ERROR, (each.accumulated_error for each in emitted))
    sizes = (each.sample_efficiency for each in emitted if each.method != "prior")
    metrics.observe_all(metrics.SAMPLE_EFFICIENCY, sizes)


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
    return Step(entity.belief, entity.model.state, instant, entity.earlier(instant))


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


def posterior(
    entity: EntityBatch, model: EntityModel, outcome: Outcome, applied: list[str], topic: str, source: str
) -> Record:
    """The record of a posterior of the entity, which names the new messages that are `applied`."""
    name, record = entity.name, entity.record
    value = model.writer.write(
        name, outcome, record.sequence, record.prior_sequence, applied, record.revision
    )
    headers = cloudevents.headers(
        cloudevents.POSTERIOR, source, f"{name}:{record.sequence}", outcome.belief.time
    )
    return Record(topic, entity.partition, entity.key, value, headers)


class Fitted:
    """The new observations of instants that were applied, and how they fit their predictions.

    Each is added right after its update, when all that is taken of it is in the processor's cache.
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple[int, str], int] = defaultdict(count().__next__)  # by partition and sensor
        self.groups: list[int] = []  # one of these numbers each
        self.times: list[float] = []
        self.offsets: list[int] = []
        self.bits: list[int] = []
        self.fits: list[Array] = []

    def add(self, entity: EntityBatch, instant: Instant, fits: Array) -> None:
        """Add the new observations of an instant; `fits` are those of all its readings, ``(channels, len(Fit))``."""
        start = 0
        for label, reading in zip(instant.labels, instant.readings, strict=True):
            entry, end = entity.entries[label], start + reading.sensor.value_length
            if not entry.is_applied:
                self.groups.append(self.numbers[entity.partition, entry.sensor])
                self.times.append(instant.time)
                self.offsets.append(entry.message.offset)
                self.bits.append(entity.bit)
                self.fits.append(fits if end - start == len(fits) else fits[start:end])
            start = end


class Judged(NamedTuple):
    """``N`` new observations of one sensor in one partition, in the order in which they were applied.

    Attributes:
        times: ``(N,)``, in seconds.
        offsets: ``(N,)``.
        terms: what they add to the sums of the sensor, ``(N, channels, WIDTH)``.
        newest: the latest of the times.
        entities: the bits of their entities.
    """

    partition: int
    sensor: str
    times: Array
    offsets: Offsets
    terms: Array
    newest: float
    entities: int


def by_sensor(fitted: Fitted) -> Iterator[Judged]:
    """Yield the observations by partition and sensor, in order of the first of each.

    A batch has thousands of observations. What is done for each in Python takes longer than all arithmetic.
    """
    if not fitted.groups:
        return
    group = np.array(fitted.groups)
    order = np.argsort(group, kind="stable")
    times, offsets = np.array(fitted.times)[order], np.array(fitted.offsets, dtype=np.int64)[order]
    bits = np.array(fitted.bits)[order]
    channels = np.fromiter(map(len, fitted.fits), np.int64, len(fitted.fits))
    fits = np.concatenate(fitted.fits)
    table = terms(fits[np.argsort(np.repeat(group, channels), kind="stable")])
    stops = np.cumsum(np.bincount(group))
    starts = np.concatenate([[0], stops[:-1]])
    rows = np.concatenate([[0], np.cumsum(channels[order])])
    newest = np.maximum.reduceat(times, starts).tolist()
    entities = np.bitwise_or.reduceat(bits, starts).tolist()
    for index, (partition, sensor) in enumerate(fitted.numbers):
        start, stop = starts[index], stops[index]
        found = table[rows[start] : rows[stop]].reshape(stop - start, -1, WIDTH)
        own = times[start:stop], offsets[start:stop], found, newest[index], entities[index]
        yield Judged(partition, sensor, *own)
