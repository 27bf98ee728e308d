"""Fast decoding of posteriors: what it takes is what pydantic takes, and the rest is left to pydantic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from beliefstream.schemas import Mixture, Posterior, Unusable, parse
from beliefstream.streams.live.beliefs import block_of
from beliefstream.streams.live.posteriors import plain_posterior
from tests.streams.client.topics import posterior

TWO = Mixture(
    weights=(0.25, 0.75),
    means=((1.0, 2.0), (30.0, 40.0)),
    covariances=(((4.0, 1.0), (1.0, 9.0)), ((16.0, 0.0), (0.0, 25.0))),
)
ODD: dict[str, list[Any]] = {
    "entity": ["", "<b>", "x" * 129, 1, None],
    "time": [1e18, -1e12, "now", None, True],
    "sequence": [0, 1.5, "1"],
    "revision": [-1],
    "prior_sequence": [-1],
    "model": ["a b", ""],
    "model_version": [0],
    "coordinates": [
        [],
        [{"name": "x", "unit": "m"}],
        [{"name": "x", "unit": "\u202em"}, {"name": "y", "unit": "m"}],
    ],
    "mixture.weights": [[0.5, 0.6], [-0.5, 1.5], [1.0], []],
    "mixture.means": [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [3.0]], [[1.0, "2"], [3.0, 4.0]]],
    "mixture.covariances": [[[[1.0, 0.0], [0.0, 0.0]]] * 2, [[[1.0, 0.0]]] * 2, [[[1.0], [0.0, 1.0]]] * 2],
    "quality.effective_sample_size": [1.1, -0.1, None],
    "quality.surprise": [2.0],
    "quality.method": ["magic"],
    "quality.accumulated_error": [-1.0],
    "quality.extra": [1],
}


def test_all_that_the_page_shows_is_as_pydantic_reads_it() -> None:
    raw = posterior(3, mixture=TWO, prior_sequence=2).to_json()
    found, expected = plain_posterior(raw), parse(Posterior, raw)
    assert found is not None
    for name in ("entity", "time", "sequence", "revision", "prior_sequence", "model", "model_version"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.coordinate_names == expected.coordinate_names
    for name in ("effective_sample_size", "log_evidence", "surprise", "method", "accumulated_error"):
        assert getattr(found.quality, name) == getattr(expected.quality, name)
    assert found.mixture.mean() == pytest.approx(expected.mixture.mean())
    assert block_of(1, found, ("x", "y")) == block_of(1, expected, ("x", "y"))


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in ODD for value in ODD[field]])
def test_what_pydantic_refuses_is_not_taken(field: str, value: Any) -> None:
    content = json.loads(posterior(3, mixture=TWO).to_json())
    *parents, name = field.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[name] = value
    raw = json.dumps(content).encode()
    with pytest.raises(Unusable):
        parse(Posterior, raw)
    assert plain_posterior(raw) is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_posterior_are_not_taken(raw: bytes) -> None:
    assert plain_posterior(raw) is None
    assert plain_posterior(None) is None
