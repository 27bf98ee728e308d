"""Parts of a batch in threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from beliefstream.inference.update.result import in_threads
from beliefstream.inference.update.updater import Method, Updater
from tests.inference.problems import sampled, updater


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_parts_run_at_the_same_time_and_their_results_are_in_order() -> None:
    together = threading.Barrier(2)

    def work(part: int) -> tuple[int, bool]:
        together.wait(10)  # raises unless the other part runs too
        return part, torch.is_inference_mode_enabled()

    assert in_threads(work, [3, 1]) == [(3, False), (1, False)]
    with torch.inference_mode():
        assert in_threads(work, [3, 1]) == [(3, True), (1, True)]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("quadrature", "method"), [(0.005, Method.QUADRATURE), (0.0, Method.REFINED)])
def test_answers_of_two_threads_are_those_of_one(quadrature: float, method: Method) -> None:
    prior, observations, _ = sampled(24)
    chosen = Updater(updater().network, settings=replace(updater().settings, quadrature_below=quadrature))
    found = chosen.update(prior, observations)
    torch.set_num_threads(1)
    expected = chosen.update(prior, observations)
    assert int((expected.method == method).sum()) > 2
    assert torch.equal(found.method, expected.method)
    # rounds of refinement amplify rounding, which depends on the size of a batch
    torch.testing.assert_close(found.posterior.means, expected.posterior.means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.sample_efficiency, expected.sample_efficiency, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("two_threads")
def test_an_error_of_one_part_is_raised() -> None:
    def work(part: int) -> int:
        if part:
            raise ValueError("value: 1")
        return part

    with pytest.raises(ValueError, match="value: 1"):
        in_threads(work, [0, 1])
