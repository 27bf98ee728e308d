"""Task 4: the lengthscale of a Gaussian process, and a prediction (arXiv 2502.02463, section 4.2.1).

The lengthscale has the prior IG(a, b) with a ~ U[100, 105] and b ~ U[100, 700]; the kernel is exp(−|x − x'|² / 2l²).
Five outputs are seen at inputs x ~ U(0, 5)⁵, and a sixth is to be predicted. The parameter is u = log l.

The publication leaves two readings of the inputs: five numbers, or points of five coordinates. The second gives its
figures, so it is ours; the configuration in its code is of another problem (docs/paper.md). It states no noise, and its
code has a variance of 0.001; here 1e-6 keeps the kernel's matrix regular.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.published.parametric import Family, InverseGamma
from research.paper.scalar import LOG_ROOT_TAU, Problems, ScalarMixture

SEEN = 5  # outputs
COORDINATES = 5  # of an input
WIDEST = 5.0  # inputs are uniform on [0, 5]
JITTER = 1e-6
SHAPES, RATES = (100.0, 105.0), (100.0, 700.0)
BROAD_SHAPES, BROAD_RATES = (60.0, 160.0), (60.0, 900.0)  # in training
NODES = 3  # of the quadrature over a component


class Predictive(NamedTuple):
    """Prior moments of the outputs for lengthscales ``(B, P)``, given the seen ones."""

    mean: Tensor  # (B, P)
    variance: Tensor  # (B, P)


class GaussianProcess:
    """Problems of the published meta-prior, or of a broad one for training.

    The numbers of a prior are a and b, ``(B, 2)``. Data are ``(B, 6, 6)``: for each point its five coordinates and its
    output. The last point is the one to predict, so its output is in no likelihood.
    """

    name = "gaussian-process"
    family: Family = InverseGamma()
    prior_numbers = 1
    data_numbers = COORDINATES + 1
    likelihood: Literal["exact", "learned"] = "exact"

    def __init__(self, broad: bool = False) -> None:
        self.shapes, self.rates = (BROAD_SHAPES, BROAD_RATES) if broad else (SHAPES, RATES)

    def sample(self, count: int, generator: torch.Generator) -> Problems:
        uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        low = torch.tensor([self.shapes[0], self.rates[0]], dtype=torch.float64)
        high = torch.tensor([self.shapes[1], self.rates[1]], dtype=torch.float64)
        prior = low + (high - low) * uniform
        u = self.family.draw(prior, generator)
        inputs = WIDEST * torch.rand(count, SEEN + 1, COORDINATES, generator=generator, dtype=torch.float64)
        noise = torch.randn(count, SEEN + 1, 1, generator=generator, dtype=torch.float64)
        outputs = torch.linalg.cholesky(kernel(inputs, u[:, None])[:, 0]) @ noise
        return Problems(prior, torch.cat([inputs, outputs], 2), u)

    def log_likelihood(self, data: Tensor, points: Tensor) -> Tensor:
        seen = data[:, :SEEN]
        factor: Tensor = torch.linalg.cholesky(kernel(seen[..., :COORDINATES], points))
        outputs = seen[:, None, :, COORDINATES:].expand(*points.shape, -1, -1)
        scaled: Tensor = torch.linalg.solve_triangular(factor, outputs, upper=False)[..., 0]
        determinant: Tensor = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * scaled.square().sum(-1) - determinant - SEEN * LOG_ROOT_TAU

    def prior_features(self, prior: Tensor) -> Tensor:
        return prior[:, :1].log() - math.log(100)

    def data_features(self, data: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        seen = data[:, :SEEN]
        return torch.cat([(seen[..., :COORDINATES] - WIDEST / 2) / 1.5, seen[..., COORDINATES:]], -1)


def kernel(inputs: Tensor, points: Tensor) -> Tensor:
    """Return the matrices ``(B, P, N, N)`` of inputs ``(B, N, 5)`` for log lengthscales ``(B, P)``."""
    square = (inputs[:, :, None] - inputs[:, None]).square().sum(-1)
    matrix = torch.exp(-0.5 * square[:, None] * (-2 * points).exp()[..., None, None])
    return matrix + JITTER * torch.eye(inputs.shape[1], dtype=inputs.dtype)


def predicted(data: Tensor, points: Tensor) -> Predictive:
    """Return moments of the last output for log lengthscales ``(B, P)``, given the others."""
    matrix = kernel(data[..., :COORDINATES], points)
    factor = torch.linalg.cholesky(matrix[..., :SEEN, :SEEN])
    outputs = data[:, None, :SEEN, COORDINATES:].expand(*points.shape, -1, -1)
    right = torch.cat([outputs, matrix[..., :SEEN, SEEN:]], -1)
    scaled = torch.linalg.solve_triangular(factor, right, upper=False)
    mean = (scaled[..., 0] * scaled[..., 1]).sum(-1)
    return Predictive(mean, matrix[..., SEEN, SEEN] - scaled[..., 1].square().sum(-1))


def predictive(data: Tensor, posterior: ScalarMixture) -> ScalarMixture:
    """Return the mixture over the last output: a component of the posterior becomes one Gaussian, by its moments."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(NODES))
    weights = weights / weights.sum()
    points = posterior.means[..., None] + posterior.log_scales.exp()[..., None] * nodes  # (B, K, nodes)
    found = predicted(data, points.flatten(1))
    mean, variance = (part.view(points.shape) for part in found)
    centre = (weights * mean).sum(-1)
    total = (weights * (variance + (mean - centre[..., None]).square())).sum(-1)
    return ScalarMixture(posterior.log_weights, centre, 0.5 * total.log())
