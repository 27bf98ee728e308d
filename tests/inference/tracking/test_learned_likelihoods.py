"""Trust in learned likelihoods: their errors add up, and what lies outside their training is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors import of_problem
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.tracking.health.columns import Fit
from beliefstream.inference.tracking.learned_likelihoods import RARE, UNKNOWN, Trust, trust_in
from tests.inference.likelihood.learned.simulators import COUNTER, Counter, untrained
from tests.inference.problems import updater

HIGHEST = 5.0  # of x in training, from -5 on


class Known(Counter):
    """The same with a likelihood of its own."""

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        return -(parameters["x"] ** 2)


def reading(count: float = 20.0, place: float = 1.0) -> Reading:
    learned, function = untrained(Counter(), COUNTER)
    axes = {"x": 0, "strength": 1}
    sensor = of_problem(function.problem, axes, 3, ["count", "place"], {"seconds": 2}, learned)
    return Reading(sensor, np.array([count, place]))


def exact(**attributes: Any) -> Reading:
    problem = type("Changed", (Known,), attributes)()
    sensor = of_problem(problem, {"x": 0, "strength": 1}, 3, ["count", "place"], {"seconds": 2})
    return Reading(sensor, np.array([20.0, 1.0]))


def test_a_round_of_reports_of_several_numbers_to_a_problem_has_posteriors_and_unjudged_fits() -> None:
    prior = Belief(0.0, np.ones(1), np.zeros((1, 3)), np.eye(3)[None])
    model = StateModel(RandomWalk((0.1, 0.1, 0.1)), prior)
    (outcome,) = advance([Step(None, model, Instant(1.0, (exact(),)))], updater(), with_fits=True)
    assert outcome.fits is not None and outcome.fits.shape == (2, len(Fit))
    assert (outcome.fits[:, Fit.SHARE] == 0).all()
    # the likelihood is a Gaussian of variance 1/2 in x
    assert outcome.belief.covariances[0, 0, 0] == pytest.approx(1 / (1 / 1.0 + 2), rel=0.2)


def test_exact_likelihoods_need_no_trust() -> None:
    assert trust_in([exact()]) is None


def test_errors_of_learned_likelihoods_add_up_beside_exact_ones() -> None:
    assert trust_in([reading(), exact(), reading()]) == Trust(0.5, 0.0, 0.5)


def test_a_likelihood_learned_elsewhere_says_nothing_of_its_error() -> None:
    trust = trust_in([reading(), exact(is_learned=True)])
    assert trust == Trust(None, None, 0.25 + UNKNOWN)
    belief = Belief(0.0, np.ones(1), np.zeros((1, 3)), np.eye(3)[None])
    assert trust is not None and trust.over(belief, [reading()]) == trust


def test_an_unknown_error_is_in_the_accumulated_error() -> None:
    prior = Belief(0.0, np.ones(1), np.zeros((1, 3)), np.eye(3)[None])
    model = StateModel(RandomWalk((0.1, 0.1, 0.1)), prior)
    seen = [exact(), exact(is_learned=True), exact(is_learned=True, expected_error=0.5)]
    outcomes = [advance([Step(None, model, Instant(1.0, (each,)))], updater())[0] for each in seen]
    known, unknown, stated = (outcome.accumulated_error for outcome in outcomes)
    rounding = 1e-12  # of differences of sums
    assert unknown - known >= UNKNOWN - rounding
    assert 0.5 - rounding <= stated - known < unknown - known
    assert outcomes[1].learned is not None and outcomes[1].learned.error is None
    assert outcomes[2].learned is not None and outcomes[2].learned.error is not None


@pytest.mark.parametrize("stated", [True, "little", -1.0, float("nan"), float("inf"), None])
def test_an_error_that_is_no_number_is_unknown(stated: Any) -> None:
    assert trust_in([exact(is_learned=True, expected_error=stated)]) == Trust(None, None, UNKNOWN)


@pytest.mark.parametrize(("p_value", "factor"), [(1.0, 1.0), (RARE, 1.0), (RARE / 20, 20.0)])
def test_rare_data_count_more(p_value: float, factor: float) -> None:
    assert Trust(0.25, 0.0, 1.25).for_data(p_value) == Trust(0.25 * factor, 0.0, 1.25 * factor)


def test_the_context_of_any_observation_can_lie_outside() -> None:
    trust = trust_in([reading(), reading(place=6.0)])
    assert trust is not None and trust.outside == pytest.approx(2 / 8)


def test_the_middle_of_a_belief_may_reach_beyond_the_training() -> None:
    weights, means, deviations = np.array([0.7, 0.3]), np.array([3.0, 4.5]), np.array([0.5, 1.5])
    covariances = np.stack([np.diag([d**2, 0.01, 9.0]) for d in deviations])
    belief = Belief(0.0, weights, np.stack([[m, 2.0, 90.0] for m in means]), covariances)
    seen = reading()
    trust = trust_in([seen])
    assert trust is not None

    def share_above(x: float) -> float:
        return float(weights @ scipy.stats.norm(means, deviations).sf(x)) - 0.005

    end = scipy.optimize.brentq(share_above, 0, 20)
    assert trust.over(belief, [seen]).outside == pytest.approx((end - HIGHEST) / 10, abs=1e-6)
    inside = Belief(0.0, weights, belief.means - [2.0, 0.0, 0.0], covariances / 9)
    assert trust.over(inside, [seen]).outside == 0
