"""Messages to mathematics: a simulated report of each sensor is what its measurement model expects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from beliefstream.inference.motion import LinearMotion
from beliefstream.inference.sensors import encode
from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.schemas import (
    BearingSensor,
    Coordinate,
    LinearSensor,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    Prior,
    RandomWalk,
    RangeSensor,
    Reason,
    Unusable,
    parse,
)
from beliefstream.streams.definitions.models import (
    PosteriorWriter,
    belief_from_mixture,
    prior_change,
    state_model,
)
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.local.simulated_fleet import Simulated, fleet_model, report

NAMES = ("vx", "y", "x")
STATE = {"vx": 2.0, "y": -3.0, "x": 4.0}
QUIET = 1e-9  # a standard deviation that leaves the value what it should be

SENSORS: tuple[Simulated, ...] = (
    PositionSensor(sensor="s", standard_deviation=QUIET, scale=2.0, bias=1.0),
    PositionSensor(
        sensor="s", coordinates=("x", "vx", "y"), covariance=tuple(map(tuple, np.eye(3) * QUIET**2))
    ),
    LinearSensor(sensor="s", rows=({"x": 2.0, "vx": -1.0}, {"y": 0.5}), standard_deviation=QUIET, bias=-2.0),
    RangeSensor(sensor="s", position=(1.0, 1.0), standard_deviation=QUIET, scale=-3.0, bias=0.5),
    RangeSensor(sensor="s", coordinates=("y",), position=(10.0,), standard_deviation=QUIET),
    BearingSensor(sensor="s", position=(0.0, 1.0), standard_deviation=QUIET, scale=180 / math.pi),
    BearingSensor(sensor="s", coordinates=("y", "vx"), position=(0.0, 1.0), standard_deviation=QUIET),
)


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda sensor: sensor.kind)
def test_the_likelihood_is_at_its_highest_at_the_state_that_was_reported(sensor: Simulated) -> None:
    value = report(sensor, STATE, np.random.default_rng(0))
    seen = Observation(entity="e", sensor="s", time=0.0, value=value, standard_deviation=0.1)
    reading = reading_of(seen, sensor_over(sensor, NAMES))
    observations = encode([[reading]], len(NAMES))
    truth = np.array([STATE[name] for name in NAMES])
    near = truth + 0.05 * np.random.default_rng(1).standard_normal((200, 3))
    points = torch.from_numpy(np.concatenate([truth[None], near])[None])
    density = observations.log_likelihood(points)[0]
    assert density[0] >= density[1:].max() - 1e-9


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda sensor: sensor.kind)
def test_a_coordinate_that_the_state_lacks_is_named(sensor: Simulated) -> None:
    with pytest.raises(Unusable) as caught:
        sensor_over(sensor, ("a", "b"))
    assert caught.value.reason == Reason.missing_coordinates
    assert all(name in caught.value.detail for name in sensor.coordinate_names)


@pytest.mark.parametrize("deviation", [1e200, 1e-200])
def test_noise_that_cannot_be_squared_is_an_unusable_definition(deviation: float) -> None:
    for sensor in (
        PositionSensor(sensor="wild", standard_deviation=deviation),
        RangeSensor(sensor="wild", position=(0.0, 0.0), standard_deviation=deviation),
    ):
        with pytest.raises(Unusable, match="wild") as caught:
            sensor_over(sensor, ("x", "y"))
        assert caught.value.reason == Reason.invalid_definition


def test_a_stated_noise_takes_the_place_of_the_sensors() -> None:
    sensor = sensor_over(PositionSensor(sensor="s", standard_deviation=9.0), ("x", "y"))
    plain = Observation(entity="e", sensor="s", time=0.0, value=(1.0, 2.0))
    assert reading_of(plain, sensor).covariance is None
    deviation = reading_of(plain.model_copy(update={"standard_deviation": 3.0}), sensor).covariance
    assert deviation is not None
    assert np.array_equal(deviation, 9.0 * np.eye(2))
    matrix = ((2.0, 1.0), (1.0, 2.0))
    covariance = reading_of(plain.model_copy(update={"covariance": matrix}), sensor).covariance
    assert covariance is not None
    assert np.array_equal(covariance, matrix)


def test_a_model_without_pairs_is_a_random_walk() -> None:
    model = Model(
        entity="*",
        name="temperatures",
        coordinates=(Coordinate(name="a", unit="K"), Coordinate(name="b", unit="K")),
        motion=RandomWalk(spectral_density=0.5),
        prior=Mixture.gaussian((1.0, 2.0), 3.0),
        components=5,
    )
    state = state_model(model)
    assert state.components == 5
    assert isinstance(state.motion, LinearMotion)
    transition, noise = state.motion.transition(torch.tensor([2.0]))
    assert np.array_equal(transition[0], np.eye(2))
    assert np.array_equal(noise[0], np.eye(2))


def test_a_prior_keeps_its_order_of_coordinates() -> None:
    prior = Prior(entity="e", time=1.0, mixture=Mixture.gaussian((1.0, 2.0), 1.0), coordinates=("x", "vx"))
    assert prior_change(prior, NAMES).axes == (2, 0)
    assert prior_change(prior.model_copy(update={"coordinates": None}), ("a", "b")).axes is None


def test_a_posterior_is_written_as_it_is_read() -> None:
    model = fleet_model().model_copy(update={"version": 7})
    mixture = Mixture(
        weights=(0.25, 0.75),
        means=((1.0, 2.0, 3.0, 4.0), (0.1, 1e-300, 1e30, -0.0)),
        covariances=(np.eye(4),) * 2,
    )
    belief = replace(belief_from_mixture(mixture, 1234.5678901), error=AccumulatedError(0.25, 6.0, 2.0))
    outcome = Outcome(belief, 0.5, -12.5, 0.25, "refined")
    raw = PosteriorWriter(model).write("mower", outcome, 3, 1, ["0:17", "mine"])
    read = parse(Posterior, raw)
    assert read.mixture == mixture
    assert (read.entity, read.time, read.sequence, read.revision) == ("mower", 1234.5678901, 3, 0)
    assert (read.applied, read.prior_sequence) == (("0:17", "mine"), 1)
    assert (read.model, read.model_version, read.coordinates) == (model.name, 7, model.coordinates)
    quality = read.quality
    assert (quality.sample_efficiency, quality.log_evidence, quality.p_value, quality.method) == (
        (0.5, -12.5, 0.25, "refined")
    )
    assert quality.accumulated_error == 2.25


def test_a_posterior_is_published_without_light_components() -> None:
    mixture = Mixture(
        weights=(0.6, 2e-5, 1e-7, 0.4 - 2e-5 - 1e-7),
        means=tuple((float(k), 0.0, 0.0, 0.0) for k in range(4)),
        covariances=(np.eye(4),) * 4,
    )
    outcome = Outcome(belief_from_mixture(mixture, 1.0), 1.0, 0.0, 1.0, "linearised")
    read = parse(Posterior, PosteriorWriter(fleet_model()).write("mower", outcome, 1, 0, [])).mixture
    assert read.weights == pytest.approx((0.6, 2e-5, 0.4 - 2e-5), rel=1e-6)
    assert sum(read.weights) == pytest.approx(1, abs=1e-12)
    assert read.means == (mixture.means[0], mixture.means[1], mixture.means[3])
