"""A real worker under hostile input: nothing stops it, and every message has one fate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from kafka import KafkaConsumer, TopicPartition

from beliefstream.schemas import Observation, PositionSensor, Prior, Reset, parse
from beliefstream.streams.local.simulated_fleet import fleet_model
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.fuzz.mutation import mutant
from tests.fuzz.targets import MODEL_SEEDS, NOW, OBSERVATIONS, PRIORS, RESETS, SENSOR_SEEDS, keyed
from tests.schemas.kinds import MOTIONS, SENSORS, model
from tests.streams.oracle import distance, expected
from tests.streams.workers import PARTITIONS, Stream, dead_letters_of, posteriors_of, stream

COPIES = 6  # entities of each motion, so that one with a spoiled belief hides little
SOUND = 0.25  # share of the messages that are not spoiled
ROUND = 250  # messages between two sound observations of the witness
WAIT = 240.0  # seconds for the messages of a round
WITNESS, POSITION = "witness", PositionSensor(sensor="witness/position", standard_deviation=1.5)


VALUES: dict[str, Any] = {
    "range": 5.0,
    "position": [1.0, 2.0],
    "bearing": 95.0,
    "signal_strength": -60.0,
    "time_difference": 0.01,
    "time_differences": [0.01, -0.02],
}
APPLICABLE = tuple(
    json.dumps({"entity": entity, "sensor": sensor, "time": NOW, "value": value}).encode()
    for entity in ("walk", "velocity", "decaying")
    for sensor, value in VALUES.items()
)


class Sent(NamedTuple):
    """A message, and where the broker put it."""

    place: tuple[str, int, int]
    value: bytes | None


class Attack:
    """Draws messages from a seed and sends them to a worker; a witness sends sound observations in between."""

    def __init__(self, opened: Stream, seed: int) -> None:
        self.opened, self.topics, self.random = opened, opened.names.topics, Random(seed)
        self.sent: list[Sent] = []
        self.witnessed: list[Observation] = []
        opened.define([POSITION, fleet_model().model_copy(update={"entity": WITNESS})])
        for kind, definition in SENSORS.items():
            self._send(
                self.topics.sensors, kind.encode(), json.dumps({**definition, "sensor": kind}).encode()
            )
        for name in MOTIONS:
            for number in range(COPIES):
                entity = f"{name.replace(' ', '-')}-{number}"
                raw = json.dumps({**model(name), "entity": entity}).encode()
                self._send(self.topics.models, entity.encode(), raw)

    def _send(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        place = self.opened.raw.send(topic, key=key, value=value, partition=partition).get(30)
        self.sent.append(Sent((place.topic, place.partition, place.offset), value))

    def message(self) -> None:
        """Send one message: an observation, a prior, a reset or a definition, most of them spoiled."""
        random, topics = self.random, self.topics
        topic, seeds, field = random.choices(
            (
                (topics.observations, (*OBSERVATIONS, *APPLICABLE), "entity"),
                (topics.priors, (*PRIORS, *PRIORS, *RESETS), "entity"),
                (topics.sensors, SENSOR_SEEDS, "sensor"),
                (topics.models, MODEL_SEEDS, "entity"),
            ),
            (70, 18, 6, 6),
        )[0]
        value: bytes | None = self._placed(random.choice(seeds), field)
        assert value is not None
        if random.random() > SOUND:
            value = mutant(value, seeds, random)
        key = keyed(value, field)
        trick = random.random()
        if trick < 0.02:
            key = random.choice((None, b"", b"\xff", b"other", WITNESS.encode()))
        elif trick < 0.03:
            value = None
        if value is not None and (key in (WITNESS.encode(), POSITION.sensor.encode(), b"*")):
            key = b"key"  # the witness and its definitions stay as they are
        misplaced = field == "entity" and topic != topics.models and random.random() < 0.01
        partition = random.randrange(PARTITIONS) if misplaced else None
        self._send(topic, key, value, partition)

    def _placed(self, seed: bytes, field: str) -> bytes:
        """The seed for one of the copies of its entity, at the time that the attack has reached."""
        content = json.loads(seed)
        if field == "entity" and content.get("entity") not in (None, "*"):
            content["entity"] = f"{content['entity']}-{self.random.randrange(COPIES)}"
        elif field == "sensor":
            content["sensor"] = self.random.choice([*SENSORS, "new"])
        if isinstance(content.get("time"), float):
            content["time"] = NOW + 0.01 * len(self.sent)
        return json.dumps(content).encode()

    def witness(self) -> None:
        """Send a sound observation of the witness, and wait until it is applied and all before it is processed."""
        number = len(self.witnessed) + 1
        fields = {"entity": WITNESS, "sensor": POSITION.sensor, "time": NOW + number, "id": f"good-{number}"}
        one = Observation.model_validate({**fields, "value": (float(number), float(number % 7))})
        self.witnessed.append(one)
        self._send(self.topics.observations, WITNESS.encode(), one.model_dump_json().encode())

        def applied(records: list[Any]) -> Any:
            taken = posteriors_of(r for r in records if r.key == WITNESS.encode()).get(WITNESS, [])
            return taken and taken[-1].applied == (f"good-{number}",)

        self.opened.posteriors.wait_for(applied, WAIT, "the observation of the witness is applied")
        with closing(KafkaConsumer(bootstrap_servers=self.opened.broker.bootstrap_servers)) as consumer:
            names = (self.topics.observations, self.topics.priors)
            places = [TopicPartition(name, number) for name in names for number in range(PARTITIONS)]
            ends = consumer.end_offsets(places)
        eventually(
            lambda: all(self.opened.committed(*place) >= end for place, end in ends.items()),
            WAIT,
            "everything is processed",
        )


@pytest.fixture
def opened(embedded_broker: EmbeddedNode, names: Names, tmp_path: Path) -> Iterator[Stream]:
    with stream(embedded_broker, names, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, ROUND), *(pytest.param(seed, 5000, marks=pytest.mark.soak) for seed in range(2, 6))],
)
@pytest.mark.timeout(0)
def test_no_message_stops_a_worker_and_each_has_one_fate(opened: Stream, seed: int, count: int) -> None:
    attack = Attack(opened, seed)
    worker = opened.worker().start()
    for _ in range(0, count, ROUND):
        for _ in range(ROUND):
            attack.message()
        attack.witness()
    metrics = worker.metrics()  # it still answers
    assert "Traceback" not in worker.log()

    refused = metrics_of(metrics, "beliefstream_dead_letters_total/")
    opened.dead_letters.wait_for(lambda records: len(records) >= refused, WAIT, "all dead letters")
    letters = dead_letters_of(opened.dead_letters.records)
    taken = posteriors_of(opened.posteriors.records)
    check_fates(
        attack,
        letters.keys(),
        {name for each in taken.values() for one in each for name in one.applied},
        metrics,
    )
    values = {one.place: one.value for one in attack.sent}
    for place, letter in letters.items():
        assert letter.value == values[place]
        assert letter.detail.isprintable()

    outcomes = expected(fleet_model().model_copy(update={"entity": WITNESS}), [POSITION], attack.witnessed)
    for posterior, outcome in zip(taken[WITNESS], outcomes[WITNESS], strict=True):
        assert distance(posterior.mixture, outcome) < 1e-8
    print(f"\nseed {seed}: {len(attack.sent)} messages, {len(letters)} dead letters, {len(taken)} entities")


def metrics_of(metrics: dict[str, float], name: str) -> float:
    return sum(value for each, value in metrics.items() if each.startswith(name))


def check_fates(attack: Attack, refused: Any, applied: set[str], metrics: dict[str, float]) -> None:
    """An observation is refused, named, repeated, forgotten, or a control; a prior is refused or can be read."""
    unnamed = 0
    for place, value in attack.sent:
        if place in refused or place[0] not in (attack.topics.observations, attack.topics.priors):
            continue
        assert value is not None
        content = json.loads(value)
        if place[0] == attack.topics.priors:
            parse(Reset if "reset" in content else Prior, value)
        else:
            name = content.get("id") or f"{place[1]}:{place[2]}"
            unnamed += name not in applied and content["sensor"] != "control"
    outcomes = {each: metrics[f"beliefstream_observations_total/{each}"] for each in OUTCOMES}
    assert unnamed <= outcomes["duplicate"] + outcomes["forgotten"]
    observations = [one for one in attack.sent if one.place[0] == attack.topics.observations]
    assert sum(outcomes.values()) == len(observations)
    assert outcomes["rejected"] == sum(one.place in refused for one in observations)
    assert outcomes["accepted"] > 0.05 * len(observations)  # else little would have been tried


OUTCOMES = ("accepted", "rejected", "duplicate", "forgotten")
