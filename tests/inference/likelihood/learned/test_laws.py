"""Laws of single data: probabilities sum to one, places agree with probabilities, and simulated values decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.data_scales import DataScale
from beliefstream.inference.likelihood.learned.laws import Classes, Density, Law, Steps, law_from, law_of
from beliefstream.inference.likelihood.learned.logistic_mixtures import OUTPUTS

LEVELS = tuple(0.5 * level for level in range(-40, 41))
DISCRETE: list[tuple[Law, list[float]]] = [
    (Classes((0.0, 1.0), False), [0, 1]),
    (Classes((0.0, 1.0, 2.0, 3.0), True), list(range(80))),
    (Steps(DataScale("count", 1.5, 0.8)), list(range(20_000))),
    (Steps(DataScale("real", 1.0, 4.0), LEVELS), list(LEVELS)),
]
CONTINUOUS: list[tuple[Law, float, float]] = [
    (Density(DataScale("real", 3.0, 2.0)), -math.inf, math.inf),
    (Density(DataScale("positive", 0.5, 1.2)), 0, math.inf),
    (Density(DataScale("unit", 0.3, 1.0)), 0, 1),
    (Density(DataScale("real", 3.0, 2.0), (0.0, 9.0)), -math.inf, math.inf),
    (Density(DataScale("real", 3.0, 2.0), (0.0, 9.0), (True, True)), 0, 9),
    (Density(DataScale("positive", 0.5, 1.2), (8.0,), (False, True)), 0, 8),
]


def outputs(law: Law, count: int) -> Tensor:
    """The same random outputs for each of `count` cases."""
    generator = torch.Generator().manual_seed(law.size)
    drawn = law.first() + 0.5 * torch.randn(law.size, generator=generator)
    if law.size >= OUTPUTS:
        drawn[OUTPUTS - 1] = -1.0  # a frame that is narrow enough for sums and integrals to end
    return drawn.double().expand(count, -1)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("law", "values"), DISCRETE)
def test_probabilities_of_all_values_sum_to_one(law: Law, values: list[float]) -> None:
    found = law.log_probability(outputs(law, len(values)), column(values)).exp()
    assert float(found.sum()) == pytest.approx(1, abs=1e-3)  # a law without training has wide tails


@pytest.mark.parametrize(("law", "values"), DISCRETE)
def test_each_value_of_a_discrete_law_begins_where_those_before_it_end(law: Law, values: list[float]) -> None:
    given = outputs(law, len(values))
    below, own = law.interval(given, column(values))
    probability = law.log_probability(given, column(values)).exp().numpy()
    np.testing.assert_allclose(own, probability, atol=1e-12)
    np.testing.assert_allclose(below, np.concatenate([[0.0], probability.cumsum()[:-1]]), atol=1e-9)


@pytest.mark.parametrize(("law", "low", "high"), CONTINUOUS)
def test_a_density_integrates_to_what_the_repeated_values_leave(law: Law, low: float, high: float) -> None:
    assert isinstance(law, Density)

    def density(value: float) -> float:
        return float(law.log_probability(outputs(law, 1), column([value])).exp())

    atoms = sum(density(atom) for atom in law.atoms)
    middle = 0.5 if high == 1 else 2.0
    parts = [scipy.integrate.quad(density, *ends, limit=400)[0] for ends in ((low, middle), (middle, high))]
    assert sum(parts) + atoms == pytest.approx(1, abs=1e-4)
    below, own = (float(each) for each in law.interval(outputs(law, 1), column([middle])))
    assert below == pytest.approx(atoms + parts[0], abs=1e-4) and own == 0


@pytest.mark.parametrize("law", [each[0] for each in DISCRETE] + [each[0] for each in CONTINUOUS])
def test_a_law_is_read_back_from_its_description(law: Law) -> None:
    assert law_from(law.describe()) == law


def test_an_unknown_law_is_refused() -> None:
    with pytest.raises(ValueError, match="law: 'table' is unknown"):
        law_from({"law": "table", "scale": {"domain": "real", "centre": 0, "width": 1}})


def test_simulated_values_decide_the_law() -> None:
    random = np.random.default_rng(0)
    plain = random.normal(size=16_384)

    def law(values: object, domain: str = "real") -> Law:
        return law_of(torch.as_tensor(values, dtype=torch.float64), domain)  # type: ignore[arg-type]

    assert law(random.integers(0, 2, 16_384), "binary") == Classes((0.0, 1.0), False)
    assert law(random.integers(0, 4, 16_384), "count") == Classes((0.0, 1.0, 2.0, 3.0), True)
    assert isinstance(law(random.poisson(60, 16_384), "count"), Steps)
    assert law(random.choice([-1.5, 0.25, 8.0], 16_384)) == Classes((-1.5, 0.25, 8.0), False)
    coarse = law(np.round(plain * 50) / 2)
    assert isinstance(coarse, Steps) and len(coarse.levels) > 64
    assert law(plain) == Density(DataScale.of(torch.as_tensor(plain), "real"))
    clipped = law(np.clip(plain, -10, 1.0))
    assert isinstance(clipped, Density) and clipped.atoms == (1.0,) and clipped.ends == (False, True)


def test_a_value_far_in_the_tail_has_a_finite_probability_and_slope() -> None:
    law = Steps(DataScale("count", 3.0, 0.5))
    given = outputs(law, 3).clone().requires_grad_()
    found = law.log_probability(given, column([0, 50_000, 10_000_000]))
    (slope,) = torch.autograd.grad(found.sum(), given)
    assert bool(found.isfinite().all()) and bool(slope.isfinite().all())
