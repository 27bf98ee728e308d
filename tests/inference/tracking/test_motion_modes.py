"""Modes of motion noise, against all histories of modes, each with a Kalman filter of its own."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.special import ndtr, ndtri

from beliefstream.inference import sensors
from beliefstream.inference.motion import ConstantVelocity
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import PersistentError, with_errors
from beliefstream.inference.sensors.readings import ControlReading, Reading
from beliefstream.inference.tracking.events import Belief, Event, Instant, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance, replay
from beliefstream.inference.tracking.health.columns import Fit
from beliefstream.inference.tracking.health.innovations import innovations
from beliefstream.inference.tracking.prediction import predict
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater

Array = NDArray[np.float64]
FACTORS, DENSITY, MODE_TIME, NOISE = (0.05, 1.0, 30.0), 0.3, 4.0, 0.5
GAUGE = sensors.linear([[1.0, 0.0]], [[NOISE**2]])
LASTS = PersistentError("gauge", 0.7, 3.0)
START = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.diag([4.0, 1.0])[None])
TIMES = (0.0, 0.8, 1.1, 3.0, 3.7, 5.5)
VALUES = (0.3, 0.5, 1.4, 6.0, 9.5, 9.0)
STATED = Belief(3.0, np.ones(1), np.array([[5.0, 4.0]]), np.diag([2.0, 1.5])[None])


def model(components: int = 300, density: float = DENSITY) -> StateModel:
    one = StateModel(ConstantVelocity((0,), (1,), density), START, components)
    modes = tuple(
        StateModel(ConstantVelocity((0,), (1,), factor * density), START, components) for factor in FACTORS
    )
    return replace(one, modes=modes, mode_time=MODE_TIME)


@functools.cache
def updater(merge_below: float = 0.0) -> Updater:
    return Updater(weights.load(), dtype=torch.float64, settings=UpdateSettings(merge_below=merge_below))


def outcomes(events: Sequence[Event], merge_below: float = 0.0, components: int = 300) -> list[Outcome]:
    given = model(components)
    return [outcome for _, outcome in replay(events, lambda _: given, updater(merge_below))]


def reports(times: Sequence[float] = TIMES) -> list[Event]:
    seen = dict(zip(TIMES, VALUES, strict=True))
    return [Event("e", time, Reading(GAUGE, np.array([seen[time]]))) for time in times]


@dataclass
class History:
    """One history of modes: its probability times its evidence, and its Kalman filter of state and an error."""

    mode: int | None
    log_weight: float
    mean: Array
    covariance: Array

    def moved(self, interval: float, mode: int, log_probability: float, correlation_time: float) -> History:
        matrix = np.diag([1.0, 1.0, math.exp(-interval / correlation_time)])
        matrix[0, 1] = interval
        noise = np.zeros((3, 3))
        noise[:2, :2] = [[interval**3 / 3, interval**2 / 2], [interval**2 / 2, interval]]
        noise *= FACTORS[mode] * DENSITY
        noise[2, 2] = LASTS.deviation**2 * (1 - matrix[2, 2] ** 2)
        covariance = matrix @ self.covariance @ matrix.T + noise
        return History(mode, self.log_weight + log_probability, matrix @ self.mean, covariance)

    def seen(self, rows: Array, value: Array, noise: Array) -> History:
        total = rows @ self.covariance @ rows.T + noise
        off, gain = value - rows @ self.mean, self.covariance @ rows.T @ np.linalg.inv(total)
        evidence = -0.5 * (off @ np.linalg.solve(total, off) + np.linalg.slogdet(2 * math.pi * total)[1])
        covariance = self.covariance - gain @ total @ gain.T
        return History(self.mode, self.log_weight + evidence, self.mean + gain @ off, covariance)


def begun(error: float) -> list[History]:
    return [History(None, 0.0, np.zeros(3), np.diag([4.0, 1.0, error**2]))]


def moved(histories: Sequence[History], interval: float) -> list[History]:
    """All histories, each continued in each mode, by the exponential of the chain's rates."""
    rates = (np.ones((3, 3)) - 3 * np.eye(3)) / (2 * MODE_TIME)
    matrix = expm(rates * interval)
    return [
        each.moved(interval, mode, math.log(1 / 3 if each.mode is None else matrix[each.mode, mode]), 3.0)
        for each, mode in itertools.product(histories, range(3))
    ]


def seen(histories: Sequence[History], value: float, has_error: bool) -> list[History]:
    rows = np.array([[1.0, 0.0, float(has_error)]])
    return [each.seen(rows, np.array([value]), np.array([[NOISE**2]])) for each in histories]


