from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from beliefstream.schemas import Mixture, Posterior, explain
from beliefstream.schemas.beliefs.posterior import Quality
from tests.schemas.messages import posteriors, relaxed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence", 0),
        ("revision", -1),
        ("prior_sequence", -1),
        ("model_version", 0),
        ("mixture", Mixture.gaussian([0.0], 1.0)),
        ("quality", {"sample_efficiency": 1.1, "log_evidence": 0, "p_value": 0, "method": "kalman"}),
        ("quality", {"sample_efficiency": 1, "log_evidence": 0, "p_value": 0, "method": "guess"}),
        (
            "quality",
            {
                "sample_efficiency": 1,
                "log_evidence": 0,
                "p_value": 0,
                "method": "kalman",
                "accumulated_error": -0.1,
            },
        ),
        ("applied", [3]),
        ("entity", "*"),
    ],
)
@settings(relaxed, max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(posterior=posteriors())
def test_a_field_out_of_bounds_is_named(field: str, value: Any, posterior: Posterior) -> None:
    with pytest.raises(ValidationError) as caught:
        Posterior.model_validate({**posterior.model_dump(), field: value})
    assert explain(caught.value).startswith(field)


def test_a_posterior_of_a_worker_before_it_had_the_figure_says_that_it_is_not_known() -> None:
    quality = Quality.model_validate(
        {"sample_efficiency": 1, "log_evidence": 0, "p_value": 0, "method": "kalman"}
    )
    assert quality.accumulated_error is None


@relaxed
@given(posteriors())
def test_coordinates_have_names(posterior: Posterior) -> None:
    assert posterior.coordinate_names == ("x", "y")
