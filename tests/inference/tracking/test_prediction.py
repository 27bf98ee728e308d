"""Components are divided where a motion bends over them, held against a bend whose exact density is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.motion import ConstantVelocity, Control, CoordinatedTurn, Unicycle
from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.tracking.prediction import MOST_PARTS, Moved, move, moved, predict
from beliefstream.inference.update.settings import FAST, UpdateSettings
from tests.inference.plain_models import assert_near, numbers, random_mixture
from tests.inference.problems import updater

DISTANCE, BEFORE, MORE = 10.0, 0.2, 0.05  # m; variances of the position, before and added, m²
DRAWS = 50_000
ROLLING = Unicycle(position_density=MORE)
AHEAD = Control(numbers(DISTANCE, 0.0)[None], torch.zeros(1, 2, 2, dtype=torch.float64))
TURN = CoordinatedTurn(acceleration_density=0.1, turn_rate_density=1e-4)
WHOLE = replace(UpdateSettings(), bend_below=0.0)


def start(deviation: float) -> GaussianMixture:
    """At the origin, with a heading of mean zero."""
    covariance = torch.diag(numbers(BEFORE, BEFORE, deviation**2))
    return GaussianMixture.gaussian(torch.zeros(1, 3, dtype=torch.float64), covariance[None])


def divergence(deviation: float, found: GaussianMixture) -> float:
    """KL(exact ‖ found) after `DISTANCE` straight ahead: given the heading, the exact position is Gaussian."""
    random, spread = np.random.default_rng(0), math.sqrt(BEFORE + MORE)
    heading, place = deviation * random.normal(size=DRAWS), spread * random.normal(size=(DRAWS, 2))
    log_exact = -0.5 * (heading / deviation) ** 2 - 0.5 * (place**2).sum(1) / spread**2
    log_exact -= math.log(deviation) + 2 * math.log(spread) + 1.5 * math.log(2 * math.pi)
    ahead = np.stack([np.cos(heading), np.sin(heading)], 1)
    points = np.concatenate([DISTANCE * ahead + place, heading[:, None]], 1)
    return float((log_exact - found.log_density(torch.from_numpy(points)[None])[0].numpy()).mean())


def rolled(deviation: float, settings: UpdateSettings) -> Moved:
    return move(ROLLING, start(deviation), numbers(1.0), AHEAD, settings)


def turning(seed: int, batch: int, components: int) -> GaussianMixture:
    """Speeds of about 10 m/s, turn rates of about .2 rad/s."""
    mixture = random_mixture(seed, batch, components, 5)
    scale = numbers(5.0, 5.0, 7.0, 7.0, 0.2)
    covariances = mixture.covariances * scale[:, None] * scale
    return GaussianMixture(mixture.log_weights, mixture.means * scale, covariances)


@pytest.mark.parametrize("deviation", [0.1, 0.2, 0.4])
def test_the_loss_of_a_component_moved_as_one_is_its_divergence(deviation: float) -> None:
    whole = rolled(deviation, WHOLE)
    assert whole.mixture.components == 1
    assert float(whole.loss[0]) == pytest.approx(divergence(deviation, whole.mixture), rel=0.2)


@pytest.mark.parametrize("deviation", [0.2, 0.4, 1.0])
def test_divided_components_lose_little_and_say_how_much(deviation: float) -> None:
    whole, divided = (rolled(deviation, settings) for settings in (WHOLE, UpdateSettings()))
    lost = divergence(deviation, divided.mixture)
    assert lost < 0.03 * divergence(deviation, whole.mixture)
    assert lost < 3 * float(divided.loss[0])
    assert 1 < divided.mixture.components <= UpdateSettings().most_components


def test_a_straight_path_loses_nothing_and_stays_whole() -> None:
    mixture, seconds = random_mixture(3, 4, 3, 4), numbers(0.0, 0.1, 1.0, 30.0)
    motion = ConstantVelocity((0, 1), (2, 3), 0.5)
    found, expected = move(motion, mixture, seconds), motion.predict(mixture, seconds)
    assert torch.equal(found.loss, torch.zeros(4, dtype=torch.float64))
    for name in ("log_weights", "means", "covariances"):
        assert torch.equal(getattr(found.mixture, name), getattr(expected, name))


def test_what_bends_little_or_not_at_all_is_moved_as_one() -> None:
    found = rolled(0.05, UpdateSettings())
    assert 0 < float(found.loss[0]) < UpdateSettings().bend_below
    assert found.mixture.components == 1
    still = move(ROLLING, start(1.0), numbers(0.0), AHEAD)
    assert float(still.loss[0]) == 0 and torch.equal(still.mixture.means, start(1.0).means)


def assert_alike(found: Moved, expected: Moved) -> None:
    assert_near(found.loss, expected.loss, 1e-8)
    most = max(found.mixture.components, expected.mixture.components)
    ours, theirs = (each.mixture.ordered().padded(most) for each in (found, expected))
    assert_near(ours.log_weights.exp(), theirs.log_weights.exp(), 1e-8)
    for name in ("means", "covariances"):
        present = ours.present & theirs.present
        assert_near(getattr(ours, name)[present], getattr(theirs, name)[present], 1e-8)


def test_a_result_does_not_depend_on_the_rest_of_the_batch() -> None:
    parts = [turning(seed, 2, components) for seed, components in ((1, 1), (2, 3), (3, 8))]
    batch, seconds = concatenate(parts), numbers(0.2, 1.0, 3.0, 0.0, 1.5, 0.7)
    joint = move(TURN, batch, seconds)
    assert bool((joint.mixture.present.sum(1) > batch.present.sum(1)).any())
    for row in range(6):
        one = torch.tensor([row])
        alone = move(TURN, parts[row // 2].rows(one % 2), seconds[one])
        assert_alike(Moved(joint.mixture.rows(one), joint.loss[one]), alone)


def test_a_filler_of_absent_places_does_not_matter() -> None:
    mixture, seconds = turning(5, 2, 3), numbers(1.0, 2.0)
    padded = mixture.padded(6)
    wild = padded.means.where(padded.present[..., None], torch.full_like(padded.means, 1e3))
    assert_alike(
        move(TURN, GaussianMixture(padded.log_weights, wild, padded.covariances), seconds),
        move(TURN, mixture, seconds),
    )


def test_many_components_that_all_bend_stay_within_bounds() -> None:
    wide = turning(7, 3, 20)
    found = move(TURN, wide, numbers(2.0, 4.0, 8.0))
    assert MOST_PARTS > 20 and found.mixture.components <= UpdateSettings().most_components
    assert bool((torch.linalg.eigvalsh(found.mixture.covariances[found.mixture.present]) > 0).all())
    assert_near(found.mixture.log_weights.exp().sum(1), torch.ones(3, dtype=torch.float64), 1e-12)
    assert bool(found.loss.isfinite().all())


def test_a_coordinate_known_exactly_bends_nothing() -> None:
    covariance = torch.diag(numbers(1.0, 1.0, 0.0, 0.0, 0.0))
    mean = numbers(1e6, -1e6, 10.0, 0.0, 0.3)
    known = GaussianMixture.gaussian(mean[None], covariance[None])
    for motion in (TURN, CoordinatedTurn()):
        found = move(motion, known, numbers(1.0))
        assert float(found.loss[0]) < 1e-6 and found.mixture.components == 1


def step(
    motion: Unicycle | CoordinatedTurn, mixture: GaussianMixture, control: ControlReading | None
) -> Step:
    weights, means, covariances = (
        part[0].numpy() for part in (mixture.log_weights.exp(), mixture.means, mixture.covariances)
    )
    belief = Belief(0.0, weights, means, covariances, control)
    return Step(belief, StateModel(motion, belief), Instant(1.0))


@pytest.mark.parametrize("settings", [UpdateSettings(), FAST])
def test_steps_of_several_motions_are_each_divided_as_alone(settings: UpdateSettings) -> None:
    odometry = ControlReading(np.array([DISTANCE, 0.0]), np.zeros((2, 2)))
    turn = Unicycle(position_density=MORE, heading_density=1e-4)
    steps = [step(ROLLING, start(0.4), odometry), step(turn, start(0.2), odometry)]
    joint = moved(steps, settings)[0]
    for row, each in enumerate(steps):
        one = torch.tensor([row])
        assert_alike(Moved(joint.mixture.rows(one), joint.loss[one]), moved([each], settings)[0])
    assert int(joint.mixture.present.sum(1).min()) > 1
    assert predict(steps).components == 1


def test_a_step_of_the_filter_is_divided() -> None:
    odometry = ControlReading(np.array([DISTANCE, 0.0]), np.zeros((2, 2)))
    (outcome,) = advance([step(ROLLING, start(0.4), odometry)], updater())
    assert len(outcome.belief.weights) > 1
    tensors = (torch.from_numpy(part)[None] for part in _parts(outcome.belief))
    assert divergence(0.4, GaussianMixture.from_weights(*tensors)) < 0.05


def _parts(belief: Belief) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return belief.weights, belief.means, belief.covariances


def test_points_followed_without_noise_go_where_draws_of_a_motion_without_noise_go() -> None:
    points: Tensor = turning(9, 2, 4).means
    seconds = numbers(0.5, 40.0)
    assert_near(TURN.follow(points, seconds), CoordinatedTurn().sample(points, seconds), 1e-9)
