"""Whatever cannot be used ends in the dead letters with its bytes and a reason; nothing else is disturbed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from beliefstream.schemas import DeadLetter, Model, Observation, Reason
from beliefstream.streams.state.lineage import SOURCE_KEY
from tests.brokers import Broker
from tests.conftest import eventually, unique_names
from tests.streams.bad_messages import (
    ENTITY,
    MODEL_DEFINITIONS,
    MODELS,
    OBSERVATIONS,
    POSITION,
    PRIORS,
    SENSOR_DEFINITIONS,
    SENSORS,
    Case,
    observation,
    prior,
)
from tests.streams.oracle import distance, expected
from tests.streams.workers import PARTITIONS, Stream, dead_letters_of, posteriors_of, stream

WAIT = 30.0  # seconds


class Victim:
    """A worker, and an entity whose observations must go on being processed."""

    def __init__(self, opened: Stream) -> None:
        self.stream = opened
        self.stream.define([*SENSORS, *MODELS])
        self.worker = opened.worker().start()
        self.sent: list[Any] = []
        self._numbers = count(1)

    def good(self) -> None:
        """Sends a sound observation and waits until it is applied, exactly as if nothing else had been there."""
        number = next(self._numbers)
        self.sent.append(
            self.stream.observations.send(
                ENTITY, POSITION.sensor, (10.0 + number, number % 7), time=10.0 + number, id=f"good-{number}"
            )
        )

        def applied(records: list[Any]) -> Any:
            taken = posteriors_of(r for r in records if r.key == ENTITY.encode()).get(ENTITY, [])
            return taken and taken[-1].applied == (f"good-{number}",) and taken

        taken = self.stream.posteriors.wait_for(applied, WAIT, "the observation after it is applied")
        assert [each.sequence for each in taken] == list(range(1, number + 1))
        assert [each.applied for each in taken] == [(f"good-{n}",) for n in range(1, number + 1)]

    def check(self, topic: str, case: Case) -> DeadLetter:
        """Sends what is bad, then a sound observation; the former is a dead letter and the latter is applied."""
        place = self.stream.send(topic, case.key, case.value)
        self.good()
        found: DeadLetter = self.stream.dead_letters.wait_for(
            lambda records: dead_letters_of(records).get(place), WAIT, "a dead letter"
        )
        assert found.reason == case.reason, found.detail
        assert found.key == case.key
        assert found.value == case.value
        assert found.detail.isprintable()
        return found


@pytest.fixture(scope="module")
def victim(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with stream(broker, unique_names(), tmp_path_factory.mktemp("bad")) as opened:
        yield Victim(opened)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_a_bad_observation_is_a_dead_letter(victim: Victim, name: str) -> None:
    victim.check(victim.stream.names.topics.observations, OBSERVATIONS[name])


@pytest.mark.parametrize("name", PRIORS)
def test_a_bad_prior_is_a_dead_letter(victim: Victim, name: str) -> None:
    victim.check(victim.stream.names.topics.priors, PRIORS[name])


def test_a_key_of_the_worker_s_own_records_is_a_dead_letter(victim: Victim) -> None:
    """It keeps what is no belief under such keys, each partition its own."""
    places = []
    for number in range(PARTITIONS):
        for topic in (victim.stream.names.topics.observations, victim.stream.names.topics.priors):
            sent = victim.stream.raw.send(
                topic, key=SOURCE_KEY % number, value=observation(), partition=number
            )
            place = sent.get(30)
            places.append((place.topic, place.partition, place.offset))
    victim.good()

    def all_told(records: list[Any]) -> Any:
        found = dead_letters_of(records)
        return found if found.keys() >= set(places) else None

    letters = victim.stream.dead_letters.wait_for(all_told, WAIT, "dead letters")
    reasons = {letters[place].reason for place in places}
    assert reasons == {Reason.key_mismatch, Reason.invalid}  # an observation is no prior


@pytest.mark.parametrize("topic", ["observations", "priors"])
def test_a_record_in_a_partition_that_is_not_its_key_s_is_a_dead_letter(victim: Victim, topic: str) -> None:
    """It is sound otherwise, and would begin a second belief of the entity."""
    named = getattr(victim.stream.names.topics, topic)
    value = prior(time=1000.0) if topic == "priors" else observation(time=1000.0)
    counter = f"beliefstream_misplaced_records_total/{named}"
    assert victim.worker.metrics()[counter] == 0
    own = victim.sent[0].result(30).partition
    sent = victim.stream.raw.send(
        named, key=ENTITY.encode(), value=value, partition=(own + 1) % PARTITIONS
    ).get(30)
    place = (sent.topic, sent.partition, sent.offset)
    victim.good()
    letter = victim.stream.dead_letters.wait_for(
        lambda records: dead_letters_of(records).get(place), WAIT, "a dead letter"
    )
    assert (letter.reason, letter.value) == (Reason.wrong_partition, value)
    assert f"murmur2 of its key gives {own}" in letter.detail
    eventually(lambda: victim.worker.metrics()[counter] == 1, WAIT, "it is counted")

    def told() -> int:
        lines = [line for line in victim.worker.log().splitlines() if "in the wrong partition" in line]
        return sum(named in line for line in lines)

    eventually(told, WAIT, "it is logged")
    assert told() == 1


def test_an_observation_before_the_belief_is_late(victim: Victim) -> None:
    victim.good()
    letter = victim.check(victim.stream.names.topics.observations, Case(Reason.late, observation(time=2.0)))
    assert "2.0" in letter.detail


@pytest.mark.parametrize("value", [1e30, -1e160, 1e300])
def test_a_number_beyond_all_measure_is_a_dead_letter_or_changes_nothing_for_others(
    victim: Victim, value: float
) -> None:
    """The belief it concerns may believe it; a posterior must be readable, and other entities untouched."""
    name = f"extreme{value:g}"
    victim.stream.define([MODELS[0].model_copy(update={"entity": name})])
    observed = [
        observation(entity=name, sensor="position", value=[value, 0.0], id="far"),
        observation(entity=name, value=value, time=2.0, id="away"),
    ]
    places = [
        victim.stream.send(victim.stream.names.topics.observations, name.encode(), each) for each in observed
    ]
    victim.good()

    def settled(records: list[Any]) -> bool:
        letters = dead_letters_of(records)
        victim.stream.posteriors.poll(0)
        taken = posteriors_of(r for r in victim.stream.posteriors.records if r.key == name.encode()).get(
            name, []
        )
        applied = [identifier for each in taken for identifier in each.applied]
        fates = [
            (places[i] in letters) + (identifier in applied) for i, identifier in enumerate(("far", "away"))
        ]
        reasons = {letters[place].reason for place in places if place in letters}
        assert reasons <= {
            Reason.numerical,
            Reason.impossible if value < 0 else Reason.numerical,
        }  # a range is not below zero
        return fates == [1, 1]

    victim.stream.dead_letters.wait_for(settled, WAIT, "each is applied or a dead letter")


@pytest.mark.parametrize("name", SENSOR_DEFINITIONS)
def test_a_bad_sensor_definition_leaves_the_old_one_in_force(victim: Victim, name: str) -> None:
    victim.check(victim.stream.names.topics.sensors, SENSOR_DEFINITIONS[name])


@pytest.mark.parametrize("name", MODEL_DEFINITIONS)
def test_a_bad_model_definition_leaves_the_old_one_in_force(victim: Victim, name: str) -> None:
    victim.check(victim.stream.names.topics.models, MODEL_DEFINITIONS[name])


def test_nothing_of_all_that_has_changed_the_belief(victim: Victim) -> None:
    """The last of this file: the posteriors are those of the sound observations under the first definitions."""
    victim.good()
    taken = posteriors_of(r for r in victim.stream.posteriors.records if r.key == ENTITY.encode())[ENTITY]
    model: Model = MODELS[0]
    sent = [
        json.loads(observation(sensor="position", time=10.0 + n, value=[10.0 + n, n % 7], id=f"good-{n}"))
        for n in range(1, len(taken) + 1)
    ]
    outcomes = expected(model, [POSITION], [Observation.model_validate(each) for each in sent])[ENTITY]
    for posterior, outcome in zip(taken, outcomes, strict=True):
        assert distance(posterior.mixture, outcome) < 1e-8
        assert posterior.prior_sequence == 0


def test_the_metrics_count_dead_letters_by_reason(victim: Victim) -> None:
    """All of them: counted by the worker as often as they are on the topic."""
    letters = dead_letters_of(victim.stream.dead_letters.records).values()
    metrics = victim.worker.metrics()
    for reason in Reason:
        there = sum(letter.reason == reason for letter in letters)
        assert metrics.get(f"beliefstream_dead_letters_total/{reason}", 0) == there, reason
    topic = victim.stream.names.topics.observations
    # of the numbers beyond all measure at least one was applied, and none of the sound ones is among them
    assert 1 <= metrics["beliefstream_implausible_total/position"] <= 3
    rejected = sum(letter.topic == topic for letter in letters)
    assert metrics["beliefstream_observations_total/rejected"] == rejected
    # what the broker has sent is what came; nothing but that
    assert len(victim.stream.dead_letters.records) == len(letters)