def moments(histories: Sequence[History]) -> tuple[Array, Array, float]:
    """Mean, covariance, and the log of the total weight."""
    logs = np.array([each.log_weight for each in histories])
    total = float(np.logaddexp.reduce(logs))
    shares = np.exp(logs - total)
    mean = shares @ np.array([each.mean for each in histories])
    spread = sum(
        share * (each.covariance + np.outer(each.mean - mean, each.mean - mean))
        for share, each in zip(shares, histories, strict=True)
    )
    return mean, np.asarray(spread), total


def probabilities(belief: Belief) -> Array:
    """Of the modes."""
    return np.asarray(np.bincount(np.repeat(range(3), belief.modes), belief.weights, 3), float)


def check(outcome: Outcome, histories: Sequence[History], size: int, tolerance: float) -> None:
    mean, covariance, _ = moments(histories)
    found, spread = (part[0].numpy() for part in outcome.belief.mixture().moments())
    scale = np.sqrt(covariance.diagonal())[:size]
    np.testing.assert_allclose(found / scale, mean[:size] / scale, atol=tolerance)
    np.testing.assert_allclose(
        spread / np.outer(scale, scale), covariance[:size, :size] / np.outer(scale, scale), atol=tolerance
    )


@pytest.mark.parametrize("has_error", [False, True])
@pytest.mark.parametrize(("merge_below", "components", "tolerance"), [(0.0, 300, 1e-4), (0.002, 8, 0.02)])
def test_modes_are_the_mixture_of_all_histories(
    has_error: bool, merge_below: float, components: int, tolerance: float
) -> None:
    gauge = with_errors(GAUGE, LASTS) if has_error else GAUGE
    events = [
        Event("e", time, Reading(gauge, np.array([value]))) for time, value in zip(TIMES, VALUES, strict=True)
    ]
    histories, before, total = begun(LASTS.deviation), 0.0, 0.0
    found = outcomes(events, merge_below, components)
    for outcome, time, value in zip(found, TIMES, VALUES, strict=True):
        if time > before:
            histories = moved(histories, time - before)
        histories, before = seen(histories, value, has_error), time
        after = moments(histories)[2]
        assert outcome.log_evidence == pytest.approx(after - total, abs=tolerance)
        check(outcome, histories, 2 + has_error, tolerance)
        total = after
    assert len(histories) == 3**5
    assert len(found[0].belief.modes) == 0
    assert sum(found[-1].belief.modes) == len(found[-1].belief.weights)


def test_one_component_for_each_mode_is_the_interacting_multiple_model_filter() -> None:
    found, filters, before = outcomes(reports(), components=1), begun(0.0), 0.0
    for outcome, time, value in zip(found, TIMES, VALUES, strict=True):
        if time > before:
            every, mixed = moved(filters, time - before), []
            for mode in range(3):
                own = [each for each in every if each.mode == mode]
                # of the same motion, the predicted mixture has the moments of the predicted moments
                mean, covariance, log_weight = moments(own)
                mixed.append(History(mode, log_weight, mean, covariance))
            filters = mixed
        filters, before = seen(filters, value, False), time
        total = moments(filters)[2]
        assert outcome.log_evidence == pytest.approx(total, abs=1e-9)
        check(outcome, filters, 2, 1e-9)
        filters = [replace(each, log_weight=each.log_weight - total) for each in filters]
    assert found[-1].belief.modes == (1, 1, 1)


def test_probabilities_of_modes_are_those_of_the_histories() -> None:
    histories, before = begun(0.0), 0.0
    for time, value in zip(TIMES, VALUES, strict=True):
        histories = seen(moved(histories, time - before) if time > before else histories, value, False)
        before = time
    total = moments(histories)[2]
    exact = [
        sum(math.exp(each.log_weight - total) for each in histories if each.mode == mode) for mode in range(3)
    ]
    np.testing.assert_allclose(probabilities(outcomes(reports())[-1].belief), exact, atol=1e-4)


def test_two_modes_of_equal_noise_are_the_filter_without_modes_also_under_controls() -> None:
    plain = StateModel(ConstantVelocity((0,), (1,), DENSITY, controlled=True), START)
    twice = replace(plain, modes=(plain, plain), mode_time=MODE_TIME)
    pushed = Event("e", 0.9, control=ControlReading(np.array([2.0]), np.array([[0.1]])))
    alone, doubled = (
        list(replay([*reports(), pushed], {"e": given}.__getitem__, updater(0.002)))
        for given in (plain, twice)
    )
    for (_, one), (_, other) in zip(alone, doubled, strict=True):
        assert other.log_evidence == pytest.approx(one.log_evidence, abs=1e-9)
        assert (other.belief.control is None) == (one.belief.control is None)
        for part, expected in zip(
            other.belief.mixture().moments(), one.belief.mixture().moments(), strict=True
        ):
            np.testing.assert_allclose(part, expected, atol=1e-9)


