"""Every kind of sensor on the topic is the measurement model of `inference.sensors` that it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors as measurement
from beliefstream.inference.sensors import Reading, encode
from beliefstream.schemas import Observation, Reason, Unusable, parse_sensor
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from tests.inference.reports import expected as predicted
from tests.schemas.kinds import MEASUREMENTS, NAMES, SENSORS, X, Y

LIKE_NO_OTHER = {"geodetic", "control", "learned", "pseudorange", "pseudorange_rate"}
VALUES = [np.array([0.4, -0.7, 1.1]), np.array([4.2, 2.5, -0.3]), np.array([-41.0, 60.0, 0.2])]


def log_likelihood(reading: Reading, points: torch.Tensor) -> torch.Tensor:
    return encode([[reading]], points.shape[-1]).log_likelihood(points)


def points(dimension: int = 6) -> torch.Tensor:
    return 3 * torch.randn(1, 20, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def observed(value: Any, **noise: Any) -> Observation:
    return Observation.model_validate({"entity": "e", "sensor": "s", "time": 0, "value": value, **noise})


def test_every_kind_is_compared() -> None:
    assert set(MEASUREMENTS) == set(SENSORS) - LIKE_NO_OTHER


@pytest.mark.parametrize("kind", MEASUREMENTS)
def test_a_sensor_has_the_likelihood_of_the_model_that_its_definition_says(kind: str) -> None:
    definition, expected = parse_sensor(SENSORS[kind]), MEASUREMENTS[kind]
    found = sensor_over(definition, NAMES)
    assert found.value_length == definition.value_length == expected.value_length
    for numbers in VALUES:
        value = numbers[: expected.value_length]
        mine = log_likelihood(reading_of(observed(value.tolist()), found), points())
        theirs = log_likelihood(Reading(expected, value), points())
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in SENSORS if kind not in ("control", "own")])
def test_a_coordinate_that_the_state_lacks_is_named(kind: str) -> None:
    with pytest.raises(Unusable, match=f"{kind}-1 observes .*lacks") as caught:
        sensor_over(parse_sensor(SENSORS[kind]), ("a", "b"))
    assert caught.value.reason == Reason.missing_coordinates


def test_the_published_range_sensor_has_its_published_density() -> None:
    """Whittle et al., arXiv 2502.02463, section 4.3.1: .7 N(r, (.1 (r + 1))²) + .2 Exp(1) + .1 U(0, 20)."""
    definition = {**SENSORS["range"], "position": [0, 0]}
    sensor, state = sensor_over(parse_sensor(definition), ("x", "y")), torch.tensor([[[3.0, 4.0]]]).double()
    deviation = 0.1 * (5 + 1)
    for value in (0.3, 4.2, 5.5, 19.0, 21.0):
        normal = math.exp(-0.5 * ((value - 5) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
        density = 0.7 * normal + 0.2 * math.exp(-value) + (0.1 / 20 if value <= 20 else 0.0)
        found = float(log_likelihood(reading_of(observed(value), sensor), state).exp())
        assert found == pytest.approx(density, rel=1e-6)


def test_a_control_sees_no_state() -> None:
    with pytest.raises(Unusable, match="control-1 cannot be used: a control sensor reports inputs"):
        sensor_over(parse_sensor(SENSORS["control"]), NAMES)


class TestGeodetic:
    RADIUS, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS 84

    def metres_a_degree(self, latitude: float) -> tuple[float, float]:
        """Along a circle of latitude and along a meridian, by the ellipsoid's radii of curvature."""
        squared = self.FLATTENING * (2 - self.FLATTENING)
        root = math.sqrt(1 - squared * math.sin(math.radians(latitude)) ** 2)
        across, along = self.RADIUS / root, self.RADIUS * (1 - squared) / root**3
        return math.radians(across * math.cos(math.radians(latitude))), math.radians(along)

    @pytest.mark.parametrize("latitude", [-33.9, 0.0, 50.75])
    def test_degrees_become_metres_east_and_north_of_the_origin(self, latitude: float) -> None:
        definition = {**SENSORS["geodetic"], "origin": {"latitude": latitude, "longitude": -1.25}}
        sensor = sensor_over(parse_sensor(definition), ("x", "y"))
        step = 1e-5
        east, north = self.metres_a_degree(latitude)
        for value, expected in (
            ((latitude, -1.25), (0.0, 0.0)),
            ((latitude + step, -1.25), (0.0, north * step)),
            ((latitude, -1.25 - step), (-east * step, 0.0)),
            ((latitude, 358.75), (0.0, 0.0)),
        ):
            assert reading_of(observed(value), sensor).value == pytest.approx(expected, abs=1e-5)

    def test_height_is_above_that_of_the_origin(self) -> None:
        origin = {"latitude": 50.0, "longitude": 8.0, "altitude": 100.0}
        definition = {
            "kind": "geodetic",
            "sensor": "s",
            "origin": origin,
            "coordinates": ["x", "y", "z"],
            "standard_deviation": 2.0,
        }
        sensor = sensor_over(parse_sensor(definition), NAMES)
        assert reading_of(observed([50.0, 8.0, 130.0]), sensor).value == pytest.approx([0, 0, 30], abs=1e-6)

    def test_the_likelihood_is_that_of_a_position_in_metres(self) -> None:
        sensor = sensor_over(parse_sensor(SENSORS["geodetic"]), NAMES)
        for noise in ({}, {"standard_deviation": 3.0}, {"covariance": [[2.0, 0.5], [0.5, 1.0]]}):
            reading = reading_of(observed([50.75001, -1.25002], **noise), sensor)
            plain = measurement.position([X, Y], 6, np.array(SENSORS["geodetic"]["covariance"]), 0.05)
            expected = log_likelihood(Reading(plain, reading.value, reading.covariance), points())
            torch.testing.assert_close(log_likelihood(reading, points()), expected)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ([90.5, 0.0], "value[0]: 90.5 is not a latitude"),
            ([0.0, 400.0], "value[1]: 400.0 is not a longitude"),
        ],
    )
    def test_what_is_no_place_is_named(self, value: list[float], shown: str) -> None:
        with pytest.raises(Unusable) as caught:
            reading_of(observed(value), sensor_over(parse_sensor(SENSORS["geodetic"]), NAMES))
        assert caught.value.reason == Reason.invalid
        assert caught.value.detail.startswith(shown)


