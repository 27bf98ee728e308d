"""The simulated fleet, and that sensors report what the schema says they report."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from beliefstream.schemas import BearingSensor, ConstantVelocity, LinearSensor, PositionSensor, RangeSensor
from beliefstream.streams.local.simulated_fleet import Simulated, Simulation, report, simulate

STATE = {"x": 3.0, "y": -4.0, "vx": 1.0, "vy": 2.0}
DRAWS = 4000


@pytest.fixture(scope="module")
def fleet() -> Simulation:
    return simulate(entities=20, duration=60.0, seed=3)


def draws(sensor: Simulated, state: dict[str, float] = STATE) -> NDArray[np.float64]:
    """Many reports of one state, (DRAWS,) or (DRAWS, length)."""
    generator = np.random.default_rng(5)
    return np.array([report(sensor, state, generator) for _ in range(DRAWS)])


def assert_distributed(sample: NDArray[np.float64], cumulative: Any) -> None:
    assert stats.kstest(sample, cumulative).pvalue > 0.001


def mixture(probability: float, outliers: Any, inliers: Any) -> Any:
    """The cumulative distribution when outliers come with a probability."""
    return lambda value: probability * outliers.cdf(value) + (1 - probability) * inliers.cdf(value)


def test_a_range_has_gaussian_noise_and_uniform_outliers() -> None:
    sensor = RangeSensor(
        sensor="r", position=(0, 0), standard_deviation=0.5, maximum_range=40, outlier_probability=0.3
    )
    assert_distributed(draws(sensor), mixture(0.3, stats.uniform(0, 40), stats.norm(5, 0.5)))


def test_a_calibrated_range_is_scaled_and_biased_and_its_noise_is_not() -> None:
    sensor = RangeSensor(
        sensor="r",
        position=(0, 0),
        standard_deviation=0.5,
        maximum_range=40,
        outlier_probability=0.3,
        scale=-2,
        bias=7,
    )
    assert_distributed(draws(sensor), mixture(0.3, stats.uniform(-73, 80), stats.norm(-3, 0.5)))


def test_a_bearing_counts_from_the_first_axis_and_its_outliers_fill_the_circle() -> None:
    sensor = BearingSensor(sensor="b", position=(0, 0), standard_deviation=0.1, outlier_probability=0.4)
    expected = mixture(0.4, stats.uniform(-math.pi, 2 * math.pi), stats.norm(math.atan2(-4, 3), 0.1))
    assert_distributed(draws(sensor), expected)


def test_a_bearing_stays_on_the_circle_behind_the_station() -> None:
    sensor = BearingSensor(sensor="b", position=(0, 0), standard_deviation=0.1, scale=2, bias=1)
    angles = (draws(sensor, {"x": -5.0, "y": 0.0}) - 1) / 2
    assert np.abs(angles).max() <= math.pi
    assert_distributed(np.mod(angles, 2 * math.pi), stats.norm(math.pi, 0.05).cdf)


def test_a_position_has_outliers_ten_times_as_wide() -> None:
    sensor = PositionSensor(sensor="p", standard_deviation=1.5, outlier_probability=0.2)
    for values, place in zip(draws(sensor).T, (3, -4), strict=True):
        assert_distributed(values, mixture(0.2, stats.norm(place, 15), stats.norm(place, 1.5)))


def test_an_outlier_is_one_for_all_numbers_of_a_report() -> None:
    sensor = PositionSensor(sensor="p", standard_deviation=1e-3, outlier_probability=0.5)
    far = np.abs(draws(sensor) - [3, -4]) > 4e-3
    assert np.mean(far.any(axis=1) & ~far.all(axis=1)) < 0.3  # 0.21; were they independent: 0.45


def test_a_linear_sensor_mixes_coordinates_with_correlated_noise() -> None:
    covariance = ((0.5, 0.3), (0.3, 0.4))
    sensor = LinearSensor(
        sensor="l", rows=({"vx": 2.0, "y": 1.0}, {"vy": -1.0}), covariance=covariance, scale=3, bias=1
    )
    values = draws(sensor)
    assert values.mean(axis=0) == pytest.approx([3 * -2 + 1, 3 * -2 + 1], abs=0.05)
    assert np.cov(values.T) == pytest.approx(np.array(covariance), abs=0.04)


def test_one_number_is_reported_as_a_number() -> None:
    sensor = PositionSensor(sensor="p", coordinates=("y",), standard_deviation=1)
    assert isinstance(report(sensor, STATE, np.random.default_rng(1)), float)


def test_a_state_without_the_coordinate_is_refused_by_name() -> None:
    sensor = PositionSensor(sensor="p", coordinates=("x", "z"), standard_deviation=1)
    with pytest.raises(KeyError, match="z"):
        report(sensor, STATE, np.random.default_rng(1))


def test_the_same_seed_gives_the_same_fleet_and_another_does_not() -> None:
    assert simulate(3, 5.0, seed=1).observations == simulate(3, 5.0, seed=1).observations
    assert simulate(3, 5.0, seed=1).observations != simulate(3, 5.0, seed=2).observations


def test_the_epoch_only_shifts_times() -> None:
    here, there = simulate(3, 5.0), simulate(3, 5.0, epoch=1.7e9)
    assert [o.value for o in here.observations] == [o.value for o in there.observations]
    assert [o.time + 1.7e9 for o in here.observations] == [o.time for o in there.observations]
    assert there.times[0] == 1.7e9


def test_observations_are_in_order_and_no_two_at_one_time() -> None:
    times = [observation.time for observation in simulate(100, 30.0, rate=20.0, epoch=1.7e9).observations]
    assert all(earlier < later for earlier, later in pairwise(times))


def test_every_entity_reports_about_twice_a_second_from_every_sensor(fleet: Simulation) -> None:
    reports = Counter(observation.entity for observation in fleet.observations)
    assert set(reports) == set(fleet.entities)
    assert all(105 <= count <= 135 for count in reports.values())
    shares = Counter(observation.sensor for observation in fleet.observations)
    assert set(shares) == {sensor.sensor for sensor in fleet.sensors}
    assert stats.chisquare(list(shares.values())).pvalue > 0.001


def test_entities_stay_near_the_plane_at_walking_speed(fleet: Simulation) -> None:
    assert np.abs(fleet.truth[..., :2]).max() < 115
    speeds = np.linalg.norm(fleet.truth[..., 2:], axis=-1)
    assert np.mean((speeds > 0.5) & (speeds < 3.5)) > 0.9


@pytest.mark.parametrize("steps", [5, 20])
def test_the_model_describes_the_motion(fleet: Simulation, steps: int) -> None:
    """Squared prediction errors, by the model's own covariance, have the mean of a chi-square: 4."""
    assert isinstance(fleet.model.motion, ConstantVelocity)
    dt = float(fleet.times[steps] - fleet.times[0])
    transition = np.kron([[1, dt], [0, 1]], np.eye(2))
    noise = np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(2))
    noise = noise * fleet.model.motion.spectral_density
    error = fleet.truth[:, steps::steps] - fleet.truth[:, :-steps:steps] @ transition.T
    squared = np.einsum("eti,ij,etj->et", error, np.linalg.inv(noise), error)
    assert squared.mean() == pytest.approx(4, abs=0.4)


