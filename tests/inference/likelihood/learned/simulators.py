"""Simulators of the tests, without a likelihood, and likelihoods with random weights."""

from __future__ import annotations

from typing import Any

import torch

from beliefstream.inference.likelihood.learned.laws import law_of
from beliefstream.inference.likelihood.learned.network import LearnedLikelihood, Shape
from beliefstream.inference.likelihood.learned.reports import Names
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction

COUNTER = f"{__name__}:Counter"


class Counter:
    """Poisson counts of a source on a line."""

    parameters: Any = {"x": "real", "strength": "positive"}  # noqa: RUF012
    data: Any = {"count": "count"}  # noqa: RUF012
    context: Any = ("place", "seconds")
    ranges: Any = {"x": (-5, 5), "strength": (2, 50), "place": (-4, 4), "seconds": 2}  # noqa: RUF012

    def mean(self, parameters: Any, context: Any) -> Any:
        squared = (parameters["x"] - context["place"]) ** 2
        return context["seconds"] * (1 + parameters["strength"] / (1 + squared))

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        return {"count": torch.poisson(self.mean(parameters, context), generator=generator)}


class Clipped:
    """Two data with heavy tails of which the first is cut off at a limit, and a probability."""

    parameters: Any = {"x": "real", "share": "unit"}  # noqa: RUF012
    data: Any = {"level": "real", "hit": "binary"}  # noqa: RUF012
    context: Any = ("limit",)
    ranges: Any = {"x": (-3, 3), "share": (0.1, 0.9), "limit": 2.0}  # noqa: RUF012

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        x = parameters["x"]
        noise = torch.randn(4, len(x), dtype=x.dtype, generator=generator)
        heavy = noise[0] / (noise[1:].square().mean(0)).sqrt()  # Student's t, three degrees of freedom
        level = torch.minimum(x + 0.3 * heavy, context["limit"])
        hit = torch.rand(len(x), dtype=x.dtype, generator=generator) < parameters["share"]
        return {"level": level, "hit": hit.to(x.dtype)}


def untrained(problem: Any, name: str, seed: int = 0) -> tuple[LearnedLikelihood, ProblemFunction]:
    """A likelihood with random weights, as a file would give it."""
    function = ProblemFunction.of(problem)
    trained_on = TrainingRange.of(function)
    generator = torch.Generator().manual_seed(seed)
    known = trained_on.draw(4096, generator)
    count = len(function.parameters)
    data = function.simulate(known[:, :count], known[:, count:], generator)
    laws = [law_of(data[:, i], domain) for i, (_, domain) in enumerate(function.data)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = LearnedLikelihood(Names.of(function, name), laws, trained_on, Shape(16, 1))
    found.lowest.copy_(data.amin(0))
    found.highest.copy_(data.amax(0))
    found.expected_error = 0.25
    found.networks.double()
    return found.requires_grad_(False), function
