"""Fast decoding of posteriors: what it takes is what pydantic takes, and the rest is left to pydantic."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from beliefstream.schemas import Mixture, Posterior, SensorError, Unusable, parse
from beliefstream.streams.live.beliefs import BLOCK, METHODS, blocks_of
from beliefstream.streams.live.posteriors import Group, read_posteriors
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
    "quality.sample_efficiency": [1.1, -0.1, None],
    "quality.p_value": [2.0],
    "quality.method": ["magic"],
    "errors": [
        [{"name": "a", "mean": 0.0, "standard_deviation": 0.0}],
        [{"name": "a", "mean": 0.0}],
        [1],
        {},
    ],
    "quality.accumulated_error": [-1.0],
    "quality.likelihood_error": [-1.0],
    "quality.outside_training": [-1.0],
    "mixture.extra": [1],
    "mixture": [{}, [], 1],
    "quality.extra": [1],
}


def taken(raw: bytes | None) -> Group | None:
    """A group of the posterior alone; None if it was left."""
    found, left = read_posteriors([raw])
    assert left == ([] if any(group.posteriors for group in found) else [0])
    return None if left else found[0]


def test_all_that_the_page_shows_is_as_pydantic_reads_it() -> None:
    quality = posterior(3).quality.model_copy(
        update={
            "likelihood": "learned",
            "likelihood_error": 0.25,
            "outside_training": 0.5,
            "accumulated_error": 1.5,
        }
    )
    errors = (SensorError(name="mast/range", mean=0.5, standard_deviation=0.25),)
    stated = posterior(3, mixture=TWO, prior_sequence=2, quality=quality)
    raw = stated.model_copy(update={"errors": errors}).to_json()
    group, expected = taken(raw), parse(Posterior, raw)
    assert group is not None
    (found,) = group.posteriors
    for name in ("entity", "time", "sequence", "revision", "prior_sequence", "model", "model_version"):
        assert getattr(found, name) == getattr(expected, name)
    assert tuple(found.applied) == expected.applied
    assert found.coordinate_names == expected.coordinate_names
    for name in type(expected.quality).model_fields:
        assert getattr(found.quality, name) == getattr(expected.quality, name)
    (error,) = found.errors
    assert (error.name, error.mean, error.standard_deviation) == ("mast/range", 0.5, 0.25)
    assert found.mixture.mean() == pytest.approx(expected.mixture.mean())
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(getattr(group, name)[0], getattr(expected.mixture, name))
    np.testing.assert_array_equal(group.marginals[0], [0.25, 0.75, 1, 2, 30, 40, 4, 9, 16, 25])


def test_a_block_has_the_plane_of_each_component() -> None:
    group = taken(posterior(3, mixture=TWO).to_json())
    assert group is not None
    (block,) = blocks_of(group, [7], [4.5], ("y", "x"), stretch=0.5)
    number, components, method, share, stamp, time = BLOCK.unpack_from(block)
    assert (number, components, METHODS[method], stamp, time) == (7, 2, "transformer", 4.5, 3.0)
    assert share == pytest.approx(0.9)
    rows = np.frombuffer(block, "<f4", offset=BLOCK.size).reshape(-1, 6)
    np.testing.assert_array_equal(rows, [[0.25, 1, 1, 2.25, 0.5, 4], [0.75, 20, 30, 6.25, 0, 16]])
    (empty,) = blocks_of(group, [7], [4.5], ("x", "height"))
    assert BLOCK.unpack_from(empty)[1] == 0 and len(empty) == BLOCK.size


def test_posteriors_of_several_shapes_keep_their_places() -> None:
    messages = [
        posterior(number, f"e-{number}", mixture=TWO if number % 3 else Mixture.gaussian((number, 0), 1))
        for number in range(1, 10)
    ]
    raws: list[bytes | None] = [each.to_json() for each in messages]
    raws[4] = None
    found, left = read_posteriors(raws)
    assert left == [4]
    assert sorted(group.components for group in found) == [1, 2]
    for group in found:
        for row, (place, member) in enumerate(zip(group.places, group.posteriors, strict=True)):
            assert member.entity == messages[place].entity
            np.testing.assert_array_equal(group.means[row], messages[place].mixture.means)


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in ODD for value in ODD[field]])
def test_what_pydantic_refuses_is_not_taken(field: str, value: Any) -> None:
    """Nor is what comes with it lost."""
    content = json.loads(posterior(3, mixture=TWO).to_json())
    *parents, name = field.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[name] = value
    raw = json.dumps(content).encode()
    with pytest.raises(Unusable):
        parse(Posterior, raw)
    assert taken(raw) is None
    found, left = read_posteriors([raw, posterior(4, mixture=TWO).to_json()])
    assert left == [0]
    assert [each.sequence for group in found for each in group.posteriors] == [4]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_posterior_are_not_taken(raw: bytes) -> None:
    assert taken(raw) is None
    assert taken(None) is None