class TestComposite:
    def test_each_number_has_its_own_noise_and_may_come_with_another(self) -> None:
        sensor = sensor_over(parse_sensor(SENSORS["range_relative_bearing"]), NAMES)
        reading = reading_of(observed([4.0, 0.3], covariance=[[0.25, 0], [0, 0.01]]), sensor)
        parts = MEASUREMENTS["range_relative_bearing"].parts
        expected = sum(
            log_likelihood(Reading(part, np.array([value]), np.array([[variance]])), points())
            for part, value, variance in zip(parts, (4.0, 0.3), (0.25, 0.01), strict=True)
        )
        torch.testing.assert_close(log_likelihood(reading, points()), expected)

    def test_a_depth_is_the_distance_along_the_heading(self) -> None:
        state = np.array([0.0, 0.0, 4.0, 0.7, 0.0, -1.0])
        stated = SENSORS["range_relative_bearing"]
        sensor = sensor_over(parse_sensor(stated | {"depth": True}), NAMES)
        distance, bearing = (predicted(part, state) for part in MEASUREMENTS["range_relative_bearing"].parts)
        depth, same = (predicted(part, state) for part in sensor.parts)
        assert depth == pytest.approx(distance * math.cos(bearing))
        assert same == pytest.approx(bearing)

    def test_standard_deviations_of_its_own_are_one_each(self) -> None:
        sensor = sensor_over(parse_sensor(SENSORS["range_bearing"]), NAMES)
        found = reading_of(observed([4.0, 0.3], standard_deviation=[0.5, 0.1]), sensor).covariance
        assert found is not None
        assert found == pytest.approx(np.diag([0.25, 0.01]))
        with pytest.raises(Unusable, match="standard_deviation: s reports a length and angles") as caught:
            reading_of(observed([4.0, 0.3], standard_deviation=0.5), sensor)
        assert caught.value.reason == Reason.invalid_covariance
        angles = sensor_over(parse_sensor(SENSORS["azimuth_elevation"]), NAMES)
        alike = reading_of(observed([0.4, 0.3], standard_deviation=0.5), angles).covariance
        assert alike is not None
        assert alike == pytest.approx(0.25 * np.eye(2))

    def test_noise_that_hangs_together_is_refused(self) -> None:
        sensor = sensor_over(parse_sensor(SENSORS["range_bearing"]), NAMES)
        with pytest.raises(Unusable, match="expected zeros off the diagonal") as caught:
            reading_of(observed([4.0, 0.3], covariance=[[0.25, 0.01], [0.01, 0.01]]), sensor)
        assert caught.value.reason == Reason.invalid_covariance

    def test_a_single_number_has_the_wrong_length(self) -> None:
        sensor = sensor_over(parse_sensor(SENSORS["range_bearing"]), NAMES)
        with pytest.raises(Unusable, match="s reports 2 numbers, got 1") as caught:
            reading_of(observed(4.0), sensor)
        assert caught.value.reason == Reason.wrong_length
