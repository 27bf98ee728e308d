"""Task 5 by the library's own network, with the likelihood of the returns as a problem, and no training for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Numbers
from beliefstream.inference.motion import FixedStep
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import of_problem
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.update.settings import FAST, UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.paper.exact.grids import Array
from research.paper.exact.particles import LOG_TAU
from research.paper.volatility.task import FACTORS, RETURNS, Constants, Series

SETTINGS = {
    "network, not refined, K = 8": FAST,
    "checked and refined, K = 1": UpdateSettings(components=1, growth=1, search=False, repeat_points=(2048,)),
}
"""A search for modes takes seconds a posterior in ten coordinates, and more components gain nothing there."""
STATES, SEEN = [f"x{i}" for i in range(FACTORS)], [f"z{i}" for i in range(RETURNS)]


class FactorVolatility:
    """Thirty returns z ~ N(0, F diag(eˣ) Fᵀ + I) of ten log volatilities, with `loadings` F ``(30, 10)``."""

    parameters: Any = dict.fromkeys(STATES, "real")
    data: Any = dict.fromkeys(SEEN, "real")
    context: Any = ()

    def __init__(self, loadings: Array) -> None:
        self.loadings = torch.as_tensor(loadings)

    def simulate(self, parameters: Numbers, context: Numbers, generator: torch.Generator) -> Numbers:
        states = torch.stack([parameters[name] for name in STATES], -1)
        noise = torch.randn(len(states), FACTORS + RETURNS, dtype=torch.float64, generator=generator)
        factors = (states / 2).exp() * noise[:, :FACTORS]
        returns = factors @ self.loadings.T + noise[:, FACTORS:]
        return dict(zip(SEEN, returns.unbind(-1), strict=True))

    def log_likelihood(self, data: Numbers, parameters: Numbers, context: Numbers) -> Tensor:
        """As `volatility.Likelihood`, in PyTorch."""
        scale = torch.stack([parameters[name] for name in STATES], -1).clamp(-60, 60).div(2).exp()
        returns = torch.stack([data[name] for name in SEEN], -1)
        gram = self.loadings.T @ self.loadings
        inner = scale[:, :, None] * gram * scale[:, None] + torch.eye(FACTORS, dtype=scale.dtype)
        factor = torch.linalg.cholesky(inner)
        pulled = (scale * (returns @ self.loadings))[..., None]
        half = torch.linalg.solve_triangular(factor, pulled, upper=False)[..., 0]
        determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        quadratic = returns.square().sum(-1) - half.square().sum(-1)
        found: Tensor = -0.5 * (determinant + quadratic + RETURNS * LOG_TAU)
        return found


def network_filter(constants: Constants, series: Series, settings: UpdateSettings) -> Array:
    """Return log densities of the true states ``(S, T)`` by the library's network, through its public functions."""
    prior = Belief(0.0, np.ones(1), np.zeros((1, FACTORS)), constants.spread**2 * np.eye(FACTORS)[None])
    identity = np.eye(FACTORS)
    motion = FixedStep(
        tuple(map(tuple, constants.persistence * identity)), tuple(map(tuple, constants.step**2 * identity))
    )
    model = StateModel(motion, prior, components=settings.components)
    updater = Updater(weights.load(), settings=settings)
    axes = {name: i for i, name in enumerate(STATES)}
    sensors = [of_problem(FactorVolatility(each), axes, FACTORS) for each in series.loadings]
    beliefs: list[Belief | None] = [None] * len(sensors)
    found = []
    for step in range(series.states.shape[1]):
        instants = [
            Instant(float(step), (Reading(sensor, returns),))
            for sensor, returns in zip(sensors, series.returns[:, step], strict=True)
        ]
        steps = [Step(belief, model, instant) for belief, instant in zip(beliefs, instants, strict=True)]
        outcomes = advance(steps, updater)
        beliefs = [outcome.belief for outcome in outcomes]
        truth = torch.from_numpy(series.states[:, step])
        found.append(
            [
                float(outcome.belief.mixture().log_density(state[None, None])[0, 0])
                for outcome, state in zip(outcomes, truth, strict=True)
            ]
        )
    return np.array(found).T
