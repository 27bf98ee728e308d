"""A device whose memory runs out: PyTorch's own error, raised by a network that has room for so many entities only."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.devices import (
    FEWEST,
    RETRY_SECONDS,
    DeviceCapacity,
    DeviceNetwork,
    MemoryFallback,
    OutOfMemory,
)
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.updater import Updater, UpdateSettings
from tests.inference.problems import sampled

BATCH = 64
NEVER_REFINED = UpdateSettings(refine_below=0.0, linear_below=0.0, quadrature_below=0.0, search=False)


class Tight(DistributionTransformer):
    """The shipped network on a device that has room for `room` entities."""

    def __init__(self) -> None:
        shipped = weights.load()
        super().__init__(shipped.configuration)
        self.load_state_dict(shipped.state_dict())
        self.room, self.asked = BATCH, list[int]()

    def forward(self, *arguments: Any) -> Any:
        batch = len(arguments[0].means)
        self.asked.append(batch)
        if batch > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(*arguments)


class Device:
    """An updater on a tight network, in float64 so that the size of a batch does not tell; time stands still."""

    def __init__(self, room: int, spare: DistributionTransformer | None = None) -> None:
        self.answers: list[MemoryFallback] = []
        self.now = 0.0
        network = Tight()
        network.room = room
        capacity, cpu = DeviceCapacity(self.answers.append, lambda: self.now), torch.device("cpu")
        tight = DeviceNetwork(network, cpu, torch.float64, capacity, spare or weights.load())
        self.updater = Updater(tight, settings=NEVER_REFINED)
        self.network = cast(Tight, self.updater.network)  # a copy, in double precision

    def asked(self) -> list[int]:
        """The batches since the last call."""
        found, self.network.asked = self.network.asked, []
        return found


@pytest.fixture(scope="module")
def problem() -> tuple[GaussianMixture, Observations]:
    prior, observations, _ = sampled(BATCH)
    return prior, observations


@pytest.fixture(scope="module")
def expected(problem: tuple[GaussianMixture, Observations]) -> Answer:
    return Updater(weights.load(), settings=NEVER_REFINED, dtype=torch.float64).update(*problem)


def assert_same(found: Answer, expected: Answer) -> None:
    np.testing.assert_allclose(found.posterior.means, expected.posterior.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.log_evidence, expected.log_evidence, rtol=1e-9, atol=1e-9)


def networks(update: Answer) -> int:
    """How many of the answers are the network's."""
    return int((update.method == int(Method.TRANSFORMER)).sum())


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    problem: tuple[GaussianMixture, Observations], expected: Answer
) -> None:
    device = Device(room=BATCH // 4)
    found = device.updater.update(*problem)
    assert_same(found, expected)
    assert torch.equal(found.method, expected.method)
    assert device.answers == ["halved", "halved"]
    assert max(device.asked()[2:]) <= BATCH // 4


def test_what_has_fitted_is_the_bound_until_more_is_tried(
    problem: tuple[GaussianMixture, Observations], expected: Answer
) -> None:
    device = Device(room=BATCH // 4)
    device.updater.update(*problem)
    device.asked()
    device.updater.update(*problem)
    assert max(device.asked()) <= BATCH // 4  # no further failure

    device.network.room = BATCH
    for most in (BATCH // 2, BATCH):
        device.now += RETRY_SECONDS
        assert_same(device.updater.update(*problem), expected)
        assert max(device.asked()) <= most
    assert device.answers == ["halved", "halved"]
    assert device.updater._network.capacity.most is None


def test_without_room_for_a_few_the_cpu_answers_and_says_so(
    problem: tuple[GaussianMixture, Observations], expected: Answer
) -> None:
    device = Device(room=FEWEST - 1)
    found = device.updater.update(*problem)
    assert_same(found, expected)
    assert networks(expected) > 0
    assert networks(found) == 0
    assert int((found.method == int(Method.FALLBACK)).sum()) == networks(expected)
    assert device.answers[-1] == "cpu"
    assert set(device.answers[:-1]) == {"halved"}
    device.asked()
    device.updater.update(*problem)
    assert device.asked() == []  # left alone for a while

    device.network.room = BATCH
    device.now += RETRY_SECONDS
    recovered = device.updater.update(*problem)
    assert max(device.asked()) <= FEWEST
    assert networks(recovered) == networks(expected)


def test_components_of_another_number_share_the_room(problem: tuple[GaussianMixture, Observations]) -> None:
    device = Device(room=BATCH // 2)
    device.updater.update(*problem)
    device.asked()
    device.updater.with_components(16).update(*problem)
    assert max(device.asked()) <= BATCH // 2


def test_other_errors_are_not_hidden(problem: tuple[GaussianMixture, Observations]) -> None:
    prior, observations = problem
    device = Device(room=BATCH)
    with pytest.raises(ValueError, match="do not match"):
        device.updater.update(prior.rows(torch.arange(3)), observations)
    device.network.forward = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a fault of ours"):
        device.updater.update(prior, observations)
    assert device.answers == []


def broken(*_: Any) -> Any:
    raise RuntimeError("a fault of ours")


def test_without_memory_anywhere_it_is_no_fault_of_the_observations(
    problem: tuple[GaussianMixture, Observations],
) -> None:
    spare = Tight()
    spare.room = 0
    with pytest.raises(OutOfMemory, match="on the CPU either"):
        Device(room=0, spare=spare).updater.update(*problem)
