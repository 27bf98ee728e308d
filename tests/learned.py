"""Problems that are only a simulator, trained for seconds, and their exact likelihoods, which share no code."""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from filelock import FileLock
from numpy.typing import NDArray

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.training.likelihood.train import Plan, Training
from beliefstream.schemas import Posterior
from beliefstream.streams.cli.training.train_problem import write_likelihood
from beliefstream.streams.definitions import own_code
from tests.conftest import shared_by_processes

Array = NDArray[np.float64]
LogLikelihood = Callable[[Array], Array]

MODULE = '''
import torch


class Counter:
    """Counts of a source on a line."""

    parameters = {"x": "real", "strength": "positive"}
    data = {"count": "count"}
    context = ("place", "seconds")
    ranges = {"x": (-9, 9), "strength": (2, 60), "place": (-4, 4), "seconds": 2}

    def simulate(self, parameters, context, generator):
        squared = (parameters["x"] - context["place"]) ** 2
        mean = context["seconds"] * (1 + parameters["strength"] / (1 + squared / 4))
        return {"count": torch.poisson(mean, generator=generator)}


class Clipped:
    """A level with heavy-tailed noise, cut off at 2."""

    parameters = {"x": "real"}
    data = {"level": "real"}
    context = ()
    ranges = {"x": (-9, 9)}

    def simulate(self, parameters, context, generator):
        noise = torch.randn(4, len(parameters["x"]), dtype=torch.float64, generator=generator)
        heavy = noise[0] / noise[1:].square().mean(0).sqrt()
        return {"level": torch.clamp(parameters["x"] + 0.5 * heavy, max=2.0)}


class Shared:
    """A set of levels, all of which have the same error beside their own."""

    parameters = {"x": "real", "strength": "positive"}
    data = {"level": "real"}
    context = ("scale",)
    rows = ("set", 6)
    ranges = {"x": (-9, 9), "strength": (2, 60), "scale": (0.5, 2)}

    def simulate(self, parameters, context, generator):
        noise = torch.randn(7, len(parameters["x"]), dtype=torch.float64, generator=generator)
        own = parameters["strength"] / 20 * noise[1:]
        return {"level": (parameters["x"] + context["scale"] * noise[0] + own).T}


class Lagging:
    """A sequence of levels, each of which keeps most of the last one's error."""

    parameters = {"x": "real", "strength": "positive"}
    data = {"level": "real"}
    context = ()
    rows = ("sequence", 6)
    ranges = {"x": (-9, 9), "strength": (2, 60)}

    def simulate(self, parameters, context, generator):
        noise = torch.randn(6, len(parameters["x"]), dtype=torch.float64, generator=generator)
        levels = [parameters["x"] + noise[0]]
        for each in noise[1:]:
            kept = 0.8 * (levels[-1] - parameters["x"])
            levels.append(parameters["x"] + kept + parameters["strength"] / 20 * each)
        return {"level": torch.stack(levels, -1)}
'''
SIZES = {"Counter": (800, 1024), "Clipped": (600, 1024), "Shared": (900, 256), "Lagging": (900, 256)}
SENSORS: dict[str, dict[str, Any]] = {
    "Counter": {
        "sensor": "counter",
        "kind": "learned",
        "problem": "simulators:Counter",
        "parameters": {"x": "x", "strength": "log_strength"},
        "value": ["count", "place"],
        "context": {"seconds": 2},
    },
    "Clipped": {
        "sensor": "level",
        "kind": "learned",
        "problem": "simulators:Clipped",
        "parameters": {"x": "x"},
        "value": ["level"],
    },
    "Shared": {
        "sensor": "shared",
        "kind": "learned",
        "problem": "simulators:Shared",
        "parameters": {"x": "x", "strength": "log_strength"},
        "value": ["scale", "level"],
    },
    "Lagging": {
        "sensor": "lagging",
        "kind": "learned",
        "problem": "simulators:Lagging",
        "parameters": {"x": "x", "strength": "log_strength"},
        "value": ["level"],
    },
}
PRIOR_MEAN, PRIOR_DEVIATION = np.array([0.5, 2.5]), np.array([2.0, 0.5])
MODEL = {
    "entity": "*",
    "name": "source",
    "coordinates": [{"name": "x", "unit": "m"}, {"name": "log_strength", "unit": "1"}],
    "motion": {"kind": "random_walk", "spectral_density": 0.0},
    "prior": {
        "weights": [1.0],
        "means": [PRIOR_MEAN.tolist()],
        "covariances": [np.diag(PRIOR_DEVIATION**2).tolist()],
    },
}


def counted(count: int, place: float) -> LogLikelihood:
    """Exact log likelihood of a count, of states ``(P, 2)``."""

    def log_likelihood(states: Array) -> Array:
        mean = 2 * (1 + np.exp(states[:, 1]) / (1 + (states[:, 0] - place) ** 2 / 4))
        return np.asarray(scipy.stats.poisson(mean).logpmf(count))

    return log_likelihood


