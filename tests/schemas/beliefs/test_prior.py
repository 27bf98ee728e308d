from __future__ import annotations

import pytest
from pydantic import ValidationError

from beliefstream.schemas import Mixture, Prior, Reason, Unusable, explain

PLANE = Mixture.gaussian([0.0, 0.0], 1.0)


def test_a_prior_replaces_by_default_and_is_over_all_coordinates() -> None:
    prior = Prior(entity="a", mixture=PLANE, time=0.0)
    assert (prior.mode, prior.coordinates) == ("replace", None)


@pytest.mark.parametrize("coordinates", [("x",), ("x", "y", "z"), ("x", "x"), ()])
def test_named_coordinates_are_as_many_as_the_mixture_has_and_distinct(coordinates: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Prior(entity="a", mixture=PLANE, time=0.0, coordinates=coordinates)
    assert explain(caught.value).startswith("coordinates: ")


@pytest.mark.parametrize(
    ("coordinates", "model", "reason"),
    [
        (None, ("x",), Reason.wrong_length),
        (None, ("x", "y", "z"), Reason.wrong_length),
        (("x", "z"), ("x", "y"), Reason.missing_coordinates),
    ],
)
def test_what_does_not_fit_a_model_is_told(
    coordinates: tuple[str, ...] | None, model: tuple[str, ...], reason: Reason
) -> None:
    prior = Prior(entity="a", mixture=PLANE, time=0.0, coordinates=coordinates)
    with pytest.raises(Unusable) as caught:
        prior.check_fits(model)
    assert caught.value.reason is reason


def test_a_prior_fits_all_coordinates_or_those_that_it_names() -> None:
    Prior(entity="a", mixture=PLANE, time=0.0).check_fits(("x", "y"))
    Prior(entity="a", mixture=PLANE, time=0.0, coordinates=("z", "x")).check_fits(("x", "y", "z"))
