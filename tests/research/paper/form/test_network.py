from __future__ import annotations

import pytest
import torch

from research.paper.form.network import PublishedForm, Shape, answer, inputs
from research.paper.scalar import Problems
from tests.research.paper.normal_task import NormalTask, posterior


def network(seed: int = 0) -> PublishedForm:
    torch.manual_seed(seed)
    return PublishedForm(Shape(NormalTask.prior_numbers, NormalTask.data_numbers, width=16, hidden=16)).eval()


def disturbed() -> PublishedForm:
    """A network whose head is not zero, as after training."""
    found = network()
    torch.nn.init.normal_(found.head.weight, std=0.3)
    return found


def problems(count: int = 20) -> Problems:
    return NormalTask().sample(count, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_one_network_answers_with_any_number_of_components(count: int) -> None:
    found = answer(disturbed(), NormalTask(), problems(), count)
    assert found.means.shape == (20, count)
    torch.testing.assert_close(found.log_weights.exp().sum(1), torch.ones(20, dtype=torch.float64))


def test_before_training_answers_have_about_the_moments_of_the_posterior() -> None:
    mean, deviation = posterior(problems())
    found = answer(network(), NormalTask(), problems(), 5)
    weights = found.log_weights.exp()
    centre = (weights * found.means).sum(1)
    second = (weights * (found.means.square() + (2 * found.log_scales).exp())).sum(1)
    assert float(((centre - mean) / deviation).abs().max()) < 0.05
    assert float(((second - centre.square()).sqrt() / deviation).log().abs().max()) < 0.25


def test_the_order_of_data_does_not_matter() -> None:
    turned = problems()._replace(data=problems().data.flip(1))
    first = answer(disturbed(), NormalTask(), problems(), 5)
    second = answer(disturbed(), NormalTask(), turned, 5)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_an_answer_moves_with_the_units() -> None:
    """Shifted by 100 with its data, a problem is the same in its frame."""
    prior, data, parameter = problems()
    moved = Problems(prior + torch.tensor([100.0, 0.0]), data + 100, parameter + 100)
    first = answer(disturbed(), NormalTask(), problems(), 5)
    second = answer(disturbed(), NormalTask(), moved, 5)
    torch.testing.assert_close(first.means + 100, second.means, atol=1e-3, rtol=0)


def test_inputs_are_of_order_one() -> None:
    prior, data, profiles, _ = inputs(NormalTask(), problems())
    assert max(float(part.abs().max()) for part in (prior, data, profiles)) < 20