def level(value: float) -> LogLikelihood:
    """Exact log likelihood of a level: Student's t with three degrees of freedom, cut off at 2."""

    def log_likelihood(states: Array) -> Array:
        law = scipy.stats.t(3, loc=states[:, 0], scale=0.5)
        return np.asarray(law.logsf(2.0) if value >= 2 else law.logpdf(value))

    return log_likelihood


def shared(scale: float, levels: list[float]) -> LogLikelihood:
    """Exact log likelihood of a set of levels: jointly normal, and so in closed form by their mean and variance."""
    seen, size = np.array(levels), len(levels)

    def log_likelihood(states: Array) -> Array:
        own = np.exp(2 * states[:, 1]) / 400
        within = size * seen.var() / own
        common = scale**2 + own / size
        mean = scipy.stats.norm(states[:, 0], np.sqrt(common)).logpdf(seen.mean())
        rest = (size - 1) * np.log(2 * np.pi * own) + math.log(size)
        return np.asarray(mean - 0.5 * (within + rest))

    return log_likelihood


def lagging(levels: list[float]) -> LogLikelihood:
    """Exact log likelihood of a sequence of levels, one after another."""

    def log_likelihood(states: Array) -> Array:
        x, deviation = states[:, 0], np.exp(states[:, 1]) / 20
        found = scipy.stats.norm(x, 1).logpdf(levels[0])
        for before, level in itertools.pairwise(levels):
            found = found + scipy.stats.norm(x + 0.8 * (before - x), deviation).logpdf(level)
        return np.asarray(found)

    return log_likelihood


def grid() -> tuple[Array, float]:
    """Centres of the cells of a grid ``(P, 2)`` eight prior deviations wide, and the area of a cell."""
    axes = [m + s * np.linspace(-6, 6, 400) for m, s in zip(PRIOR_MEAN, PRIOR_DEVIATION, strict=True)]
    area = float(np.prod([axis[1] - axis[0] for axis in axes]))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2), area


def exact(terms: list[LogLikelihood]) -> tuple[Array, Array, Array]:
    """States of the grid, their share of the exact posterior, and its log density: prior times likelihoods."""
    states, area = grid()
    target = scipy.stats.norm(PRIOR_MEAN, PRIOR_DEVIATION).logpdf(states).sum(1)
    target = target + sum(term(states) for term in terms)
    target = target - scipy.special.logsumexp(target) - math.log(area)
    return states, np.exp(target) * area, target


def divergence(posterior: Posterior, terms: list[LogLikelihood]) -> float:
    """KL(exact ‖ posterior) in nats."""
    states, shares, target = exact(terms)
    mixture = posterior.mixture
    parts = [
        math.log(weight) + scipy.stats.multivariate_normal(mean, covariance).logpdf(states)
        for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    return float((shares * (target - scipy.special.logsumexp(parts, 0))).sum())


def divergence_of_learned(pairs: list[tuple[LogLikelihood, LogLikelihood]]) -> float:
    """KL(exact ‖ prior × learned likelihoods) in nats; each pair is an exact likelihood and the learned one."""
    states, shares, _ = exact([true for true, _ in pairs])
    gap = sum(true(states) - learned(states) for true, learned in pairs)
    with np.errstate(divide="ignore"):
        return float((shares * gap).sum() + scipy.special.logsumexp(np.log(shares) - gap))


@contextmanager
def module_in(folder: Path) -> Iterator[None]:
    """Write and load the module `simulators`, of which nothing is left behind."""
    (folder / "simulators.py").write_text(MODULE)
    path, loaded = list(sys.path), set(own_code._modules)
    sys.path.insert(0, str(folder))
    sys.modules.pop("simulators", None)
    own_code.find.cache_clear()
    own_code.load("simulators")
    try:
        yield
    finally:
        sys.path[:] = path
        own_code._modules.clear()
        own_code._modules.update(loaded)
        sys.modules.pop("simulators", None)
        own_code.find.cache_clear()


WeightsOf = Callable[[str], bytes]


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> WeightsOf:
    """The file of a problem's weights, trained once a run by the process that asks first: it takes seconds."""
    place = shared_by_processes(tmp_path_factory)

    def found(name: str) -> bytes:
        file = place / f"{name}.safetensors"
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                train(name, place)
        return file.read_bytes()

    return found


def train(name: str, place: Path) -> None:
    """Write the weights of a problem, by its name and `.safetensors`."""
    with tempfile.TemporaryDirectory(dir=place) as folder, module_in(Path(folder)):
        problem = f"simulators:{name}"
        steps, batch = SIZES[name]
        plan = Plan(problem, steps=steps, batch=batch, width=32, learning_rate=0.02)
        run = Training(plan, ProblemFunction.of(own_code.find(problem)), Path(folder) / "run.pt")
        run.run(lambda _: None, save_every=10_000)
        write_likelihood(run, Path(folder))
        (Path(folder) / f"{name}.safetensors").rename(place / f"{name}.safetensors")
