"""Every way in: what takes bytes from outside, with sound inputs to begin from, and what must hold of any."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

import numpy as np
from aiokafka import ConsumerRecord

from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.timeline import Moment, Timeline
from beliefstream.schemas import DeadLetter, Posterior, Reason, Reset, Unusable, cloudevents, parse
from beliefstream.streams.cli.messages.posteriors import row
from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.state.codec import DamagedRecord, StoredBelief, UnknownVersion, decode_belief
from beliefstream.streams.state.record import BeliefRecord, StoredMessage, pack, unpack
from beliefstream.streams.worker.batch import dead_letter
from beliefstream.streams.worker.validation import Validator
from tests.fuzz.applying import apply, observed
from tests.fuzz.mutation import mutant
from tests.schemas.kinds import MOTIONS, SENSORS, model

NOW = 1_770_000_000.0
Record = tuple[bytes | None, bytes | None]


class Target(NamedTuple):
    """A decoder.

    Attributes:
        seeds: sound inputs.
        check: takes any bytes; returns whether they are accepted, raises where they are not dealt with as they must be.
    """

    seeds: tuple[bytes, ...]
    check: Callable[[bytes], bool]

    def attack(self, random: Random) -> None:
        """Checks one input made from the seeds."""
        raw = mutant(random.choice(self.seeds), self.seeds, random)
        try:
            self.check(raw)
        except Exception as error:
            error.add_note(f"input: {raw!r}")
            raise


def told(unusable: Unusable) -> bool:
    """What must hold of a refusal: it is a line that can be shown anywhere, and goes to the dead letters as it is."""
    assert unusable.reason in Reason
    assert unusable.detail
    assert unusable.detail.isprintable(), unusable.detail
    assert len(unusable.detail) < 4000
    letter = dead_letter("dead", unusable.reason, unusable.detail, ("topic", 0, 1), b"key", b"value")
    again = DeadLetter.from_record(b"key", b"value", letter.headers)
    assert again.reason == unusable.reason
    return False


def encoded(*contents: Any) -> tuple[bytes, ...]:
    return tuple(json.dumps(content).encode() for content in contents)


SENSOR_SEEDS = encoded(*({"sensor": "s", **definition} for definition in SENSORS.values()))
MODEL_SEEDS = encoded(*(model(name) for name in MOTIONS))


@cache
def definitions() -> Definitions:
    """All kinds of sensors, named by kind, and all motions, as models of entities of that name."""
    made = Definitions("sensors", "models")
    for kind, definition in SENSORS.items():
        made.apply(record("sensors", kind.encode(), json.dumps({**definition, "sensor": kind}).encode()))
    for name in MOTIONS:
        entity = name.replace(" ", "-")
        made.apply(record("models", entity.encode(), json.dumps({**model(name), "entity": entity}).encode()))
    return made


def record(topic: str, key: bytes | None, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, 0, 0, 0, key, value, None, 0, 0, ())


def keyed(raw: bytes, field: str) -> bytes | None:
    """The key that a message asks for: else every mutant would fail there."""
    try:
        name = json.loads(raw).get(field)
    except (ValueError, AttributeError, RecursionError):
        return b"key"
    return name.encode(errors="replace") if isinstance(name, str) else b"key"


def observation(raw: bytes) -> bool:
    try:
        message, event = Validator(definitions(), 1_000_000, 60.0).observation(keyed(raw, "entity"), raw, NOW)
    except Unusable as unusable:
        return told(unusable)
    assert math.isfinite(event.time)
    assert message.entity.isprintable()
    return True


def stated(raw: bytes) -> bool:
    """A message of the topic of priors, where resets are too."""
    try:
        message, event = Validator(definitions(), 1_000_000, 60.0).prior_or_reset(
            keyed(raw, "entity"), raw, NOW
        )
    except Unusable as unusable:
        return told(unusable)
    assert math.isfinite(message.time)
    assert (event is None) == isinstance(message, Reset)
    return True


def sensor(raw: bytes) -> bool:
    """Also over two of the models, as at its first observation."""
    made = Definitions("sensors", "models")
    try:
        made.apply(record("sensors", keyed(raw, "sensor"), raw))
    except Unusable as unusable:
        assert not made.sensors
        return told(unusable)
    (definition,) = made.sensors.values()
    models = list(definitions().models.values())
    for each in (models[len(raw) % len(models)], models[sum(raw) % len(models)]):
        try:
            each.sensor(definition)
        except Unusable as unusable:
            told(unusable)
    return True


def state_model(raw: bytes) -> bool:
    made = Definitions("sensors", "models")
    try:
        made.apply(record("models", keyed(raw, "entity"), raw))
    except Unusable as unusable:
        assert not made.models
        return told(unusable)
    return True


def applied_observation(raw: bytes) -> bool:
    key = keyed(raw, "entity")
    return key is not None and apply(definitions(), key, NOW, [(False, raw)])


def applied_prior(raw: bytes) -> bool:
    """With an observation that it waits for."""
    key = keyed(raw, "entity")
    if key is None or definitions().model_for(key.decode(errors="replace")) is None:
        return False
    return apply(definitions(), key, NOW, [(True, raw), observed(definitions(), key.decode(), NOW)])


def applied_model(raw: bytes) -> bool:
    made = Definitions("sensors", "models")
    key = keyed(raw, "entity")
    try:
        made.apply(record("models", key, raw))
    except Unusable as unusable:
        return told(unusable)
    assert key is not None
    entity = "anyone" if key == b"*" else key.decode()
    return apply(made, entity.encode(), NOW, [observed(made, entity, NOW)])


def posterior(raw: bytes) -> bool:
    try:
        read = parse(Posterior, raw)
    except Unusable as unusable:
        return told(unusable)
    assert all(text.isprintable() for text in (*row(read), *read.applied))
    return True


def log_line(raw: bytes) -> bool:
    """A line of `beliefstream fuse`."""
    log = Log()
    log._definitions = definitions()
    log._validator._definitions = definitions()
    try:
        log.add(raw, "line:1")
    except Unusable as unusable:
        return told(unusable)
    return True


def _headers(raw: bytes) -> list[tuple[str, bytes | None]]:
    """One a line, `name=value`; nothing for a value is none."""
    lines = (line.partition(b"=") for line in raw.split(b"\n"))
    return [(name.decode(errors="replace"), value or None) for name, _, value in lines]


def dead_letter_headers(raw: bytes) -> bool:
    headers = _headers(raw)
    try:
        letter = DeadLetter.from_record(None, raw, headers)
    except Unusable as unusable:
        return told(unusable)
    assert letter.detail.isprintable() and letter.topic.isprintable()
    again = DeadLetter.from_record(None, raw, letter.headers())
    assert again == letter.model_copy(update={"detail": letter.detail[:1000]})
    return True


def cloud_events(raw: bytes) -> bool:
    headers = _headers(raw)
    attributes = cloudevents.parse(headers)
    assert all(value.isprintable() for value in attributes.values())
    assert all(name.isprintable() for name in attributes)
    return True


def belief_record(raw: bytes) -> bool:
    """All of it, with what is read later only."""
    try:
        read = BeliefRecord.decode(raw)
        decode_belief(read.past.base)
        for moment in read.past.moments:
            unpack(moment.content)
            decode_belief(moment.state)
    except (UnknownVersion, DamagedRecord) as error:
        assert f"{error}".startswith(("changelog: ", "a record of version "))
        return False
    return True


def _beliefs() -> tuple[bytes, ...]:
    def belief(time: float, control: bool = False, error: AccumulatedError = NO_ERROR) -> Belief:
        held = ControlReading(np.ones(2), np.eye(2)) if control else None
        return Belief(time, np.ones(2) / 2, np.zeros((2, 3)), np.stack([np.eye(3)] * 2), held, error)

    content = pack([StoredMessage(False, 7, b'{"entity":"a"}'), StoredMessage(True, 8, b"{}")])
    past: Timeline[bytes, StoredBelief] = Timeline(
        belief(1.0), 1.0, [Moment(2.0, content, belief(2.0, True)), Moment(3.0, content, None)]
    )
    whole = BeliefRecord(past, ("x", "y", "z"), 5, 1, 1, 9, 3, [(4, b"{}")], 3.0)
    reset = BeliefRecord(past, ("x", "y", "z"), 5, 1, 1, 9, 3, [], 3.0, 2.0, 2, 8, ("one", "two"))
    return (
        whole.encode(),
        reset.encode(),
        BeliefRecord.of(belief(1.0), ("x", "y", "z")).encode(),
        BeliefRecord.of(belief(1.0, True, AccumulatedError(0.1, 2.0, 3.0)), ("x", "y", "z")).encode(),
        BeliefRecord().encode(),
    )


OBSERVATIONS = encoded(
    {"entity": "walk", "sensor": "range", "time": NOW, "value": 5.0, "standard_deviation": 0.3, "id": "one"},
    {
        "entity": "walk",
        "sensor": "position",
        "time": "2026-01-31T12:00:00Z",
        "value": [1.0, 2.0],
        "covariance": [[1.0, 0.2], [0.2, 1.0]],
    },
    *(
        {"entity": name.replace(" ", "-"), "sensor": kind, "time": NOW, "value": [1.0] * 2}
        for name, kind in zip(list(MOTIONS) * 3, SENSORS, strict=False)
    ),
)
MIXTURE: dict[str, Any] = {
    "weights": [0.5, 0.5],
    "means": [[0, 1], [2, 3]],
    "covariances": [[[1, 0], [0, 1]], [[2, 1], [1, 2]]],
}
PRIORS = encoded(
    {"entity": "walk", "time": NOW, "mixture": MIXTURE},
    {
        "entity": "walk",
        "time": NOW,
        "mixture": MIXTURE,
        "mode": "product",
        "coordinates": ["x", "y"],
        "id": "p",
    },
)
RESETS = encoded(
    {"entity": "walk", "reset": True, "time": NOW},
    {
        "entity": "walk",
        "reset": True,
        "time": "2026-01-31T12:00:00Z",
        "observations_before": {"topic_id": "b1946ac9", "partition": 1, "offset": 7},
        "id": "r",
    },
)
QUALITY = {"sample_efficiency": 0.9, "log_evidence": -1.0, "p_value": 0.5, "method": "refined"}
POSTERIORS = encoded(
    {
        "entity": "a",
        "time": NOW,
        "sequence": 3,
        "revision": 0,
        "coordinates": [{"name": "x", "unit": "m"}, {"name": "y", "unit": "m"}],
        "mixture": MIXTURE,
        "quality": QUALITY,
        "applied": ["0:1", "b"],
        "prior_sequence": 0,
        "model": "walker",
        "model_version": 1,
    },
)


def _lines(headers: Sequence[tuple[str, bytes]]) -> bytes:
    return b"\n".join(name.encode() + b"=" + value for name, value in headers)


LETTER = DeadLetter(reason=Reason.late, detail="time: too old", topic="observations", partition=1, offset=2)
EVENTS = cloudevents.headers(cloudevents.OBSERVATION, "/device/1", "id-1", NOW)

TARGETS: dict[str, Target] = {
    "observation": Target(OBSERVATIONS, observation),
    "prior": Target(PRIORS, stated),
    "prior or reset": Target((*PRIORS, *RESETS), stated),
    "sensor": Target(SENSOR_SEEDS, sensor),
    "model": Target(MODEL_SEEDS, state_model),
    "posterior": Target(POSTERIORS, posterior),
    "line of a log": Target((*OBSERVATIONS, *PRIORS, *RESETS), log_line),
    "dead letter": Target((_lines(LETTER.headers()),), dead_letter_headers),
    "CloudEvents headers": Target((_lines(EVENTS),), cloud_events),
    "observation, applied": Target(OBSERVATIONS, applied_observation),
    "prior, applied": Target(PRIORS, applied_prior),
    "model, applied": Target(MODEL_SEEDS, applied_model),
    "belief": Target(_beliefs(), belief_record),
}
