"""The router: the cheapest method that can answers, and what it leaves goes to the next."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode, position, range_to
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.router import UpdateMethod
from tests.inference.problems import updater

NEAR, WIDE = (
    0.1,
    30.0,
)  # standard deviations of a prior 10 m from a sensor, over which it bends little and much


def given(*deviations: float) -> tuple[GaussianMixture, Observations]:
    """Priors of these standard deviations, the first with a position and the others with a range."""
    count = len(deviations)
    covariances = torch.tensor(deviations).double()[:, None, None] ** 2 * torch.eye(2).double()
    prior = GaussianMixture.gaussian(torch.tensor([[10.0, 0.0]]).double().expand(count, 2), covariances)
    place = Reading(position([0, 1], 2, np.eye(2)), np.array([10.2, 0.1]))
    ring = Reading(range_to([0, 1], 2, [0.0, 0.0], 0.5), np.array([10.3]))
    return prior, encode([[place], *[[ring]] * (count - 1)], 2)


def test_each_problem_of_a_batch_is_answered_by_the_cheapest_method_that_can() -> None:
    update = updater()._router.answer(*given(NEAR, NEAR, WIDE))
    assert update.method.tolist() == [
        Method.KALMAN,
        Method.LINEARISED,
        Method.REFINED,
    ]  # a fit around the sensor
    assert bool(torch.isfinite(update.lost).all())


def test_what_a_method_leaves_goes_to_the_next_and_the_p_value_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def every(problems: Problems) -> Tensor:
        return torch.ones(problems.prior.batch, dtype=torch.bool)

    def leave(problems: Problems, index: Tensor) -> Answer:
        asked.append(index.tolist())
        return Answer.none(problems.prior.rows(index))

    router = updater()._router
    expected = router.answer(*given(NEAR, NEAR, WIDE))
    monkeypatch.setattr(router, "methods", (UpdateMethod("leaves all", every, leave), *router.methods))
    found = router.answer(*given(NEAR, NEAR, WIDE))
    assert asked == [[0, 1, 2]]
    torch.testing.assert_close(found.log_evidence, expected.log_evidence)
    torch.testing.assert_close(found.p_value, expected.p_value)
    assert bool((found.p_value > 0).all())


def test_the_last_method_answers_whatever_it_has_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    router = updater()._router

    def poor(problems: Problems, index: Tensor) -> Answer:
        return Answer.none(problems.prior.rows(index))

    monkeypatch.setattr(router, "methods", (UpdateMethod("poor", router.methods[-1].can, poor),))
    found = router.answer(*given(NEAR, WIDE))
    assert found.lost.tolist() == [torch.inf, torch.inf]
    assert found.sample_efficiency.tolist() == [0.0, 0.0]
