"""Native code frees the arrays that it makes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numba.core.runtime
import numpy as np
import pytest

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import ConstantVelocity
from beliefstream.inference.sensors import Reading, bearing, encode, position, range_to
from beliefstream.inference.tracking import closed_steps
from beliefstream.inference.tracking.events import Belief, Instant, StateModel, Step
from tests.inference.plain_models import random_mixture
from tests.inference.problems import sampled, updater

runtime: Any = numba.core.runtime  # without types
ANCHOR = [9.0, 0.0]
FIX = Reading(position([0, 1], 4, np.eye(2)), np.array([1.0, 0.5]))
RANGE = Reading(range_to([0, 1], 4, ANCHOR, 0.3, 0.05, 50.0), np.array([8.0]))
FAR = Reading(range_to([0, 1], 4, [300.0, -100.0], 2.0), np.array([316.0]))
NEAR = Reading(range_to([0, 1], 4, [25.0, -10.0], 0.2), np.array([26.0]))
BEARING = Reading(bearing([0, 1], 4, ANCHOR, 0.05), np.array([3.0]))


@pytest.fixture
def _counted() -> Iterator[None]:
    runtime._nrt_python.memsys_enable_stats()
    yield
    runtime._nrt_python.memsys_disable_stats()


def unfreed() -> int:
    """The number of arrays that native code has made and not freed."""
    gc.collect()
    stats = runtime.rtsys.get_allocation_stats()
    return int(stats.alloc - stats.free)


@pytest.mark.usefixtures("_counted")
@pytest.mark.parametrize(
    "readings",
    [
        pytest.param([FIX], id="linear"),
        pytest.param([RANGE], id="a range"),
        pytest.param([BEARING], id="a bearing"),
        pytest.param([RANGE, BEARING, FIX], id="several"),
    ],
)
def test_an_update_leaves_no_array_behind(readings: list[Reading]) -> None:
    leaves_nothing(random_mixture(3, 3, 4, 4).ordered(), encode([readings] * 3, 4))


@pytest.mark.usefixtures("_counted")
def test_problems_that_need_every_way_leave_no_array_behind() -> None:
    prior, observations, _ = sampled(16)
    leaves_nothing(prior, observations)


@pytest.mark.usefixtures("_counted")
def test_native_steps_leave_no_array_behind() -> None:
    motion, found = ConstantVelocity((0, 1), (2, 3), 0.1), set()
    several = [(reading, one_belief(3, 0.2)) for reading in (FIX, FAR, NEAR, BEARING)]
    several += [(BEARING, one_belief(3, 9.0)), (RANGE, one_belief(3, 9.0)), (RANGE, one_belief(1, 90.0))]
    for reading, belief in several:
        step = Step(belief, StateModel(motion, belief), Instant(1.0, (reading,)))
        found |= methods_of(step)
        before = unfreed()
        for _ in range(3):
            methods_of(step)
        assert unfreed() == before
    assert found == {"kalman", "linearised", "quadrature", "refined"}


def methods_of(step: Step) -> set[str]:
    solved = closed_steps.solved([step] * 3, updater().settings, with_fits=True)
    return {outcome.method for outcome in solved if outcome is not None}


def one_belief(components: int, scale: float) -> Belief:
    found = random_mixture(3, 1, components, 4)
    weights = found.log_weights[0].exp().numpy()
    return Belief(0.0, weights, found.means[0].numpy(), scale * found.covariances[0].numpy())


def leaves_nothing(prior: GaussianMixture, observations: Observations) -> None:
    updater().update(prior, observations)  # what is kept from the first time on
    before = unfreed()
    for _ in range(3):
        updater().update(prior, observations)
    assert unfreed() == before
