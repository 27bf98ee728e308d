"""Held-out calibration of a learned likelihood, by the simulator alone.

Let u be the place of a datum in its learned law: the probability of what comes before it, and a random part of its
own. Under the learned law q, u is uniform (M. Rosenblatt, "Remarks on a Multivariate Transformation", 1952). Under
the simulator p it is not, and since u keeps the datum, KL(p ‖ q) is the divergence of u from the uniform. `divergence`
measures it at fixed parameters and context by a histogram; for several data it adds the mutual information of
neighbours, a lower bound. On average over the range of the training, this bounds the expected divergence of the
posterior, since KL of the joint law of parameters and data is that of the data plus that of the posterior.

`rank_error` is simulation-based calibration (S. Talts et al., "Validating Bayesian Inference Algorithms with
Simulation-Based Calibration", arXiv 1804.06788). The posterior is that on the true parameters and `DRAWS` others from
the range: there the weights are exact, so the ranks of the truth are uniform for the right likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.network import LearnedLikelihood
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.training.likelihood.train import simulated

HELD_OUT = 20_000  # observations whose log score is taken
PLACES, REPEATS = 256, 2048  # places whose divergence is measured, and simulations at each
RANKED, DRAWS = 512, 255  # true parameters whose rank is taken, and others beside each
CHUNK = 65_536  # evaluations at once
SEED = 7_919  # beside that of the training
_INNER = 50  # bins between the tails
_TAIL = [0.001, 0.005]
_EDGES = torch.tensor(
    [0.0, *_TAIL, *(0.01 + 0.98 * i / _INNER for i in range(_INNER + 1)), *(1 - t for t in _TAIL[::-1]), 1.0],
    dtype=torch.float64,
)
_LEVELS = torch.arange(1, 20, dtype=torch.float64) / 20
_COARSE = 8  # bins a side of the histogram of two data


@dataclass(frozen=True)
class Calibration:
    """Held-out figures, in nats and shares.

    Attributes:
        log_score: mean of −log q over the simulator's draws, and its standard error.
        divergence: KL(simulator ‖ learned) of one observation, mean over places of the range, and standard error.
        worst_divergence: the mean of the worst hundredth of the places.
        calibration_error: mean difference between the level of a quantile and the share of data below it.
        rank_error: the same of the ranks of true parameters, the worst parameter.
        places: number of places.
    """

    log_score: tuple[float, float]
    divergence: tuple[float, float]
    worst_divergence: float
    calibration_error: float
    rank_error: float
    places: int


def calibrate(likelihood: LearnedLikelihood, function: ProblemFunction, seed: int = 0) -> Calibration:
    """Measure a likelihood on new simulations, on the CPU in double precision.

    Raises ProblemError if the simulator fails.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + SEED)
    with torch.no_grad():
        coordinates, numbers = simulated(function, likelihood.trained_on, HELD_OUT, generator)
        score = -likelihood(coordinates, numbers)
        places = _places(likelihood, coordinates, numbers, generator)
        each = divergences(
            likelihood, function, generator, PLACES // (1 if likelihood.earlier is None else 4)
        )
        ranks = _ranks(likelihood, function, generator)
    worst = each.sort(descending=True).values[: max(len(each) // 100, 1)]
    return Calibration(
        _mean(score),
        (max(float(each.mean()), 0.0), _mean(each)[1]),
        float(worst.mean()),
        max(_unevenness(column) for column in places.unbind(-1)),
        max(_unevenness(column) for column in ranks.unbind(-1)),
        len(each),
    )


def divergences(
    likelihood: LearnedLikelihood, function: ProblemFunction, generator: torch.Generator, places: int = PLACES
) -> Tensor:
    """KL(simulator ‖ learned) ``(places,)`` of the longest reports at random parameters and context."""
    known = likelihood.trained_on.draw(places, generator)
    count, each = len(function.parameters), []
    for rows in torch.split(known, max(CHUNK // REPEATS, 1)):
        repeated = rows.repeat_interleave(REPEATS, 0)
        coordinates, context = repeated[:, :count], repeated[:, count:]
        data = function.simulate(coordinates, context, generator)
        levels = _places(likelihood, coordinates, torch.cat([data, context], -1), generator, REPEATS)
        each.append(_divergence(levels.view(len(rows), REPEATS, -1)))
    return torch.cat(each)


def _places(
    likelihood: LearnedLikelihood,
    coordinates: Tensor,
    numbers: Tensor,
    generator: torch.Generator,
    repeats: int = 1,
) -> Tensor:
    """The place u of each datum in its learned law, ``(M, L m)``; parameters and context come `repeats` times."""
    levels, seen = [], likelihood.seen(coordinates, numbers)
    for i, law in enumerate(likelihood.laws):
        if i == 0 and seen.earlier is None:  # the first law depends on no datum
            outputs = likelihood.outputs(0, likelihood.seen(coordinates[::repeats], numbers[::repeats]))
            outputs = outputs.repeat_interleave(repeats, 0)
        else:
            outputs = likelihood.outputs(i, seen)
        below, own = law.interval(outputs, seen.data[..., i].flatten())
        part = torch.rand(len(below), dtype=torch.float64, generator=generator)
        levels.append((below + part * own).clamp(0, 1))
    return torch.stack(levels, -1).view(len(numbers), -1)


def _divergence(places: Tensor) -> Tensor:
    """Divergence of places ``(P, R, m)`` from the uniform, without the bias of the histograms; ``(P,)``."""
    width = _EDGES.diff()
    bins = torch.bucketize(places.contiguous(), _EDGES[1:-1])
    total = places.new_zeros(len(places))
    for i in range(places.shape[-1]):
        total = total + _histogram_divergence(bins[..., i], width)
    coarse = (places * _COARSE).long().clamp(max=_COARSE - 1)
    for i in range(1, places.shape[-1]):
        total = total + _mutual_information(coarse[..., i - 1], coarse[..., i])
    return total


def _histogram_divergence(bins: Tensor, width: Tensor) -> Tensor:
    """``Σ p̂ log(p̂ / w)`` of each row of `bins` ``(P, R)``, less its bias ``(k − 1) / (2 R)`` (G. A. Miller, 1955)."""
    shares = _shares(bins, len(width))
    divergence: Tensor = torch.special.xlogy(shares, shares / width).sum(1)
    return divergence - (len(width) - 1) / (2 * bins.shape[1])


def _mutual_information(first: Tensor, second: Tensor) -> Tensor:
    """Mutual information of two rows of bins ``(P, R)``, less its bias."""
    joint = _shares(first * _COARSE + second, _COARSE**2).view(-1, _COARSE, _COARSE)
    product = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True)
    information: Tensor = torch.special.xlogy(joint, joint / product.clamp_min(1e-300)).sum((1, 2))
    return information - (_COARSE - 1) ** 2 / (2 * first.shape[1])


def _shares(bins: Tensor, count: int) -> Tensor:
    shares = torch.zeros(len(bins), count, dtype=torch.float64)
    return shares.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float64)) / bins.shape[1]


def _ranks(likelihood: LearnedLikelihood, function: ProblemFunction, generator: torch.Generator) -> Tensor:
    """The place of true parameters among draws with posterior weights, ``(RANKED, n)``."""
    count, ranks = len(function.parameters), []
    for size in _chunks(RANKED, CHUNK // (DRAWS + 1)):
        coordinates, numbers = simulated(function, likelihood.trained_on, size, generator)
        others = likelihood.trained_on.draw(size * DRAWS, generator)[:, :count].view(size, DRAWS, count)
        points = torch.cat([coordinates[:, None], others], 1)
        repeated = numbers.repeat_interleave(DRAWS + 1, 0)
        logs = likelihood(points.reshape(-1, count), repeated).view(size, DRAWS + 1)
        weights = torch.softmax(logs, 1)[..., None]
        before = (weights * (points < coordinates[:, None])).sum(1)
        part = torch.rand(size, count, dtype=torch.float64, generator=generator)
        ranks.append(before + part * weights[:, 0])
    return torch.cat(ranks)


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _unevenness(places: Tensor) -> float:
    """Mean difference between levels and the shares of `places` ``(M,)`` below them."""
    shares = (places[:, None] <= _LEVELS).double().mean(0)
    return float((shares - _LEVELS).abs().mean())


def _mean(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))
