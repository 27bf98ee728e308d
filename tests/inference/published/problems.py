"""Problems whose posteriors are known in closed form, and forms that are trained for seconds."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.published.train import Plan, Training


class Simulated:
    """One to four readings of a level with normal noise: the posterior of a normal prior is normal."""

    parameters: Any = {"level": "real"}  # noqa: RUF012
    data: Any = {"reading": "real"}  # noqa: RUF012
    context: Any = ("noise",)
    rows: Any = ("set", 4)
    ranges: Any = {"level": (-10, 10), "noise": (0.5, 3)}  # noqa: RUF012

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        noise = torch.randn(4, len(parameters["level"]), dtype=torch.float64, generator=generator)
        return {"reading": (parameters["level"] + context["noise"] * noise).T}


class Level(Simulated):
    """The same with its likelihood."""

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        law = torch.distributions.Normal(parameters["level"][:, None], context["noise"][:, None])
        return law.log_prob(data["reading"]).sum(1)  # type: ignore[no-untyped-call]


class Variance:
    """The variance of one normal number: the posterior of an inverse gamma is one."""

    parameters: Any = {"variance": "positive"}  # noqa: RUF012
    data: Any = {"number": "real"}  # noqa: RUF012
    context: Any = ()
    ranges: Any = {"variance": (0.01, 100)}  # noqa: RUF012
    priors: Any = {"variance": ("inverse_gamma", (0.5, 20), (0.2, 20))}  # noqa: RUF012

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        deviation = parameters["variance"].sqrt()
        return {"number": deviation * torch.randn(len(deviation), dtype=torch.float64, generator=generator)}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        return torch.distributions.Normal(0.0, parameters["variance"].sqrt()).log_prob(data["number"])  # type: ignore[no-untyped-call]


class Pair:
    """Two parameters of which a sum is seen."""

    parameters: Any = {"x": "real", "y": "real"}  # noqa: RUF012
    data: Any = {"sum": "real"}  # noqa: RUF012
    context: Any = ()
    ranges: Any = {"x": (-5, 5), "y": (-5, 5)}  # noqa: RUF012

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        noise = torch.randn(len(parameters["x"]), dtype=torch.float64, generator=generator)
        return {"sum": parameters["x"] + parameters["y"] + noise}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        total = parameters["x"] + parameters["y"]
        return torch.distributions.Normal(total, 1.0).log_prob(data["sum"])  # type: ignore[no-untyped-call]


def name(problem: Any) -> str:
    """The problem's name, as ``module:Name``."""
    return f"{__name__}:{type(problem).__name__}"


def training(problem: Any, checkpoint: Path, **plan: Any) -> Training:
    return Training(Plan(name(problem), **plan), ProblemFunction.of(problem), checkpoint)


@functools.cache
def trained(kind: type, steps: int = 150) -> Training:
    """A run of a few seconds, once in a process."""
    with tempfile.TemporaryDirectory() as folder:
        plan = {"batch": 48, "width": 32, "layers": 2, "tokens": (4,), "warm_up": 20}
        run = training(kind(), Path(folder) / "run.pt", steps=steps, **plan)
        run.run(lambda _: None, save_every=10_000)
    run.form.eval()
    return run
