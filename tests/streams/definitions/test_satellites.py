"""Receivers of satellites from their definition to the posterior, against least squares in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from beliefstream import (
    Coordinate,
    Mixture,
    Model,
    Observation,
    PseudorangeRateSensor,
    PseudorangeSensor,
    RandomWalk,
    fuse,
)
from beliefstream.schemas import Geodetic, Prior, Reason, Unusable, parse_sensor
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from tests import satellites
from tests.satellites import Array
from tests.streams.oracle import expected

PLACE = (50.75, -1.25, 80.0)
ORIGIN, LOCAL = satellites.on_earth(*PLACE), satellites.axes(*PLACE[:2])
SKY, MOVES = satellites.sky(ORIGIN, LOCAL, 12, 3)
NAMES = ("x", "y", "z", "vx", "vy", "vz", "clock", "drift")
SPREAD = np.array([100.0, 100.0, 30.0, 10.0, 10.0, 1.0, 1e5, 50.0])
STATE = np.array([40.0, -70.0, 12.0, 8.0, -5.0, 0.3, 4e4, 20.0])
DEVIATION, MILLISECOND = 1.5, 1e-3 * satellites.LIGHT
EARTH = Geodetic(latitude=PLACE[0], longitude=PLACE[1], altitude=PLACE[2])
GPS = PseudorangeSensor(sensor="gps", origin=EARTH, standard_deviation=DEVIATION)
DOPPLER = PseudorangeRateSensor(sensor="doppler", origin=EARTH, standard_deviation=0.1)
MODEL = Model(
    entity="*",
    name="receiver",
    motion=RandomWalk(spectral_density=1e-6),
    coordinates=[Coordinate(name=name, unit="m" if name in "xyzclock" else "m/s") for name in NAMES],
    prior=Mixture.gaussian((*(0.0,) * 6, 39_940.0, 0.0), standard_deviations=tuple(SPREAD)),
)


def seen(number: int = 0, time: float = 0.0, off: float = 0.0, **fields: Any) -> Observation:
    """What the receiver reports of a satellite."""
    value = satellites.path(ORIGIN + STATE[:3] @ LOCAL, SKY[number]) + STATE[6] + off
    stated = {"sensor": "gps", "value": value, "position": SKY[number].tolist()} | fields
    return Observation.model_validate({"entity": "car", "time": time, **stated})


def seen_rate(number: int) -> Observation:
    place, velocity = ORIGIN + STATE[:3] @ LOCAL, STATE[3:6] @ LOCAL
    value = satellites.path_rate(place, velocity, SKY[number], MOVES[number]) + STATE[7]
    return seen(number, sensor="doppler", value=value, velocity=MOVES[number].tolist())


def least_squares(errors: Array, clock: float) -> tuple[Array, Array]:
    """Mean and covariance from pseudoranges with these errors, linear about the truth: curved by 1e-4 m in 50 m."""
    places = SKY[: len(errors)]
    away = places - (ORIGIN + STATE[:3] @ LOCAL)
    # the Earth turns while the signal travels
    turn = satellites.TURN / satellites.LIGHT * np.cross([0, 0, 1], places)
    rows = np.zeros((len(errors), len(STATE)))
    rows[:, :3] = (turn - away / np.linalg.norm(away, axis=1, keepdims=True)) @ LOCAL.T
    rows[:, 6] = 1.0
    information = np.diag(SPREAD**-2.0) + rows.T @ rows / DEVIATION**2
    covariance = np.asarray(np.linalg.inv(information), np.float64)
    before = STATE - clock * (np.arange(len(STATE)) == 6)
    mean = STATE + covariance @ (rows.T @ errors / DEVIATION**2 - before / SPREAD**2)
    return mean, covariance


@pytest.mark.parametrize("clock", [39_940.0, 0.0])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_the_posterior_is_that_of_least_squares_in_double_precision(count: int, clock: float) -> None:
    """One satellite too: it narrows place and clock along one line. Single precision would be off by a metre."""
    errors = np.random.default_rng(5).normal(scale=DEVIATION, size=count)
    prior = Mixture.gaussian((*(0.0,) * 6, clock, 0.0), standard_deviations=tuple(SPREAD))
    model = MODEL.model_copy(update={"prior": prior})
    (*_, found) = fuse(
        [seen(number, off=errors[number], id=str(number)) for number in range(count)], GPS, model
    )
    mean, covariance = least_squares(errors, clock)
    deviations = np.sqrt(np.diag(covariance))
    assert np.abs((found.mixture.mean() - mean) / deviations).max() < 1e-3
    off = (found.mixture.covariance() - covariance) / np.outer(deviations, deviations)
    assert np.abs(off).max() < 1e-3
    assert found.quality.method == "linearised"


def test_rates_give_velocity_and_drift() -> None:
    reports = [part for number in range(12) for part in (seen(number), seen_rate(number))]
    (*_, found) = fuse(reports, [GPS, DOPPLER], MODEL)
    off = (found.mixture.mean() - STATE) / found.mixture.standard_deviations()
    assert np.abs(off).max() < 0.5  # the reports are exact
    assert found.mixture.standard_deviations()[[3, 4, 5, 7]].max() < 0.3


def test_where_and_how_well_a_satellite_is_seen_makes_its_noise() -> None:
    sensor = sensor_over(GPS.model_copy(update={"elevation_deviation": 0.5, "signal_deviation": 80.0}), NAMES)
    away = LOCAL @ (SKY[0] - ORIGIN)
    variance = DEVIATION**2 + (0.5 * np.linalg.norm(away) / away[2]) ** 2 + 80.0**2 * 10**-4.1
    both = [seen().value, 41.0]
    assert reading_of(seen(value=both), sensor).covariance == pytest.approx(np.array([[variance]]))
    assert reading_of(seen(value=both, standard_deviation=3.0), sensor).covariance == pytest.approx(
        np.array([[9.0]])
    )


BELOW = (ORIGIN - SKY[0]).tolist()
REFUSED: list[tuple[dict[str, Any], Reason, str]] = [
    ({"position": BELOW}, Reason.invalid, "below the horizon of the origin, got"),
    ({"position": None}, Reason.invalid, "position: gps needs the position of its satellite"),
    ({"position": [1.0, 2.0]}, Reason.wrong_length, "position: expected 3 numbers, got 2"),
    (
        {"velocity": [1.0, 2.0, 3.0]},
        Reason.invalid,
        "position: gps needs the position of its satellite, and no",
    ),
    ({"orientation": 0.1}, Reason.invalid, "position: gps needs the position of its satellite, and no"),
    ({"sensor": "doppler"}, Reason.invalid, "doppler needs the position and velocity of its satellite"),
    ({"value": [2e7, 40.0]}, Reason.wrong_length, "gps reports 1 number, got 2"),
    ({"value": 0.0704}, Reason.impossible, "exceeds maximum_clock, 3e+06 m"),
    ({"off": 11 * MILLISECOND}, Reason.impossible, "m more than from the origin"),
    ({"standard_deviation": [1.0]}, Reason.invalid_covariance, "standard_deviation: expected one number"),
]


@pytest.mark.parametrize(("changes", "reason", "says"), REFUSED)
def test_what_cannot_be_used_is_refused_with_the_reason(
    changes: dict[str, Any], reason: Reason, says: str
) -> None:
    sensors = {each.sensor: sensor_over(each, NAMES) for each in (GPS, DOPPLER)}
    report = seen(**changes)
    with pytest.raises(Unusable) as caught:
        reading_of(report, sensors[report.sensor])
    assert caught.value.reason is reason
    assert says in caught.value.detail


def test_other_sensors_have_no_velocity() -> None:
    camera = {"sensor": "camera", "kind": "range", "position": (0, 0), "standard_deviation": 1.0}
    with pytest.raises(Unusable, match="velocity: gps takes none"):
        reading_of(seen(velocity=[1.0, 2.0, 3.0]), sensor_over(parse_sensor(camera), NAMES))


def test_after_a_clock_jump_a_prior_of_the_clock_finds_it_again() -> None:
    sensor = GPS.model_copy(update={"outlier_probability": 0.05})
    before = [seen(number, 0.0) for number in range(6)]
    after = [seen(number, 1.0, off=MILLISECOND) for number in range(6)]
    *_, lost = expected(MODEL, [sensor], before + after)["car"]
    assert lost.p_value is not None
    assert lost.p_value < 1e-12  # whoever watches it sees the jump
    assert (
        np.abs(lost.belief.weights @ lost.belief.means - STATE)[[0, 1, 2, 6]].max() < 4.0
    )  # outliers, all of them
    clock = Prior(
        entity="car",
        time=1.0,
        mixture=Mixture.gaussian((3e5,), standard_deviations=(1e5,)),
        coordinates=("clock",),
    )
    *_, found = expected(MODEL, [sensor], before + after, [clock])["car"]
    moved = STATE + MILLISECOND * (np.arange(8) == 6)
    assert np.abs(found.belief.weights @ found.belief.means - moved)[[0, 1, 2, 6]].max() < 4.0
