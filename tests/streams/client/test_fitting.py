"""Proposed definitions: what is clear is corrected, in the definition's own fields."""

from __future__ import annotations

import math
from typing import Any

import pytest

from beliefstream.inference.tracking.health.verdicts import Assessment, ChannelHealth
from beliefstream.schemas import (
    Channel,
    Geodetic,
    GeodeticSensor,
    PositionSensor,
    RangeBearingSensor,
    RangeChannel,
    RangeSensor,
)
from beliefstream.streams.client.sensor_health import propose

BEACON = RangeSensor(sensor="beacon", position=(0.0, 0.0), standard_deviation=0.5, scale=2.0, bias=0.25)


def channel(**fields: Any) -> ChannelHealth:
    usual: dict[str, Any] = {
        "verdict": "healthy",
        "count": 500.0,
        "informative": 300.0,
        "bias": 0.0,
        "bias_deviation": 0.02,
        "noise_scale": 1.0,
        "noise_scale_deviation": 0.03,
        "outlier_share": 0.0,
        "stated_share": 0.0,
        "excess": 0.0,
        "gain": 1.0,
        "gain_deviation": 0.002,
        "level": 40.0,
        "since": 0.0,
        "evidence": {},
    }
    return ChannelHealth(**(usual | fields))


def assessment(*channels: ChannelHealth) -> Assessment:
    return Assessment("healthy", channels, 0.0, 0.0, 15.0)


def test_what_is_as_stated_stays() -> None:
    found = propose(BEACON, assessment(channel(bias=0.05, noise_scale=1.05)), scale=True)
    assert found.definition == BEACON
    assert found.reasons == (
        "bias: as stated, within 0.05 ± 0.02",
        "noise: as stated, within 0.05 ± 0.03 of it",
    )


def test_bias_and_noise_are_corrected_in_the_reported_unit() -> None:
    found = propose(BEACON, assessment(channel(bias=0.3, noise_scale=1.5)))
    assert found.definition == BEACON.model_copy(update={"bias": 0.55, "standard_deviation": 0.75})
    assert found.reasons[0] == "bias: off by +0.3 ± 0.02"


def test_a_scale_is_corrected_if_asked_for_with_the_bias_that_remains() -> None:
    """Reports are 1.04 times what was stated, and 0.1 more: at a level of 40 they are off by 1.7."""
    faulty = assessment(channel(bias=0.04 * 40 + 0.1, gain=1.04))
    fitted = propose(BEACON, faulty, scale=True).definition
    assert isinstance(fitted, RangeSensor)
    assert fitted.scale == pytest.approx(2.08)
    assert fitted.bias == pytest.approx(1.04 * 0.25 + 0.1)
    plain = propose(BEACON, faulty).definition
    assert isinstance(plain, RangeSensor)
    assert plain.scale == 2.0
    assert plain.bias == pytest.approx(1.95)


def test_each_number_of_a_composite_has_its_own_correction() -> None:
    radar = RangeBearingSensor(
        sensor="radar",
        position=(0.0, 0.0),
        range=RangeChannel(standard_deviation=0.5),
        bearing=Channel(standard_deviation=0.02),
    )
    found = propose(radar, assessment(channel(), channel(bias=0.1, noise_scale=2.0))).definition
    assert isinstance(found, RangeBearingSensor)
    assert found.range == radar.range
    assert (found.bearing.bias, found.bearing.standard_deviation) == (0.1, 0.04)


def test_numbers_that_share_a_bias_get_one_where_they_agree() -> None:
    gps = PositionSensor(sensor="gps", covariance=((4.0, 1.0), (1.0, 9.0)))
    found = propose(gps, assessment(channel(bias=0.31, noise_scale=2.0), channel(bias=0.29))).definition
    assert isinstance(found, PositionSensor)
    assert found.bias == pytest.approx(0.3)
    assert found.covariance == ((16.0, 2.0), (2.0, 9.0))
    apart = propose(gps, assessment(channel(bias=0.3), channel(bias=-0.3)))
    assert isinstance(apart.definition, PositionSensor)
    assert apart.definition.bias == 0.0
    assert "cannot state these" in apart.reasons[0]


def test_what_a_kind_cannot_state_is_said() -> None:
    ship = GeodeticSensor(
        sensor="ais", origin=Geodetic(latitude=50.0, longitude=-1.0), standard_deviation=5.0
    )
    found = propose(ship, assessment(channel(bias=3.0), channel(noise_scale=2.0)))
    assert isinstance(found.definition, GeodeticSensor)
    assert found.definition.standard_deviation == pytest.approx(5.0 * math.sqrt(2.5))
    assert "a geodetic sensor cannot state these" in found.reasons[0]


def test_what_is_unknown_stays() -> None:
    unknown = channel(bias=math.nan, bias_deviation=math.nan, gain=math.nan, noise_scale_deviation=math.nan)
    found = propose(BEACON, assessment(unknown), scale=True)
    assert found.definition == BEACON
    assert found.reasons[0] == "bias: as stated, as nothing is known"
