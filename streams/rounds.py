"""A batch's entities through event time: the r-th instant of every entity together, one update a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import structlog

from inference.filtering import Event, Instant, Outcome, Step, advance, instants
from inference.update import Updater
from schemas import Reason, Unusable, cloudevents
from streams import metrics
from streams.beliefs import BeliefRecord
from streams.registry import EntityModel
from streams.sending import Record
from streams.topics import TopicNames

log = structlog.get_logger()
NOT_FINITE = "update: the posterior is not finite"


@dataclass
class EntityBatch:
    """One entity's part of a batch. `accepted`, `events` and `ids` go together; positions index them."""

    key: bytes
    partition: int
    record: BeliefRecord
    last_event: Any = None
    accepted: list[Event] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    model: EntityModel | None = None
    instants: list[Instant] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    late: set[int] = field(default_factory=set)
    due: list[tuple[int, bytes]] = field(
        default_factory=list
    )  # priors that waited; labels -1, -2, ... index them
    lost: list[tuple[int, bytes, Reason, str]] = field(
        default_factory=list
    )  # those of them that cannot be used

    @property
    def name(self) -> str:
        return self.key.decode(errors="replace")

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything to remember; an entity known from bad messages only is not."""
        return self.record.belief is not None or bool(self.record.pending)

    def is_new(self, offset: int, is_prior: bool) -> bool:
        """Whether the belief does not hold this message already."""
        return offset > (self.record.prior_offset if is_prior else self.record.observation_offset)

    def count(self, offset: int, is_prior: bool) -> None:
        """Note that this message has been dealt with, whatever becomes of it."""
        if is_prior:
            self.record.prior_offset = offset
        else:
            self.record.observation_offset = offset

    def accept(self, event: Any, accepted: Event, name: str) -> None:
        self.accepted.append(accepted)
        self.events.append(event)
        self.ids.append(name)

    def use(self, model: EntityModel) -> None:
        """Go on with this model; a belief over other coordinates is given up for the model's prior."""
        names = model.message.coordinate_names
        if self.record.belief is not None and self.record.coordinates != names:
            log.warning("the model's coordinates changed, the belief starts again", entity=self.name)
            self.record.belief = None
        self.record.coordinates = names
        self.model = model

    def split_late(self) -> list[int]:
        """Positions of events before the belief; they are left out from here on."""
        belief = self.record.belief
        if belief is not None:
            self.late = {i for i, event in enumerate(self.accepted) if event.time < belief.time}
        return sorted(self.late)

    def plan(self, waited: Callable[[bytes, bytes], Event], most_pending: int) -> list[int]:
        """Order what is due into instants; priors ahead of every observation wait. Returns those that cannot.

        A prior is due once an observation at or after its time is there, so that observations from before it, still
        on their way, are not shut out by it.
        """
        due = [(i, event) for i, event in enumerate(self.accepted) if i not in self.late]
        times = [event.time for _, event in due if event.reading is not None]
        if self.record.belief is not None:
            times.append(self.record.belief.time)
        newest = max(times, default=float("-inf"))
        waiting, ready = self._waited(waited, newest)
        refused: list[int] = []
        for position, event in due:
            if event.reading is not None or event.time <= newest:
                ready.append(replace(event, label=position))
            elif len(waiting) < most_pending:
                message = self.events[position].message
                waiting.append((message.offset, message.value))
            else:
                refused.append(position)
        self.record.pending = waiting
        self.instants = instants(ready)
        return refused

    def _waited(
        self, waited: Callable[[bytes, bytes], Event], newest: float
    ) -> tuple[list[tuple[int, bytes]], list[Event]]:
        """The priors kept earlier: those that still wait, and the events of those that are due."""
        waiting: list[tuple[int, bytes]] = []
        ready: list[Event] = []
        for offset, raw in self.record.pending:
            try:
                stated = waited(self.key, raw)
            except Unusable as unusable:  # its model is another one now
                self.lost.append((offset, raw, unusable.reason, unusable.detail))
                continue
            if stated.time <= newest:
                self.due.append((offset, raw))
                ready.append(replace(stated, label=-len(self.due)))
            else:
                waiting.append((offset, raw))
        return waiting, ready

    def fail(self, labels: Iterable[int]) -> None:
        """What these labels name could not be applied."""
        for label in labels:
            if label >= 0:
                self.failed.append(label)
            else:
                self.lost.append((*self.due[-1 - label], Reason.numerical, NOT_FINITE))


def run_rounds(
    entities: Sequence[EntityBatch], updater: Updater, names: TopicNames, application: str
) -> list[Record]:
    """Advance every entity through its instants; returns their posteriors, each entity's in order."""
    posteriors: list[Record] = []
    for turn in range(max(len(entity.instants) for entity in entities)):
        active = [entity for entity in entities if turn < len(entity.instants)]
        for entity, outcome in zip(active, _outcomes(active, turn, updater), strict=True):
            instant = entity.instants[turn]
            if outcome is None or not _sound(outcome):
                entity.fail(instant.labels)
                continue
            labels = [label for label in instant.labels if label >= 0]
            posteriors.append(_take(entity, instant, outcome, labels, names, application))
    return posteriors


def _outcomes(active: Sequence[EntityBatch], turn: int, updater: Updater) -> list[Outcome | None]:
    steps = []
    for entity in active:
        assert entity.model is not None
        steps.append(Step(entity.record.belief, entity.model.state, entity.instants[turn]))
    try:
        return list(advance(steps, updater))
    except Exception:
        log.exception("a round failed, its entities are tried one by one")
    return [_alone(step, updater) for step in steps]


def _alone(step: Step, updater: Updater) -> Outcome | None:
    try:
        return advance([step], updater)[0]
    except Exception as error:
        log.error("an update failed", error=repr(error))
        return None


def _sound(outcome: Outcome) -> bool:
    """Whether it is a belief to go on with, and one that readers of the posterior can take."""
    belief = outcome.belief
    quality = outcome.effective_sample_size + outcome.log_evidence + outcome.surprise
    # not finite if any is not
    total = quality + belief.weights.sum() + belief.means.sum() + belief.covariances.sum()
    if len(belief.weights) == 0 or not math.isfinite(total):
        return False
    try:
        np.linalg.cholesky(belief.covariances)
    except np.linalg.LinAlgError:
        return False
    return True


def _take(
    entity: EntityBatch,
    instant: Instant,
    outcome: Outcome,
    labels: Sequence[int],
    names: TopicNames,
    application: str,
) -> Record:
    """Make the outcome the entity's belief, and write its posterior."""
    assert entity.model is not None
    record = entity.record
    record.belief = outcome.belief
    record.sequence += 1
    if instant.prior is not None:
        record.prior_sequence += 1
    entity.applied.extend(labels)
    metrics.POSTERIORS.labels(outcome.method).inc()
    if instant.prior is None:
        metrics.EFFECTIVE_SAMPLE_SIZE.observe(outcome.effective_sample_size)
    applied = [entity.ids[label] for label in labels if entity.ids[label]]
    value = entity.model.writer.write(entity.name, outcome, record.sequence, record.prior_sequence, applied)
    headers = cloudevents.headers(
        cloudevents.POSTERIOR, f"/{application}", f"{entity.name}:{record.sequence}", outcome.belief.time
    )
    return Record(names.posteriors, entity.partition, entity.key, value, headers)
