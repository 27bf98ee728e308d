"""What was lost on the way to a belief adds up, fades as it should, and is forgotten with what was believed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from msgspec import structs

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.motion import ConstantVelocity, CoordinatedTurn, FixedStep, Motion, RandomWalk
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.accumulated_error import (
    GROWTH,
    LEAST_ALIKE,
    MOST,
    NO_ERROR,
    SMALL,
    AccumulatedError,
    AccumulatedErrors,
)
from beliefstream.inference.tracking.events import Array, Belief, Event, Instant, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance, replay
from tests.inference.plain_models import log_density
from tests.inference.problems import updater
from tests.inference.tracking.out_of_order_filter import OutOfOrderFilter

CLOSE = sensors.range_to((0, 1), 2, (0.0, 0.0), 0.003)  # leaves a ring too thin for any mixture
WEAK = sensors.position((0, 1), 2, 100.0 * np.eye(2))
SHARP = sensors.position((0, 1), 2, 1e-4 * np.eye(2))
STILL = StateModel(RandomWalk((0.0, 0.0)), Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None]))
KNOWN = AccumulatedError(0.05, 2.0, 3.0)


def seen(time: float, sensor: sensors.Sensor, *value: float) -> Instant:
    return Instant(time, (Reading(sensor, np.array(value)),))


def after(*instants: Instant, model: StateModel = STILL, belief: Belief | None = None) -> Outcome:
    """The last outcome of one entity."""
    outcome = None
    for instant in instants:
        outcome = advance([Step(belief, model, instant)], updater())[0]
        belief = outcome.belief
    assert outcome is not None
    return outcome


def gaussian(covariance: Array) -> GaussianMixture:
    mean = torch.zeros(1, len(covariance), dtype=torch.float64)
    return GaussianMixture.gaussian(mean, torch.from_numpy(covariance)[None])


def covariance(seed: int, size: int = 3) -> Array:
    factor = np.random.default_rng(seed).normal(size=(size, size))
    return np.asarray(factor @ factor.T + 0.1 * np.eye(size))


def shifts(matrix: Array) -> Array:
    """One standard deviation along each axis of a Gaussian; rows."""
    return np.asarray(np.linalg.cholesky(matrix).T)


def cost(shift: Array, matrix: Array) -> float:
    """KL of two Gaussians of one covariance that lie `shift` apart."""
    return 0.5 * float(shift @ np.linalg.solve(matrix, shift))


def correlated(earlier: float, loss: float, alike: float) -> float:
    """Half the variance of a sum of two log ratios of these half variances, whose correlation is `alike`."""
    covariance = 2 * alike * math.sqrt(earlier * loss)
    return 0.5 * float(
        np.ones(2) @ np.array([[2 * earlier, covariance], [covariance, 2 * loss]]) @ np.ones(2)
    )


@pytest.mark.parametrize("narrower", [0.9, 0.5, 0.1])
def test_an_error_as_rough_as_a_random_path_fades_as_in_an_update(narrower: float) -> None:
    """The mean KL of both updated densities, whose log ratio is a Brownian path; no shift, which fades faster."""
    random, grid = np.random.default_rng(5), np.linspace(-5.0, 5.0, 4001)
    steps = 0.02 * math.sqrt(grid[1] - grid[0]) * random.standard_normal((4000, len(grid)))

    def lost(deviation: float) -> float:
        share = np.exp(-0.5 * (grid / deviation) ** 2)
        share /= share.sum()
        paths = np.cumsum(steps, 1)
        return float((np.log(np.exp(paths) @ share) - paths @ share).mean())

    found = AccumulatedErrors.of([KNOWN]).updated(gaussian(np.eye(1)), gaussian(narrower**2 * np.eye(1)))
    assert found.single()[0].small == pytest.approx(KNOWN.small * lost(narrower) / lost(1.0), rel=0.05)


def test_information_is_the_decrease_of_half_the_log_determinant() -> None:
    prior, posterior = covariance(1), 0.3 * covariance(1) + 0.1 * np.diag([1.0, 0.5, 0.2])
    found = AccumulatedErrors.of([KNOWN]).updated(gaussian(prior), gaussian(posterior)).single()[0]
    ratio = np.trace(posterior @ np.linalg.inv(prior)) / 3
    assert found.small == pytest.approx(KNOWN.small * math.sqrt(ratio), rel=1e-9)
    learnt = 0.5 * math.log(np.linalg.det(prior) / np.linalg.det(posterior))
    assert found.learnt == pytest.approx(KNOWN.learnt + learnt, rel=1e-9)
    assert found.large == KNOWN.large


@pytest.mark.parametrize("seconds", [0.0, 0.5, 20.0])
def test_a_shift_shrinks_as_in_a_motion(seconds: float) -> None:
    matrix, time, density = covariance(3, 2), seconds, 0.3
    model = StateModel(
        ConstantVelocity((0,), (1,), density), Belief(0.0, np.ones(1), np.zeros((1, 2)), matrix[None])
    )
    forward = np.array([[1.0, time], [0.0, 1.0]])
    noise = density * np.array([[time**3 / 3, time**2 / 2], [time**2 / 2, time]])
    moved = forward @ matrix @ forward.T + noise
    before = np.mean([cost(shift, matrix) for shift in shifts(matrix)])
    then = np.mean([cost(forward @ shift, moved) for shift in shifts(matrix)])
    found = after(
        Instant(seconds), model=model, belief=structs.replace(model.prior, error=KNOWN)
    ).belief.error
    assert found.small == pytest.approx(KNOWN.small * then / before, rel=1e-9)
    assert found[1:] == KNOWN[1:]


def test_a_motion_in_steps_makes_it_fade_too() -> None:
    steps = FixedStep(((1.0, 0.5), (0.0, 1.0)), ((0.2, 0.0), (0.0, 0.3)), 0.5)
    start = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None], error=KNOWN)
    found = after(Instant(1.0), model=StateModel(steps, start), belief=start).belief.error
    assert 0 < found.small < KNOWN.small


def test_a_motion_that_turns_makes_it_fade_by_its_noise() -> None:
    def left(turns: Motion, known: AccumulatedError = KNOWN) -> float:
        start = Belief(0.0, np.ones(1), np.array([[0.0, 0, 5, 0, 0.1]]), 1e-6 * np.eye(5)[None], error=known)
        return after(Instant(2.0), model=StateModel(turns, start), belief=start).belief.error.small

    calm = CoordinatedTurn((0, 1), (2, 3), 4, 0.0, 0.0)
    wild = CoordinatedTurn((0, 1), (2, 3), 4, 5.0, 0.5)
    own = left(calm, NO_ERROR)
    assert own < 1e-3
    assert left(calm) == pytest.approx(correlated(KNOWN.small, own, LEAST_ALIKE), rel=1e-6)
    assert left(wild) < 0.8 * KNOWN.small


def test_a_belief_that_widens_again_has_its_error_again() -> None:
    narrow, wide = gaussian(np.eye(2)), gaussian(1.2 * np.eye(2))
    start = AccumulatedErrors.of([KNOWN])
    again = start.updated(wide, narrow).updated(narrow, wide).single()[0]
    assert again == pytest.approx(KNOWN)
    torn = start.updated(narrow, gaussian(1e6 * np.eye(2))).single()[0]
    assert torn.small == pytest.approx(math.sqrt(GROWTH) * KNOWN.small)
    assert torn.learnt == 0.0


@pytest.mark.parametrize("left", [1.0, 0.64, 0.0])
def test_a_new_loss_adds_as_a_log_ratio_like_the_earlier_ones(left: float) -> None:
    """Only the part that fades; and the more, the less is left of what was there before."""
    losses = torch.tensor([0.0, 0.03, 0.1, 0.7, 40.0, math.inf, math.nan])
    for known in (AccumulatedError(), KNOWN, AccumulatedError(0.3, 0.0, 5.0)):
        before = AccumulatedErrors.of([known] * len(losses))
        before.table[:, 3] = left
        for error, loss in zip(before.plus(losses).single(), losses.tolist(), strict=True):
            loss = min(loss, MOST) if loss == loss else MOST
            little, alike = min(loss, SMALL), max(math.sqrt(1 - left), LEAST_ALIKE)
            small = correlated(known.small, little, alike)
            assert error.small == pytest.approx(small)
            assert error.nats == pytest.approx(known.nats - known.small + small + loss - little)


def test_a_first_loss_counts_as_what_it_is_and_none_changes_nothing() -> None:
    first = AccumulatedErrors.of([AccumulatedError()] * 2).plus(torch.tensor([0.03, 2.0]))
    assert [error.nats for error in first.single()] == pytest.approx([0.03, 2.0])
    assert first.plus(torch.zeros(2)).single() == first.single()


def test_it_does_not_depend_on_the_batch_if_a_motion_loses_too() -> None:
    """What moving an entity without an error loses has not faded, beside one that has an error or alone."""
    lost, noise = torch.tensor([0.02, 0.02]), 0.5 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    wide, narrow = (concatenate([gaussian(each)] * 2) for each in (np.eye(2), 0.3 * np.eye(2)))
    errors = AccumulatedErrors.of([NO_ERROR, KNOWN]).moved(wide, noise).plus(lost)
    together = errors.updated(wide, narrow).plus(lost).single()[0]
    one = torch.tensor([0])
    alone = AccumulatedErrors.of([NO_ERROR]).plus(lost[:1]).updated(wide.rows(one), narrow.rows(one))
    assert together == pytest.approx(alone.plus(lost[:1]).single()[0])


def test_a_chain_whose_first_update_is_poor_does_not_read_as_perfect_later() -> None:
    poor = after(seen(0.0, CLOSE, 1.0))
    assert poor.sample_efficiency < 0.5
    assert poor.accumulated_error > 0.3
    later = after(*(seen(float(i), WEAK, 0.5, 0.5) for i in range(1, 21)), belief=poor.belief)
    assert later.sample_efficiency > 0.95
    assert later.accumulated_error > 0.5 * poor.accumulated_error
    # until something tells where it is, whatever was believed
    found = after(*(seen(30.0 + i, SHARP, 0.6, 0.8) for i in range(40)), belief=later.belief)
    assert found.accumulated_error < 0.2 * later.accumulated_error


def test_a_replaced_prior_has_none_and_a_product_keeps_it() -> None:
    stated = Belief(1.0, np.ones(1), np.zeros((1, 2)), 0.1 * np.eye(2)[None])
    along = Belief(1.0, np.ones(1), np.zeros((1, 1)), 0.1 * np.eye(1)[None])
    known = structs.replace(STILL.prior, error=KNOWN)
    for change, left in (
        (PriorChange(stated), 0.0),
        (PriorChange(stated, axes=(1, 0)), 0.0),
        (PriorChange(stated, "product"), KNOWN.nats),
        (PriorChange(along, axes=(0,)), KNOWN.nats),  # the other coordinate is believed as before
    ):
        outcome = after(Instant(1.0, prior=change), belief=known)
        assert outcome.accumulated_error == pytest.approx(left), change


def test_a_belief_that_expired_leaves_no_error() -> None:
    model = replace(STILL, expires_after=5.0)
    known = structs.replace(STILL.prior, error=KNOWN)
    assert after(seen(5.0, WEAK, 0.0, 0.0), model=model, belief=known).accumulated_error > 0.1
    assert after(seen(5.1, WEAK, 0.0, 0.0), model=model, belief=known).accumulated_error == 0.0


def test_what_reducing_a_stated_prior_costs_is_in_it() -> None:
    random = np.random.default_rng(4)
    many = Belief(1.0, np.full(40, 1 / 40), random.normal(0, 4, (40, 2)), np.stack([0.1 * np.eye(2)] * 40))
    for outcome in (
        after(Instant(1.0, prior=PriorChange(many))),
        after(Instant(1.0), model=replace(STILL, prior=many)),
    ):
        belief = outcome.belief
        points = many.means[random.integers(40, size=4000)] + math.sqrt(0.1) * random.normal(size=(4000, 2))
        lost = float(np.mean(log_density(many, points) - log_density(belief, points)))
        assert lost > 0.3
        assert outcome.accumulated_error == pytest.approx(lost, rel=0.15)


def chain(entity: str, seed: int, count: int = 12) -> list[Event]:
    """Ranges of an entity, some of them at once."""
    random, events = np.random.default_rng(seed), []
    for tick in range(count):
        sensor = sensors.range_to((0, 1), 2, random.normal(0, 2, 2), 0.3)
        events.append(Event(entity, float(tick // 2), Reading(sensor, np.array([2 + random.random()]))))
    return events


def test_it_is_the_same_alone_among_others_and_in_any_order_of_arrival() -> None:
    model = StateModel(RandomWalk((0.01, 0.01)), STILL.prior)
    logs = {name: chain(name, seed) for seed, name in enumerate("abc")}
    events = [event for log in logs.values() for event in log]
    together: dict[str, list[float]] = {name: [] for name in logs}
    for name, outcome in replay(events, lambda _: model, updater()):
        together[name].append(outcome.accumulated_error)
    for name, log in logs.items():
        alone = [outcome.accumulated_error for _, outcome in replay(log, lambda _: model, updater())]
        assert min(alone) > 0.0
        np.testing.assert_allclose(together[name], alone, rtol=0.02)
    late = OutOfOrderFilter(lambda _: model, updater(), window=10.0)
    last: dict[str, Outcome] = {}
    order = np.random.default_rng(9).permutation(len(events))
    for part in np.array_split(order, 5):
        outcomes, refused = late.apply([events[i] for i in part])
        assert not refused
        last |= outcomes
    for name, errors in together.items():
        assert last[name].accumulated_error == pytest.approx(errors[-1], rel=0.02)