def test_observations_agree_with_the_truth_at_their_time(fleet: Simulation) -> None:
    beacon = next(s for s in fleet.sensors if isinstance(s, RangeSensor) and not s.outlier_probability)
    seen = [observation for observation in fleet.observations if observation.sensor == beacon.sensor]
    places = [fleet.truth_at(observation.entity, observation.time)[0, :2] for observation in seen]
    distances = np.linalg.norm(np.array(places) - beacon.position, axis=1)
    errors = np.array([observation.values[0] for observation in seen]) - distances
    assert_distributed(errors, stats.norm(0, beacon.standard_deviation).cdf)


def test_truth_meets_the_grid_and_velocity_is_its_derivative(fleet: Simulation) -> None:
    entity, name = 4, fleet.entities[4]
    assert fleet.truth_at(name, fleet.times) == pytest.approx(fleet.truth[entity])
    moments = np.linspace(1.03, 50.07, 100)
    before, after = fleet.truth_at(name, moments - 1e-4), fleet.truth_at(name, moments + 1e-4)
    slope = (after - before)[:, :2] / 2e-4
    assert fleet.truth_at(name, moments)[:, 2:] == pytest.approx(slope, abs=1e-3)


def test_truth_of_nobody_and_outside_the_time_is_refused(fleet: Simulation) -> None:
    with pytest.raises(KeyError, match="nobody"):
        fleet.truth_at("nobody", [1.0])
    with pytest.raises(ValueError, match=r"time 99\.0 is outside the simulation"):
        fleet.truth_at(fleet.entities[0], [1.0, 99.0])


@pytest.mark.parametrize(
    "wrong", [{"entities": 0}, {"duration": -1.0}, {"rate": 0.0}, {"duration": math.inf}, {"rate": math.nan}]
)
def test_a_fleet_without_entities_time_or_reports_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be positive"):
        simulate(**wrong)
