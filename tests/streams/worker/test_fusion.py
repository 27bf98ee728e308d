"""A worker from end to end, on both brokers: what it says of a stream is what `replay` says of the log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.schemas import (
    ControlSensor,
    Mixture,
    Observation,
    PositionSensor,
    Prior,
    RangeSensor,
    Reason,
)
from beliefstream.streams.local.simulated_fleet import fleet_model, fleet_sensors, simulate
from tests.brokers import Broker
from tests.conftest import eventually, unique_names
from tests.streams import odometry
from tests.streams.fleet import Fleet, followed
from tests.streams.oracle import (
    bounds,
    check_ends,
    check_order,
    delayed,
    distance,
    expected,
    linear_fleet,
    messages_of,
    total_variation,
)
from tests.streams.workers import dead_letters_of, stream

DOUBLE = 1e-6  # component by component, through JSON; measured 5e-12 without it
REFINED = math.inf  # from the first refined posterior on; those are compared as densities
# In float32 a matrix product rounds differently in a batch of another size: 1e-7 of a number, amplified where the
# posterior is ill-conditioned.
ROUNDING = 2e-3
# Where rounding tips a decision (to merge two components, to refine) the mixture has other components from there on.
# They say the same but where the sample efficiency says that an answer is poor, as after a range from far off.
TIPPED_SHARE = 0.04  # none in six cuts into batches (`test_cuts`); another processor rounds otherwise
SOUND, SAME = 0.5, 0.02  # sample efficiency; total variation, none in those cuts
EXACT = 1e-8  # of what is found in closed form, in float64


@pytest.fixture(scope="module")
def fleet(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A worker that was started before anything was defined; definitions follow."""
    with stream(broker, unique_names(), tmp_path_factory.mktemp("fusion")) as opened:
        yield Fleet(opened)


def test_a_worker_says_when_it_is_ready(fleet: Fleet) -> None:
    assert fleet.early == {"/readyz": 503, "/healthz": 200, "/metrics": 200}
    assert fleet.worker.page("/readyz")[0] == 200
    topics = fleet.stream.names.topics
    owned = {
        f"{topic}-{partition}" for topic in (topics.observations, topics.priors) for partition in range(4)
    }
    assert fleet.worker.assigned >= owned


def test_posteriors_equal_the_replay_of_the_log(fleet: Fleet) -> None:
    observations, found, outcomes = followed(fleet)
    pairs = [pair for entity in found for pair in zip(found[entity], outcomes[entity], strict=True)]
    for entity, taken in found.items():
        limits, least = bounds(outcomes[entity], DOUBLE, REFINED), 1.0
        for posterior, outcome, limit in zip(taken, outcomes[entity], limits, strict=True):
            place = (entity, posterior.sequence)
            least = min(least, posterior.quality.sample_efficiency, outcome.sample_efficiency)
            if limit == DOUBLE:
                assert distance(posterior.mixture, outcome) < DOUBLE, place
            elif least >= SOUND:
                # a search and a refinement make more of a rounded digit, and decisions may tip: see `test_cuts`.
                # Where a posterior was not sound, what follows begins with whatever tipped there.
                assert total_variation(posterior.mixture, outcome) < SAME, place
    alike = sum(posterior.quality.method == outcome.method for posterior, outcome in pairs)
    assert alike >= (1 - TIPPED_SHARE) * len(pairs)
    assert {outcome.method for _, outcome in pairs} >= {"quadrature", "kalman"}
    assert len(observations) == len(pairs)


