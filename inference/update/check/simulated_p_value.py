"""P-value of observations whose likelihood is a problem's: by its simulator, as they have no residual.

Data are simulated from points of the prior. The p-value is the share of them with no more predictive density than the
data that came (G. E. P. Box, "Sampling and Bayes' Inference in Scientific Modelling and Robustness", J. Royal
Statistical Society A 143(4), 1980). The density is the mean likelihood over other points of the prior, which are the
same for all data. So the p-value is right however rough that mean is; its least value is one over `SIMULATED` + 1.
The p-values of several observations are combined by R. A. Fisher's method ("Statistical Methods for Research Workers",
1932, section 21.1), as if they were independent.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.check.importance import Seed, systematic

# data that are simulated, so that the least p-value is 1/513; points of the prior that give their density
SIMULATED, EVALUATED = 512, 64
ROUNDING = 1e-9  # nats by which equal data may differ


def simulated_p_value(prior: GaussianMixture, observations: Observations, linearised: Tensor) -> Tensor:
    """P-value of each entity's observations under `prior` ``(B, K, D)``; float64 on the CPU.

    Entities without a problem keep `linearised` ``(B,)``. So do those whose simulator fails at points of the prior:
    there it is a rough figure, from the curvature of the likelihood.
    """
    likelihoods = observations.likelihoods
    assert likelihoods is not None
    own = likelihoods.present & observations.mask
    p_values = linearised.clone()
    for row in torch.nonzero(own.any(1))[:, 0].tolist():
        one, index = prior.rows(torch.tensor([row])), torch.tensor([row])
        try:
            logs = [
                _log_p_value(one, observations.rows_of(index), place)
                for place in torch.nonzero(own[row])[:, 0].tolist()
            ]
        except ProblemError:
            continue
        others = observations.rows_of(index)
        others = replace(others, mask=others.mask & ~own[index])
        if bool(others.mask.any()):
            logs.append(float(Prediction.of(one, others).p_value(one).log()))
        total = torch.tensor(-sum(logs), dtype=torch.float64)
        p_values[row] = torch.special.gammaincc(torch.tensor(float(len(logs)), dtype=torch.float64), total)
    return p_values


def _log_p_value(prior: GaussianMixture, observations: Observations, place: int) -> float:
    """Log p-value of one observation of one entity."""
    likelihoods = observations.likelihoods
    assert likelihoods is not None
    function = likelihoods.functions[int(likelihoods.index[0, place])]
    size, length = len(function.parameters), function.data_length
    numbers = likelihoods.numbers[0, place, : len(function.number_names)]
    factors = prior.factors()

    def coordinates(count: int, seed: int) -> Tensor:
        points = systematic(prior, factors, count, seed)[0]
        return (la.times(observations.matrix[:, place], points) - observations.origin[:, place])[:, :size]

    # systematic points come in the order of the components; chance decides which datum is whose
    source, context = coordinates(SIMULATED, Seed.SIMULATED), numbers[length:]
    generator = torch.Generator().manual_seed(Seed.SIMULATED)
    data = function.simulate(source, context.expand(SIMULATED, -1), generator)
    data = torch.where(numbers[:length].isnan(), torch.nan, data)  # as many rows as the report has
    data = torch.cat([data, numbers[:length][None]])
    density = _log_density(function, data, context, coordinates(EVALUATED, Seed.EVALUATED))
    as_rare = int((density[:-1] <= density[-1] + ROUNDING).sum())
    return math.log((1 + as_rare) / (1 + SIMULATED))


def _log_density(function: ProblemFunction, data: Tensor, context: Tensor, at: Tensor) -> Tensor:
    """Log of the mean likelihood of each datum ``(M, m)`` over the points `at` ``(P, n)``; ``(M,)``."""
    count = len(data)
    numbers = torch.cat([data, context.expand(count, -1)], -1).repeat_interleave(len(at), 0)
    with torch.no_grad():
        value = function.log_likelihood(at.repeat(count, 1), numbers)
    return torch.logsumexp(value.view(count, len(at)), 1)
