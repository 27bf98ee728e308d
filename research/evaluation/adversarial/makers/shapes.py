"""Families with nonlinear, periodic, discontinuous or partly undefined functions, and with non-Gaussian noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.noise import Exponential, Noise, Uniform
from beliefstream.inference.sensors import bearing, function, linear, position, range_to
from research.evaluation.adversarial.makers.planar import PLANE, Made, place, reported
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import (
    Generator,
    direction,
    gaussian,
    logarithmic,
    mixture,
)


def sine(u: Tensor, frequency: Tensor) -> Tensor:
    return torch.sin(frequency * u[0])


def double_sine(u: Tensor, frequency: Tensor) -> Tensor:
    return torch.sin(frequency * u[0]) * torch.sin(frequency * u[1])


def square(u: Tensor) -> Tensor:
    return u[0].square()


def staircase(u: Tensor, width: Tensor, height: Tensor) -> Tensor:
    return height * torch.floor(u[0] / width)


def root(u: Tensor) -> Tensor:
    return torch.sqrt(u[0])


def logarithm(u: Tensor) -> Tensor:
    return torch.log(u[0])


def mixed_length(u: Tensor, units: Tensor) -> Tensor:
    return (units * u).square().sum().sqrt()


def slant(u: Tensor, height: Tensor) -> Tensor:
    return (u[0].square() + height.square()).sqrt()


def sines(generator: Generator) -> Made:
    """One or two sines of a coordinate, in one or two coordinates."""
    size = int(generator.integers(1, 3))
    prior = mixture(generator, size, int(generator.integers(1, 4)), 1.0)
    sensors = []
    for axis in range(size):
        for _ in range(int(generator.integers(1, 3))):
            frequency = generator.uniform(0.5, 5.0)
            sensors.append(
                function(sine, [axis], size, logarithmic(generator, 0.05, 0.5), {"frequency": frequency})
            )
    return reported(generator, prior, sensors)


def double_sines(generator: Generator) -> Made:
    """The product of two sines, which fits a lattice of positions."""
    prior = mixture(generator, 2, int(generator.integers(1, 3)), 1.0)
    frequency = generator.uniform(1.0, 5.0)
    noise = logarithmic(generator, 0.05, 0.3)
    return reported(generator, prior, [function(double_sine, PLANE, 2, noise, {"frequency": frequency})])


def four_fold(generator: Generator) -> Made:
    """Squares of both coordinates, so that four positions fit equally except for the prior."""
    prior = gaussian(generator.choice([0.0, 0.2]) * direction(generator), 1.0)
    noise = logarithmic(generator, 0.01, 0.3)
    return reported(generator, prior, [function(square, [axis], 2, noise) for axis in PLANE])


def steps(generator: Generator) -> Made:
    """A staircase function of one coordinate, alone or with a range."""
    prior = mixture(generator, 2, int(generator.integers(1, 4)), 1.0)
    width, height = generator.uniform(0.4, 2.0), generator.uniform(0.3, 1.0)
    noise = logarithmic(generator, 0.1, 0.5)
    sensors = [function(staircase, [0], 2, noise, {"width": width, "height": height})]
    sensors.append(function(staircase, [1], 2, noise, {"width": width, "height": height}))
    if generator.random() < 0.5:
        sensors.append(range_to(PLANE, 2, place(generator), 0.3))
    return reported(generator, prior, sensors)


def not_a_number(generator: Generator) -> Made:
    """Square roots and logarithms that are NaN over a part of the prior."""
    prior = gaussian(np.zeros(2), 1.0)
    made = [root, logarithm]
    sensors = []
    at = generator.standard_normal(2)
    for axis in PLANE[: int(generator.integers(1, 3))]:
        edge = np.array([at[axis] - logarithmic(generator, 0.05, 2.0)])
        chosen, noise = made[int(generator.integers(2))], logarithmic(generator, 0.03, 0.5)
        outlier, span = (0.05, 10.0) if generator.random() < 0.5 else (0.0, None)
        sensors.append(function(chosen, [axis], 2, noise, None, outlier, span, origin=edge))
    return reported(generator, prior, sensors, at)


def mixed_units(generator: Generator) -> Made:
    """One coordinate in kilometres and one in millimetres, with a length in metres, a line or a bearing's tangent."""
    units = np.array([1e3, 1e-3])
    metres = mixture(generator, 2, int(generator.integers(1, 4)), logarithmic(generator, 0.5, 50.0))
    inverse = 1 / units
    prior = Mixture(
        metres.weights, metres.means * inverse, metres.covariances * inverse[:, None] * inverse[None]
    )
    size = math.sqrt(float(np.trace(metres.covariances.mean(0))))
    sensors = []
    for _ in range(int(generator.integers(1, 4))):
        origin = size * place(generator, 0.3, 5.0) * inverse
        noise = size * logarithmic(generator, 0.02, 0.3)
        sensors.append(function(mixed_length, PLANE, 2, noise, {"units": units}, origin=origin))
    if generator.random() < 0.4:
        sensors.append(linear((direction(generator) * units)[None], [[(0.1 * size) ** 2]]))
    return reported(generator, prior, sensors)


