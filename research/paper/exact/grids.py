"""Exact posteriors by quadrature, in NumPy. They share no code with the networks, the tasks or their refinement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LogDensity = Callable[[Array], Array]


@dataclass(frozen=True)
class GridPosterior:
    """Posterior of each problem at evenly spaced points ``(B, G)``, with the log density there."""

    points: Array
    log_density: Array

    @classmethod
    def normalised(cls, points: Array, log_joint: Array) -> GridPosterior:
        """Return the posteriors of an unnormalised log density."""
        spacing = points[:, 1] - points[:, 0]
        highest = log_joint.max(1, keepdims=True)
        mass = np.exp(log_joint - highest).sum(1) * spacing
        return cls(points, log_joint - highest - np.log(mass)[:, None])

    def divergence(self, log_density: LogDensity) -> Array:
        """Return KL(exact ‖ answer) ``(B,)`` in nats of the answer with this log density at the points."""
        weight = np.exp(self.log_density) * (self.points[:, 1:2] - self.points[:, :1])
        return np.asarray((weight * (self.log_density - log_density(self.points))).sum(1))

    def draw(self, numbers: np.random.Generator) -> Array:
        """Draw one value of each posterior ``(B,)``."""
        cumulative = np.exp(self.log_density).cumsum(1)
        level = numbers.uniform(size=(len(cumulative), 1)) * cumulative[:, -1:]
        index = (cumulative < level).sum(1).clip(0, self.points.shape[1] - 1)
        spacing = self.points[:, 1] - self.points[:, 0]
        jitter = (numbers.uniform(size=len(spacing)) - 0.5) * spacing
        return np.asarray(self.points[np.arange(len(index)), index] + jitter)


def variance_posterior(alpha: Array, beta: Array, z: Array) -> GridPosterior:
    """Return the posterior of log σ²: σ² ~ IG(α + 1/2, β + z²/2), each of α, β, z ``(B,)``."""
    shape, rate = (alpha + 0.5)[:, None], (beta + 0.5 * z * z)[:, None]
    # left of the mode log(rate/shape) the density falls doubly exponentially, right of it like exp(-shape u)
    mode = np.log(rate / shape)
    width = 1 / np.sqrt(shape)
    reach = np.concatenate([-12 * width.clip(0, 1), 9 * width + 32 / shape], 1)
    points = mode + reach[:, :1] + (reach[:, 1:] - reach[:, :1]) * np.linspace(0, 1, 4001)
    constant = shape * np.log(rate) - np.vectorize(math.lgamma)(shape)
    return GridPosterior(points, constant - shape * points - rate * np.exp(-points))


_PLANE = np.linspace(-0.7, 0.7, 561)  # seven standard deviations of the noise of an initial state


def quantum_probabilities(delta: Array) -> Array:
    """Return the probability of each of the ten outcomes with the nuisance integrated out, as ``(..., 10)``.

    The time has the characteristic function of a Gaussian: E cos 2ωt = cos(2ωτ) exp(−2ω²0.05²) for the nominal τ. The
    initial state enters by E c², E s² and E cs, from a quadrature over the plane.
    """
    nominal = [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 2 + [(1.0, 1.0)] * 3
    times = [1, 2, 3, 4, 5, 1, 2, 1, 2, 3]
    gauss = np.exp(-0.5 * (_PLANE / 0.1) ** 2)
    weight = np.outer(gauss, gauss) / gauss.sum() ** 2
    moments = {}
    for state in set(nominal):
        c, s = np.meshgrid(state[0] + _PLANE, state[1] + _PLANE, indexing="ij")
        share = weight / np.maximum(c * c + s * s, 1e-300)
        moments[state] = [float((share * part).sum()) for part in (c * c, s * s, c * s)]
    d = np.asarray(delta)[..., None]
    w2 = d * d + (1 - d) ** 2
    cosine = np.cos(2 * np.sqrt(w2) * times) * np.exp(-2 * w2 * 0.05**2)
    cc, ss, cs = np.array([moments[state] for state in nominal]).T
    turned = ((1 - d) ** 2 * cc + d * d * ss + 2 * d * (1 - d) * cs) / w2
    return np.asarray(0.5 * (1 + cosine) * cc + 0.5 * (1 - cosine) * turned)


def quantum_posterior(a: Array, b: Array, outcomes: Array) -> GridPosterior:
    """Return the posterior of logit Δ for Beta priors a, b ``(B,)`` and outcomes ``(B, 10)``."""
    # the tails of the prior fall like exp(a u) to the left, and exp(-b u) to the right
    low, high = -12 - 34 / a, 12 + 34 / b
    points = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 6001)
    delta = 1 / (1 + np.exp(-points))
    prior = -a[:, None] * np.logaddexp(0, -points) - b[:, None] * np.logaddexp(0, points)
    ones = quantum_probabilities(delta)
    likelihood = np.where(outcomes[:, None] > 0.5, ones, 1 - ones)
    return GridPosterior.normalised(points, prior + np.log(likelihood).sum(-1))


def process_exact(prior: Array, data: Array, log_scale: float) -> tuple[float, float]:
    """Return exact log densities of the true next output and of the true lengthscale of one Gaussian process.

    Quadrature over the lengthscale l, whose inverse gamma has the shape and rate `prior` ``(2,)``, with evenly spaced
    logarithms. The `data` ``(6, 6)`` are coordinates and outputs of the points; the last is the next one.
    """
    shape, rate = prior
    typical = rate / shape
    logs = np.linspace(-0.9, 0.9, 151)
    scales = typical * np.exp(logs)
    true = math.exp(log_scale)
    joint = np.array([_process_joint(each, shape, rate, data) for each in (*scales, true)])
    spacing = scales * (logs[1] - logs[0])
    highest = joint[:-1, 0].max()
    weight = np.exp(joint[:-1, 0] - highest) * spacing
    evidence = highest + math.log(weight.sum())
    output = math.log((weight / weight.sum() * np.exp(joint[:-1, 1])).sum())
    return output, float(joint[-1, 0] - evidence)


def _process_joint(scale: float, shape: float, rate: float, data: Array) -> tuple[float, float]:
    """Return log p(l, seen outputs), and the log density of the next output given l and the seen ones."""
    inputs, outputs = data[:, :-1], data[:, -1]
    apart = ((inputs[:, None] - inputs[None]) ** 2).sum(-1)
    matrix = np.exp(-apart / (2 * scale * scale)) + 1e-6 * np.eye(len(data))

    def log_density(size: int) -> float:
        part, values = matrix[:size, :size], outputs[:size]
        quadratic = values @ np.linalg.solve(part, values)
        return float(-0.5 * (quadratic + np.linalg.slogdet(part)[1] + size * math.log(2 * math.pi)))

    prior = shape * math.log(rate) - math.lgamma(shape) - (shape + 1) * math.log(scale) - rate / scale
    seen = log_density(len(data) - 1)
    return prior + seen, log_density(len(data)) - seen
