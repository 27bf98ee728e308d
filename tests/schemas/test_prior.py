from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas import Mixture, Prior, explain

PLANE = Mixture.gaussian([0.0, 0.0], 1.0)


def test_a_prior_replaces_by_default_and_is_over_all_coordinates() -> None:
    prior = Prior(entity="a", mixture=PLANE, time=0.0)
    assert (prior.mode, prior.coordinates) == ("replace", None)


@pytest.mark.parametrize("coordinates", [("x",), ("x", "y", "z"), ("x", "x"), ()])
def test_named_coordinates_are_as_many_as_the_mixture_has_and_distinct(coordinates: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Prior(entity="a", mixture=PLANE, time=0.0, coordinates=coordinates)
    assert explain(caught.value).startswith("coordinates: ")
