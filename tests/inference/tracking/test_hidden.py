"""Errors of sensors that last: hidden coordinates against filters and posteriors written for the purpose."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import ConstantVelocity, RandomWalk, Unicycle
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import PersistentError, Sensor, with_errors
from beliefstream.inference.sensors.persistent import MOST_ERRORS
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Event, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.tracking.hidden import state_part
from beliefstream.inference.update.updater import Updater

Array = NDArray[np.float64]
LASTS = PersistentError("gauge", 0.7, 3.0)
OTHER = PersistentError("other", 0.4, 8.0)
CONSTANT = PersistentError("gauge/bias", 0.5)
GAUGE = with_errors(sensors.linear([[1.0, 0.0]], [[0.04]], scale=2.0, bias=1.0), LASTS, CONSTANT)
TWIN = with_errors(sensors.linear([[1.0, 0.0]], [[0.09]]), LASTS)
RATE = with_errors(sensors.linear([[0.0, 1.0]], [[0.01]]), OTHER)
START = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.diag([4.0, 1.0])[None])
MODEL = StateModel(ConstantVelocity((0,), (1,), 0.2), START)


@functools.cache
def updater() -> Updater:
    return Updater(weights.load(), dtype=torch.float64)


def outcomes(model: StateModel, log: Sequence[tuple[float, Sensor, float]]) -> list[Outcome]:
    events = [Event("e", time, Reading(sensor, np.array([value]))) for time, sensor, value in log]
    return [outcome for _, outcome in replay(events, lambda _: model, updater())]


class Kalman:
    """A filter of position, velocity and errors [lasting of `gauge`, its constant, `other`], by the book."""

    ROWS = ((2.0, 0.0, 1.0, 1.0, 0.0), (1.0, 0.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 1.0))  # of the reports
    BIAS, NOISE = (1.0, 0.0, 0.0), (0.04, 0.09, 0.01)
    DEVIATIONS, TIMES = np.array([0.7, 0.5, 0.4]), np.array([3.0, math.inf, 8.0])

    def __init__(self) -> None:
        self.mean, self.covariance = np.zeros(5), np.diag([4.0, 1.0, *self.DEVIATIONS**2])

    def step(self, interval: float, number: int, value: float) -> float:
        """Predict and update; the log evidence of the report."""
        factors = np.exp(-interval / self.TIMES)
        matrix = np.diag([1.0, 1.0, *factors])
        matrix[0, 1] = interval
        noise = np.diag([0.0, 0.0, *(self.DEVIATIONS**2 * (1 - factors**2))])
        noise[:2, :2] = 0.2 * np.array([[interval**3 / 3, interval**2 / 2], [interval**2 / 2, interval]])
        self.mean, self.covariance = matrix @ self.mean, matrix @ self.covariance @ matrix.T + noise
        row = np.array(self.ROWS[number])
        variance = row @ self.covariance @ row + self.NOISE[number]
        gain, off = self.covariance @ row / variance, value - self.BIAS[number] - row @ self.mean
        self.mean, self.covariance = self.mean + gain * off, self.covariance - np.outer(gain, gain) * variance
        return float(-0.5 * (off**2 / variance + math.log(2 * math.pi * variance)))


def test_errors_of_linear_sensors_make_the_kalman_filter_of_state_and_errors() -> None:
    random = np.random.default_rng(5)
    order, kinds = random.integers(0, 3, 40), (GAUGE, TWIN, RATE)
    times = np.cumsum(random.exponential(0.4, 40))
    log = [
        (time, kinds[n], value) for time, n, value in zip(times, order, random.normal(0, 1, 40), strict=True)
    ]
    kalman, before = Kalman(), times[0]
    for outcome, (time, _, value), number in zip(outcomes(MODEL, log), log, order, strict=True):
        evidence = kalman.step(time - before, int(number), value)
        before = time
        assert outcome.log_evidence == pytest.approx(evidence, abs=1e-9)
        names = [error.name for error in outcome.belief.hidden.errors]
        places = [0, 1, *(2 + ["gauge", "gauge/bias", "other"].index(name) for name in names)]
        np.testing.assert_allclose(outcome.belief.means[0], kalman.mean[places], atol=1e-9)
        expected = kalman.covariance[np.ix_(places, places)]
        np.testing.assert_allclose(outcome.belief.covariances[0], expected, atol=1e-9)
    assert names == ["gauge", "gauge/bias", "other"]


PLACES = np.array([(-5.0, 0.0), (4.0, 6.0), (3.0, -7.0)])
NOISE, DEVIATION, TIME = 0.1, 0.6, 4.0


def ranges(count: int, probability: float = 0.0) -> list[Sensor]:
    return [
        with_errors(
            sensors.range_to([0, 1], 2, place, NOISE, probability, 50.0),
            PersistentError(f"range-{number}", DEVIATION, TIME),
        )
        for number, place in enumerate(PLACES[:count])
    ]


def grid() -> Array:
    line = np.linspace(-14, 14, 561)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


def log_posterior(points: Array, log: Sequence[tuple[float, int, float]], deviation: float) -> Array:
    """Of a state at rest: reports of one sensor are jointly Gaussian, with the covariance of its error and noise."""
    total = -0.5 * (points**2).sum(1) / deviation**2 - math.log(2 * math.pi * deviation**2)
    for number, place in enumerate(PLACES):
        times, values = (
            np.array([[time, value] for time, which, value in log if which == number]).reshape(-1, 2).T
        )
        if len(times):
            apart = np.abs(times[:, None] - times)
            covariance = DEVIATION**2 * np.exp(-apart / TIME) + NOISE**2 * np.eye(len(times))
            off = values - np.linalg.norm(points - place, axis=1)[:, None]
            total -= 0.5 * np.einsum("pi,ij,pj->p", off, np.linalg.inv(covariance), off)
            total -= 0.5 * np.linalg.slogdet(2 * math.pi * covariance)[1]
    return np.asarray(total)


@pytest.mark.parametrize(("count", "length", "nats"), [(1, 3, 0.02), (3, 12, 0.05)])
def test_ranges_in_the_plane_end_at_the_posterior_on_a_grid(count: int, length: int, nats: float) -> None:
    random, truth = np.random.default_rng(8), np.array([1.5, 1.0])
    errors = random.normal(0, DEVIATION, count)
    log = [
        (0.5 * n, n % count, float(np.linalg.norm(truth - PLACES[n % count]) + errors[n % count]
         + random.normal(0, NOISE)))
        for n in range(length)
    ]  # fmt: skip
    start = Belief(0.0, np.ones(1), np.zeros((1, 2)), 9 * np.eye(2)[None])
    known = ranges(count)
    found = outcomes(StateModel(RandomWalk((0.0, 0.0)), start), [(t, known[n], value) for t, n, value in log])
    points = grid()
    exact = log_posterior(points, log, 3.0)
    cell = 0.05**2
    evidence = math.log(np.exp(exact - exact.max()).sum() * cell) + exact.max()
    assert sum(outcome.log_evidence for outcome in found) == pytest.approx(evidence, abs=nats)
    share = np.exp(exact - evidence) * cell
    answer = state_part(found[-1].belief).mixture().log_density(torch.from_numpy(points)[None])[0].numpy()
    assert float(share @ (exact - evidence - answer)) < nats
    assert float(np.exp(answer).sum() * cell) == pytest.approx(1, abs=1e-3)


def test_an_outlier_changes_neither_the_state_nor_the_error() -> None:
    known = ranges(3, 0.1)
    start = Belief(0.0, np.ones(1), np.zeros((1, 2)), 9 * np.eye(2)[None])
    log = [(0.5 * n, known[n % 3], float(np.linalg.norm([1.5, 1.0] - PLACES[n % 3]))) for n in range(12)]
    usual = outcomes(StateModel(RandomWalk((0.0, 0.0)), start), log)[-1].belief
    beside = outcomes(StateModel(RandomWalk((0.0, 0.0)), start), [*log, (5.5, known[0], 45.0)])[-1].belief
    np.testing.assert_allclose(beside.mixture().moments()[0], usual.mixture().moments()[0], atol=0.02)


def test_an_answer_does_not_depend_on_the_others_of_its_batch() -> None:
    random, known = np.random.default_rng(3), ranges(3, 0.1)
    start = Belief(0.0, np.ones(1), np.zeros((1, 2)), 9 * np.eye(2)[None])
    model = StateModel(RandomWalk((0.1, 0.1)), start)
    logs = {
        f"e{entity}": [
            Event(f"e{entity}", 0.5 * n, Reading(known[(n + entity) % 3], random.uniform(3, 9, 1)))
            for n in range(4)
        ]
        for entity in range(5)
    }
    together = list(replay([event for log in logs.values() for event in log], lambda _: model, updater()))
    for entity, log in logs.items():
        alone = [outcome for _, outcome in replay(log, lambda _: model, updater())]
        for one, other in zip(alone, (found for name, found in together if name == entity), strict=True):
            assert one.method == other.method
            np.testing.assert_array_equal(one.belief.means, other.belief.means)
            np.testing.assert_array_equal(one.belief.covariances, other.belief.covariances)


def test_an_error_is_forgotten_after_four_correlation_times_of_silence() -> None:
    log = [(0.0, TWIN, 1.0), (1.0, RATE, 0.1), (11.9, RATE, 0.1)]
    assert [len(found.belief.hidden.errors) for found in outcomes(MODEL, log)] == [1, 2, 2]
    log[-1] = (12.1, RATE, 0.1)
    last = outcomes(MODEL, log)[-1].belief
    assert [error.name for error in last.hidden.errors] == ["other"]
    assert last.hidden.seen == (12.1,)


def test_a_constant_is_never_forgotten() -> None:
    last = outcomes(MODEL, [(0.0, GAUGE, 1.0), (1e6, RATE, 0.1)])[-1].belief
    assert [error.name for error in last.hidden.errors] == ["gauge/bias", "other"]


def test_a_sensor_with_another_definition_begins_with_a_new_error() -> None:
    changed = with_errors(sensors.linear([[1.0, 0.0]], [[0.09]]), LASTS._replace(deviation=0.3))
    before, after = outcomes(MODEL, [(0.0, TWIN, 3.0), (0.0, RATE, 0.1), (0.5, changed, 3.0)])
    assert [error.deviation for error in after.belief.hidden.errors] == [0.3, 0.4]
    known = state_part(before.belief)
    fresh = outcomes(StateModel(MODEL.motion, known), [(0.0, changed, 3.0)])[0]
    assert fresh.belief.hidden.errors[0].deviation == 0.3


def test_the_order_of_arrival_does_not_matter() -> None:
    log = [(0.3 * n, (GAUGE, TWIN, RATE)[n % 3], 0.1 * n) for n in range(9)]
    first, last = outcomes(MODEL, log)[-1].belief, outcomes(MODEL, log[::-1])[-1].belief
    assert first.hidden == last.hidden
    np.testing.assert_array_equal(first.covariances, last.covariances)


def test_a_prior_of_the_whole_state_forgets_errors_and_one_of_a_part_keeps_them() -> None:
    def after(change: PriorChange) -> Belief:
        events = [
            Event("e", 0.0, Reading(TWIN, np.array([1.0]))),
            Event("e", 1.0, prior=change),
        ]
        return [outcome for _, outcome in replay(events, lambda _: MODEL, updater())][-1].belief

    assert after(PriorChange(START)).hidden.errors == ()
    one = Belief(0.0, np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
    kept = after(PriorChange(one, axes=(0,)))
    assert [error.name for error in kept.hidden.errors] == ["gauge"]
    assert kept.covariances[0, 0, 2] == 0  # the stated position does not depend on the error
    assert after(PriorChange(START, "product")).means.shape == (1, 3)


def test_of_too_many_errors_those_silent_longest_go() -> None:
    many = [
        with_errors(sensors.linear([[1.0, 0.0]], [[1.0]]), PersistentError(f"{n:03}", 0.1, 1e6))
        for n in range(MOST_ERRORS + 2)
    ]
    last = outcomes(MODEL, [(0.1 * n, sensor, 0.0) for n, sensor in enumerate(many)])[-1].belief
    assert [error.name for error in last.hidden.errors] == [f"{n:03}" for n in range(2, MOST_ERRORS + 2)]
    with pytest.raises(ValueError, match=r"66 errors that last, at most 64: 000, 001, "):
        outcomes(MODEL, [(0.0, sensor, 0.0) for sensor in many])


def test_two_errors_of_one_name_at_one_time_are_refused() -> None:
    other = with_errors(sensors.linear([[1.0, 0.0]], [[1.0]]), LASTS._replace(correlation_time=1.0))
    with pytest.raises(ValueError, match="have one name"):
        outcomes(MODEL, [(0.0, TWIN, 0.0), (0.0, other, 0.0)])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PersistentError("e", -1.0, 1.0), "persistent_deviation: must be positive and finite, got -1.0"),
        (PersistentError("e", math.inf, 1.0), "persistent_deviation"),
        (PersistentError("e", 1.0, 0.0), "correlation_time: must be positive, got 0.0"),
        (PersistentError("e", 1.0, math.nan), "correlation_time"),
    ],
)
def test_errors_without_sense_are_refused(error: PersistentError, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_errors(sensors.linear([[1.0, 0.0]], [[1.0]]), error)


def test_a_turning_motion_moves_the_correlation_with_errors() -> None:
    """Against samples of state and error together."""
    motion, generator = Unicycle((0, 1), 2, 3, 4, heading_density=0.02), torch.Generator().manual_seed(2)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64) * 0.25
    prior = GaussianMixture.gaussian(
        torch.tensor([[1.0, -2.0, 0.4, 1.5, 0.3, 0.2]], dtype=torch.float64), (root @ root.T)[None]
    )
    interval = torch.tensor([1.2], dtype=torch.float64)
    moved = motion.predict(prior, interval)
    states = prior.sample(400_000, generator)
    ends = torch.cat([motion.sample(states[..., :5], interval, None, generator), states[..., 5:]], -1)[0]
    np.testing.assert_allclose(moved.means[0, 0], ends.mean(0), atol=0.01)
    np.testing.assert_allclose(moved.covariances[0, 0], torch.cov(ends.T), atol=0.02)
    alone = motion.predict(prior.marginal(range(5)), interval)
    np.testing.assert_allclose(moved.covariances[0, 0, :5, :5], alone.covariances[0, 0], atol=1e-12)


def test_a_bent_step_of_a_turning_motion_splits_along_the_state() -> None:
    start = Belief(0.0, np.ones(1), np.array([[0.0, 0.0, 0.0, 2.0]]), np.diag([0.1, 0.1, 1.0, 0.2])[None])
    model = StateModel(Unicycle((0, 1), 2, speed=3), start)
    seen = with_errors(sensors.position([0, 1], 4, 0.01 * np.eye(2)), LASTS)
    events = [Event("e", time, Reading(seen, np.array([time, 0.5 * time]))) for time in (0.0, 2.0)]
    found = [outcome for _, outcome in replay(events, lambda _: model, updater())][-1].belief
    assert len(found.weights) > 1
    assert found.means.shape[1] == 5
    assert np.linalg.eigvalsh(found.covariances).min() > 0