def test_fast_posteriors_of_single_precision_are_near_the_replay(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    with stream(embedded_broker, unique_names(), tmp_path) as opened:
        _, found, outcomes = followed(Fleet(opened, accuracy="fast"), "fast")
    pairs = [pair for entity in found for pair in zip(found[entity], outcomes[entity], strict=True)]
    apart = np.array([distance(posterior.mixture, outcome) for posterior, outcome in pairs])
    assert np.mean(apart > ROUNDING) <= TIPPED_SHARE
    sound = [entity for entity in found if _least_effective(found[entity], outcomes[entity]) >= SOUND]
    assert len(sound) >= len(found) / 2
    for entity in sound:
        for posterior, outcome in zip(found[entity], outcomes[entity], strict=True):
            assert total_variation(posterior.mixture, outcome) < SAME, (entity, posterior.sequence)


def _least_effective(posteriors: list[Any], outcomes: list[Outcome]) -> float:
    sizes: list[float] = [posterior.quality.sample_efficiency for posterior in posteriors]
    return min(sizes + [outcome.sample_efficiency for outcome in outcomes])


def prior(entity: str, mode: str) -> Prior:
    """Stated for 4.25 s after the start, between two observations."""
    somewhere = Mixture(
        weights=(0.5, 0.5), means=((10.0, 0.0), (14.0, 3.0)), covariances=(((4.0, 1.0), (1.0, 2.0)),) * 2
    )
    whole = Mixture.gaussian((12.0, -5.0, 0.5, 0.0), (3.0, 2.0, 1.0, 1.0))
    fields: dict[str, dict[str, Any]] = {
        "replace": {"mode": "replace", "mixture": whole},
        "product": {"mode": "product", "mixture": whole},
        "replace y, x": {"mode": "replace", "mixture": somewhere, "coordinates": ("y", "x")},
        "product vy, x": {"mode": "product", "mixture": somewhere, "coordinates": ("vy", "x")},
    }
    return Prior(entity=entity, time=4.25, **fields[mode])


def test_a_prior_takes_effect_at_its_time(fleet: Fleet) -> None:
    modes = ("replace", "product", "replace y, x", "product vy, x")
    simulation = simulate(entities=5, duration=8.0, seed=4)
    model, sensor, observations = linear_fleet(simulation, len(simulation.observations))
    names = {old: f"stated-{number}" for number, old in enumerate(simulation.entities)}
    observations = [seen.model_copy(update={"entity": names[seen.entity]}) for seen in observations]
    stated = [
        prior(f"stated-{number}", mode) for number, mode in enumerate(modes)
    ]  # none for the last entity
    models = [model.model_copy(update={"entity": entity}) for entity in names.values()]
    fleet.stream.define([sensor, *models])
    outcomes = expected(model, [sensor], observations, stated)

    early = [seen for seen in observations if seen.time < 4.25]
    for seen in early[: len(early) // 2]:
        fleet.stream.observations.send_message(seen)
    # the priors come between observations, and ahead of some that lie before their time
    places = [fleet.stream.priors.send_message(each).result(30) for each in stated]
    topic = fleet.stream.names.topics.priors
    for place in places:
        eventually(
            lambda place=place: fleet.stream.committed(topic, place.partition) > place.offset,  # type: ignore[misc]
            30,
            "the prior has been read",
        )
    for seen in observations[len(early) // 2 :]:
        fleet.stream.observations.send_message(seen)
    found = fleet.posteriors({entity: len(due) for entity, due in outcomes.items()})

    check_order(found, outcomes, observations)
    for entity, taken in found.items():
        for posterior, outcome in zip(taken, outcomes[entity], strict=True):
            assert distance(posterior.mixture, outcome) < EXACT
            assert posterior.quality.method == outcome.method
    for number, mode in enumerate(modes):
        taken = found[f"stated-{number}"]
        at = next(i for i, each in enumerate(taken) if each.quality.method == "prior")
        assert taken[at].time == 4.25, mode
        assert taken[at].applied == ()
        assert [each.prior_sequence for each in taken] == [0] * at + [1] * (len(taken) - at)
    jumped = found["stated-0"][[each.quality.method for each in found["stated-0"]].index("prior")]
    assert np.allclose(jumped.mixture.mean(), (12.0, -5.0, 0.5, 0.0))


def test_in_any_order_within_the_window_the_stream_ends_as_the_replay_does(fleet: Fleet) -> None:
    """Every kind of sensor, outliers, a prior in the middle; in as many batches as the worker makes of it."""
    simulation = simulate(entities=6, duration=8.0, seed=8)
    names = {old: f"delayed-{number}" for number, old in enumerate(simulation.entities)}
    sent = [
        seen.model_copy(update={"entity": names[seen.entity], "id": f"seen-{number}"})
        for number, seen in enumerate(simulation.observations)
    ]
    stated = [prior("delayed-0", "product"), prior("delayed-1", "replace y, x")]
    fleet.stream.define([*simulation.sensors])
    fleet.stream.define(simulation.model.model_copy(update={"entity": entity}) for entity in names.values())
    outcomes = expected(simulation.model, simulation.sensors, sent, stated)
    arriving = delayed(sent, 1.9)
    middle = next(place for place, seen in enumerate(arriving) if seen.time > 5.5)
    for seen in arriving[:middle]:
        fleet.stream.observations.send_message(seen)
    for each in stated:
        fleet.stream.priors.send_message(each)
    # all of it has posteriors before what is older comes
    fleet.complete(messages_of(arriving[:middle], stated))
    for seen in arriving[middle:]:
        fleet.stream.observations.send_message(seen)
    found = fleet.complete(messages_of(sent, stated))
    check_ends(found, outcomes, DOUBLE, sent)
    revised = [taken[-1].revision for taken in found.values()]
    assert max(revised) > 0


def test_odometry_drives_the_belief_and_comes_late_too(fleet: Fleet) -> None:
    reports, _ = odometry.drive("robot", duration=4.0)
    fleet.stream.define([*odometry.SENSORS, odometry.MODEL.model_copy(update={"entity": "robot"})])
    outcomes = expected(odometry.MODEL, odometry.SENSORS, reports)
    ranges = [seen for seen in reports if seen.sensor != odometry.ODOMETRY.sensor]
    # the last one is on time, so that the last posterior counts them all
    for seen in [*delayed([seen for seen in reports if seen is not ranges[-1]], 1.9), ranges[-1]]:
        fleet.stream.observations.send_message(seen)
    check_ends(fleet.complete(messages_of(reports)), outcomes, DOUBLE, ranges)
    accelerometer = ControlSensor(sensor="accelerometer", inputs=("ax",), standard_deviation=0.1)
    fleet.stream.define([accelerometer])
    raw = Observation(entity="robot", sensor="accelerometer", time=4.0, value=1.0).to_json()
    place = fleet.stream.send(fleet.stream.names.topics.observations, b"robot", raw)
    letter = fleet.stream.dead_letters.wait_for(
        lambda records: dead_letters_of(records).get(place), 20, "the observation is a dead letter"
    )
    assert letter.reason == Reason.missing_coordinates
    assert "takes speed, turn_rate" in letter.detail


def test_a_prior_older_than_the_window_is_late(fleet: Fleet) -> None:
    model = fleet_model().model_copy(update={"entity": "late-prior"})
    fleet.stream.define([model, *fleet_sensors()])
    sensor = fleet_sensors()[0].sensor
    fleet.stream.observations.send("late-prior", sensor, (1.0, 2.0), time=100.0, id="one")
    fleet.posteriors({"late-prior": 1})
    place = fleet.stream.priors.replace("late-prior", model.prior, time=97.9).result(30)
    where = (place.topic, place.partition, place.offset)
    letter = fleet.stream.dead_letters.wait_for(
        lambda records: dead_letters_of(records).get(where), 20, "the prior is a dead letter"
    )
    assert letter.reason == Reason.late
    fleet.stream.observations.send("late-prior", sensor, (1.0, 2.0), time=101.0, id="two")
    taken = fleet.posteriors({"late-prior": 2})["late-prior"]
    assert [(each.sequence, each.prior_sequence, each.applied) for each in taken] == [
        (1, 0, ("one",)),
        (2, 0, ("two",)),
    ]


def test_an_observation_ahead_of_its_model_is_a_dead_letter_and_those_after_it_are_not(fleet: Fleet) -> None:
    sensor = PositionSensor(sensor="newcomer/position", standard_deviation=1.0)
    observation = Observation(entity="newcomer", sensor=sensor.sensor, time=1.0, value=(1.0, 2.0), id="one")
    topics = fleet.stream.names.topics
    if "*" in fleet.stream.registry.models():  # another test's
        fleet.stream.registry.remove_model("*")
    place = fleet.stream.send(topics.observations, b"newcomer", observation.to_json())
    letter = fleet.stream.dead_letters.wait_for(
        lambda records: dead_letters_of(records).get(place), 20, "the observation is a dead letter"
    )
    assert letter.reason == Reason.unknown_entity
    assert (letter.key, letter.value) == (b"newcomer", observation.to_json())
    fleet.stream.define([fleet_model().model_copy(update={"entity": "newcomer"})])
    place = fleet.stream.send(topics.observations, b"newcomer", observation.to_json())
    letter = fleet.stream.dead_letters.wait_for(
        lambda records: dead_letters_of(records).get(place), 20, "the observation is a dead letter"
    )
    assert letter.reason == Reason.unknown_sensor
    fleet.stream.define([sensor])
    fleet.stream.observations.send_message(observation)
    taken = fleet.posteriors({"newcomer": 1})["newcomer"]
    assert [(each.sequence, each.applied) for each in taken] == [(1, ("one",))]


def test_observations_of_one_time_are_one_update(fleet: Fleet) -> None:
    """However they come: here one by one, with ranges, so that two updates would not end as one does."""
    sensors = [sensor for sensor in fleet_sensors() if isinstance(sensor, RangeSensor)]
    model = fleet_model().model_copy(update={"entity": "at-once"})
    fleet.stream.define([model, *sensors])
    sent = [
        Observation(entity="at-once", sensor=sensor.sensor, time=5.0, value=60.0 + number, id=f"{number}")
        for number, sensor in enumerate(sensors)
    ]
    outcomes = expected(model, sensors, sent)
    assert len(outcomes["at-once"]) == 1
    for number, seen in enumerate(sent, 1):
        fleet.stream.observations.send_message(seen)
        found = fleet.complete({"at-once": number})
    check_ends(found, outcomes, DOUBLE, sent)
    assert found["at-once"][-1].revision == len(sent) - 1