def published_noise(generator: Generator) -> Made:
    """Sensors of Whittle et al. (arXiv 2502.02463): a range with growing deviation, tail and clutter, and a bearing."""
    weights = np.maximum(generator.dirichlet(np.full(4, 0.25)), 1e-6)
    means = generator.standard_normal((4, 4)) + generator.standard_normal((4, 1))
    precisions = [
        (lambda a: a @ a.T * 4.0 + 1e-4 * np.eye(4))(generator.standard_normal((4, 4))) for _ in range(4)
    ]
    covariances = np.linalg.inv(np.array(precisions))
    # limited to a width that a few steps can reach; the published meta-prior is not limited
    covariances = (covariances + covariances.transpose(0, 2, 1)) / 2
    prior = Mixture(weights / weights.sum(), means, covariances)
    noise = Noise(slope=0.1, clutter=((0.2, Exponential(1.0)), (0.1, Uniform(0.0, 20.0))))
    sensors = [range_to((0, 2), 4, np.zeros(2), 0.1, noise=noise), bearing((0, 2), 4, np.zeros(2), 0.1)]
    return reported(generator, prior, sensors)


def reflections(generator: Generator) -> Made:
    """Ranges that may be reflected, and are then longer by a fixed distance, as a component of the noise."""
    prior = mixture(generator, 2, int(generator.integers(1, 4)), 1.0)
    sensors = []
    for _ in range(int(generator.integers(1, 4))):
        share, way = generator.uniform(0.1, 0.6), generator.uniform(0.5, 4.0)
        noise = Noise((1 - share, share), (0.0, way), (1.0, generator.uniform(1.0, 3.0)))
        deviation = logarithmic(generator, 0.01, 0.3)
        sensors.append(range_to(PLANE, 2, place(generator, 0.5, 8.0), deviation, noise=noise))
    return reported(generator, prior, sensors)


def growing_deviation(generator: Generator) -> Made:
    """Ranges with a standard deviation that grows with the distance."""
    prior = mixture(generator, 2, int(generator.integers(1, 5)), 1.0)
    sensors = []
    for _ in range(int(generator.integers(1, 4))):
        noise = Noise(slope=logarithmic(generator, 0.02, 0.5))
        outlier = 0.05 if generator.random() < 0.3 else 0.0
        deviation = logarithmic(generator, 1e-3, 0.1)
        sensors.append(range_to(PLANE, 2, place(generator, 0.3, 8.0), deviation, outlier, 60.0, noise=noise))
    return reported(generator, prior, sensors)


def many_components(generator: Generator) -> Made:
    """Priors of 2 to 64 components, with nonlinear sensors."""
    count = round(logarithmic(generator, 2, 64))
    scale = logarithmic(generator, 0.1, 0.6)
    prior = mixture(generator, 2, count, scale, 1.3 / scale)
    sensors = []
    for _ in range(int(generator.integers(1, 4))):
        where, noise = place(generator, 1.0, 10.0), logarithmic(generator, 0.05, 1.0)
        if generator.random() < 0.5:
            sensors.append(range_to(PLANE, 2, where, noise))
        else:
            sensors.append(bearing(PLANE, 2, where, noise / 5))
    return reported(generator, prior, sensors)


def linear_components(generator: Generator) -> Made:
    """A position and a prior of 40 components, which have a closed form except for the reduction."""
    scale = logarithmic(generator, 0.1, 0.6)
    prior = mixture(generator, 2, 40, scale, 1.0 / scale)
    noise = logarithmic(generator, 0.3, 2.0)
    return reported(generator, prior, [position(PLANE, 2, noise**2 * np.eye(2))])