def test_a_prior_that_multiplies_weighs_the_modes_and_has_no_evidence_of_observations() -> None:
    histories = begun(0.0)
    for interval, value in ((0.0, 0.3), (0.8, 0.5)):
        histories = seen(moved(histories, interval) if interval else histories, value, False)
    histories = [
        each.seen(np.eye(2, 3), STATED.means[0], STATED.covariances[0]) for each in moved(histories, 2.2)
    ]
    *_, prior, last = outcomes(
        [*reports(TIMES[:2]), Event("e", 3.0, prior=PriorChange(STATED, "product")), *reports((3.0,))]
    )
    assert prior.log_evidence == pytest.approx(0.0, abs=1e-12)
    check(prior, histories, 2, 1e-4)
    check(last, seen(histories, 6.0, False), 2, 1e-4)


def test_nothing_before_a_prior_that_replaces_the_state_counts() -> None:
    change = Event("e", 3.0, prior=PriorChange(STATED))
    after = [Event("e", 4.0 + n, Reading(GAUGE, np.array([5.0 + 3 * n]))) for n in range(3)]
    long, short = outcomes([*reports(TIMES[:3]), change, *after]), outcomes([change, *after])
    for one, other in zip(long[3:], short, strict=True):
        assert one.belief.modes == other.belief.modes
        np.testing.assert_array_equal(one.belief.weights, other.belief.weights)
        np.testing.assert_array_equal(one.belief.means, other.belief.means)


def test_a_prior_of_one_coordinate_keeps_the_probabilities_of_the_modes() -> None:
    velocity = Belief(1.1, np.ones(1), np.array([[2.0]]), np.array([[[1.0]]]))
    change = PriorChange(velocity, axes=(1,))
    before, instant = outcomes(reports(TIMES[:3]))[-1].belief, Instant(1.1, prior=change)
    (after,) = advance([Step(before, model(), instant)], updater())
    np.testing.assert_allclose(probabilities(after.belief), probabilities(before), atol=1e-9)
    assert np.ptp(probabilities(before)) > 0.05


def test_predictions_and_innovations_are_over_all_modes() -> None:
    histories, belief = begun(0.0), outcomes(reports(TIMES[:2]))[-1].belief
    for interval, value in ((0.0, 0.3), (0.8, 0.5)):
        histories = seen(moved(histories, interval) if interval else histories, value, False)
    histories = moved(histories, 2.2)
    step = Step(belief, model(), Instant(3.0, (Reading(GAUGE, np.array([20.0])),)))
    mean, covariance, _ = moments(histories)
    found = predict([step]).moments()
    np.testing.assert_allclose(found[0][0], mean[:2], atol=1e-3)
    np.testing.assert_allclose(found[1][0], covariance[:2, :2], rtol=1e-3)
    nearest = min(
        abs(20.0 - each.mean[0]) / math.sqrt(each.covariance[0, 0] + NOISE**2) for each in histories
    )
    assert innovations([step])[0][0] == pytest.approx(nearest, rel=0.05)


def test_the_fit_of_a_reading_is_to_the_prediction_over_all_modes() -> None:
    histories, belief = begun(0.0), outcomes(reports(TIMES[:2]))[-1].belief
    for interval, value in ((0.0, 0.3), (0.8, 0.5)):
        histories = seen(moved(histories, interval) if interval else histories, value, False)
    histories, value = moved(histories, 2.2), 4.0
    (outcome,) = advance(
        [Step(belief, model(), Instant(3.0, (Reading(GAUGE, np.array([value])),)))], updater(), with_fits=True
    )
    total = moments(histories)[2]
    below = sum(
        math.exp(each.log_weight - total)
        * ndtr((value - each.mean[0]) / math.sqrt(each.covariance[0, 0] + NOISE**2))
        for each in histories
    )
    assert outcome.fits is not None
    assert outcome.fits[0, Fit.SCORE] == pytest.approx(ndtri(below), abs=1e-3)


def test_a_belief_of_another_number_of_modes_begins_with_equal_probabilities() -> None:
    belief = outcomes(reports(TIMES[:3]))[-1].belief
    given = model()
    fewer = replace(given, modes=given.modes[:2])
    stated = Belief(belief.time, belief.weights, belief.means, belief.covariances)
    one, other = (predict([Step(each, fewer, Instant(3.0))]) for each in (belief, stated))
    np.testing.assert_array_equal(one.means, other.means)
    np.testing.assert_array_equal(one.log_weights, other.log_weights)


def test_a_model_without_modes_goes_on_with_the_mixture_of_all() -> None:
    belief, reading = outcomes(reports(TIMES[:3]))[-1].belief, Reading(GAUGE, np.array([6.0]))
    plain = replace(model(8), modes=())
    stated = Belief(belief.time, belief.weights, belief.means, belief.covariances)
    one, other = (
        advance([Step(each, plain, Instant(3.0, (reading,)))], updater(0.002))[0].belief
        for each in (belief, stated)
    )
    assert one.modes == () and len(one.weights) <= 16
    np.testing.assert_array_equal(one.means, other.means)
