"""Composite reports are their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.sensors import Reading, encode, expand
from tests.inference.reports import at

RADAR = sensors.composite(
    [
        sensors.range_to([0, 1], 4, [1.0, 0.0], 0.3, outlier_probability=0.1, scale=1.1, bias=0.2),
        sensors.bearing([0, 1], 4, [1.0, 0.0], 0.1),
        sensors.range_rate([0, 1], [2, 3], 4, [1.0, 0.0], 0.5),
        sensors.position([2, 3], 4, np.array([[1.0, 0.3], [0.3, 2.0]])),
    ]
)
VALUE = np.array([5.0, 0.8, -1.0, 1.5, -2.5])


def test_a_sensor_is_built_in_without_functions_of_the_user() -> None:
    noise = sensors.Noise((0.8, 0.2), (0.0, 1.0), (1.0, 3.0))
    own = sensors.function(lambda state: state[0] * state[1], [0, 1], 4, 0.5)
    assert RADAR.is_built_in
    assert not own.is_built_in
    assert not sensors.composite([RADAR.parts[0], own]).is_built_in
    assert sensors.range_to([0, 1], 4, [1.0, 0.0], 0.3, noise=noise).is_simple
    cluttered = sensors.Noise(clutter=((0.1, sensors.Uniform(0.0, 9.0)),))
    assert not sensors.range_to([0, 1], 4, [1.0, 0.0], 0.3, noise=cluttered).is_simple


def test_a_composite_report_is_its_parts() -> None:
    parts = [
        Reading(part, VALUE[start:stop])
        for part, (start, stop) in zip(RADAR.parts, [(0, 1), (1, 2), (2, 3), (3, 5)], strict=True)
    ]
    joint, apart = encode([[Reading(RADAR, VALUE)]], 4), encode([parts], 4)
    states = at(np.array([4.0, 4.0, 1.0, -2.0]))
    torch.testing.assert_close(joint.log_likelihood(states), apart.log_likelihood(states), rtol=0, atol=0)
    assert RADAR.value_length == 5
    assert [len(part.value) for part in expand(Reading(RADAR, VALUE))] == [1, 1, 1, 2]


def test_a_covariance_of_its_own_goes_to_the_parts() -> None:
    covariance = np.diag([0.5, 0.2, 0.3, 4.0, 5.0])
    covariance[3, 4] = covariance[4, 3] = 0.7
    found = expand(Reading(RADAR, VALUE, covariance))
    assert [part.covariance.tolist() for part in found if part.covariance is not None] == [
        [[0.5]],
        [[0.2]],
        [[0.3]],
        [[4.0, 0.7], [0.7, 5.0]],
    ]


def test_a_composite_of_composites_opens_to_the_last() -> None:
    nested = sensors.composite([RADAR, sensors.heading(3, 4, 0.1)])
    assert len(expand(Reading(nested, np.append(VALUE, 0.4)))) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sensors.composite([]), "parts: expected at least one"),
        (
            lambda: sensors.composite([sensors.heading(0, 1, 0.1), sensors.heading(0, 2, 0.1)]),
            r"parts: .*\[1, 2\]",
        ),
        (lambda: expand(Reading(RADAR, VALUE[:4])), "value: expected 5 numbers, got 4"),
        (lambda: expand(Reading(RADAR, VALUE, np.eye(5) + 0.1)), "covariance: the parts of a composite"),
    ],
)
def test_a_composite_that_cannot_be_is_refused_with_the_field(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
