from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from beliefstream.schemas import Observation, Reason, Unusable, explain, parse, reason_of


def test_noise_is_given_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Observation(entity="a", sensor="s", time=0.0, value=1.0, standard_deviation=1.0, covariance=((1.0,),))
    assert reason_of(caught.value) == Reason.invalid
    assert "not both" in explain(caught.value)


def test_every_number_may_have_its_own_standard_deviation() -> None:
    raw = b'{"entity":"a","sensor":"s","time":3.0,"value":[1.0,2.0],"standard_deviation":[0.5,0.1]}'
    observation = parse(Observation, raw)
    assert observation.standard_deviation == (0.5, 0.1)
    assert observation.to_json() == raw


@pytest.mark.parametrize(
    ("deviation", "field", "reason"),
    [
        (b"[0.5]", "standard_deviation", Reason.wrong_length),
        (b"[0.5,0.1,0.2]", "standard_deviation", Reason.wrong_length),
        (b"[0.5,0]", "standard_deviation[1]", Reason.invalid),
        (b"[]", "standard_deviation", Reason.invalid),
    ],
)
def test_standard_deviations_are_as_many_as_the_numbers(deviation: bytes, field: str, reason: Reason) -> None:
    raw = b'{"entity":"a","sensor":"s","time":3.0,"value":[1.0,2.0],"standard_deviation":' + deviation + b"}"
    with pytest.raises(Unusable) as caught:
        parse(Observation, raw)
    assert (caught.value.reason, caught.value.detail.split(":")[0]) == (reason, field)


def test_a_number_is_one_value() -> None:
    one = Observation(entity="a", sensor="s", time=0.0, value=1.5)
    assert one.values == (1.5,)
    assert Observation(entity="a", sensor="s", time=0.0, value=(1.5, 2.0)).values == (1.5, 2.0)


def test_the_variance_of_one_number_may_be_a_matrix_of_one() -> None:
    observation = Observation(entity="a", sensor="s", time=0.0, value=1.5, covariance=((4.0,),))
    assert observation.covariance == ((4.0,),)


def test_integers_are_numbers() -> None:
    observation = parse(Observation, b'{"entity":"a","sensor":"s","time":3,"value":[1,2]}')
    assert (observation.time, observation.value) == (3.0, (1.0, 2.0))


def test_absent_fields_are_not_written() -> None:
    observation = Observation(entity="a", sensor="s", time=3.0, value=1.0)
    assert observation.to_json() == b'{"entity":"a","sensor":"s","time":3.0,"value":1.0}'


def test_an_observation_cannot_be_changed() -> None:
    observation: Any = Observation(entity="a", sensor="s", time=3.0, value=1.0)
    with pytest.raises(ValidationError):
        observation.value = 2.0
