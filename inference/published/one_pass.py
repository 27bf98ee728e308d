"""Posteriors of a problem by its published form: one pass, checked and refined where there is a likelihood.

    one_pass = OnePass.load("Thermometer.published.safetensors", Thermometer())
    answer = one_pass.posterior(prior, {"reading": 21.5}, {"offset": 0.3})

The prior is anything with `weights`, `means` and `covariances` over the coordinates of the parameters, such as an
answer before. Of a problem with parametric priors it is the two numbers of each: ``{"variance": (3.0, 2.0)}``.

    samples = one_pass.samples(answer, prior, {"reading": 21.5}, {"offset": 0.3}, count=10_000)

A mixture of a few Gaussians is not every posterior. Its `samples` are: points with those weights, resampled (D. B.
Rubin, "Using the SIR algorithm to simulate posterior distributions", Bayesian Statistics 3, 1988).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.learned import weights as learned_weights
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ONE, Problem, name_of
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.published import weights
from beliefstream.inference.published.check import NOWHERE, checked, weighed
from beliefstream.inference.published.network import PublishedForm
from beliefstream.inference.published.priors import INSIDE, NARROWEST, WIDEST, Priors
from beliefstream.inference.update.check.importance import systematic_places
from beliefstream.inference.update.settings import UpdateSettings

Numbers = Mapping[str, float | Sequence[float]]
DEFAULTS = UpdateSettings()
MOST_COMPONENTS = 64  # of an answer that may be asked for
TRIED, AT_ONCE = 20, 8_192  # points weighed for each sample, as Rubin advises; and how many at once
MOST_SAMPLES = 100_000


class MixtureLike(Protocol):
    """A Gaussian mixture over the coordinates: `weights` ``k``, `means` ``k × n``, `covariances` ``k × n × n``."""

    @property
    def weights(self) -> Any: ...

    @property
    def means(self) -> Any: ...

    @property
    def covariances(self) -> Any: ...


@dataclass(frozen=True)
class Answer:
    """A posterior over the coordinates of the parameters, and what is known of its quality.

    Attributes:
        weights, means, covariances: of its components, ``(K,)``, ``(K, n)`` and ``(K, n, n)``.
        likelihood: what it was checked against; "unchecked" if it was not.
        sample_efficiency: of importance points, as a share of them; None if it was not checked.
        divergence: estimate of KL(exact ‖ answer) in nats at these points; None if it was not checked.
        divergence_error: standard error of that estimate.
        refined: whether importance sampling has moved it.
        outside_training: how far prior, data and context lie outside the training, in widths of its range; 0 inside.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    likelihood: Literal["exact", "learned", "unchecked"]
    sample_efficiency: float | None
    divergence: float | None
    divergence_error: float | None
    refined: bool
    outside_training: float


@dataclass(frozen=True)
class Samples:
    """Points of a posterior over the coordinates, all of the same weight.

    Attributes:
        points: ``(N, n)``; the same point may come several times.
        effective: points that would be as good if they were independent; None if they are of an unchecked answer.
        likelihood: what they were weighed by; "unchecked" if they are those of the mixture.
    """

    points: NDArray[np.float64]
    effective: float | None
    likelihood: Literal["exact", "learned", "unchecked"]


class OnePass:
    """The published form of one problem, and the likelihood that checks it, if there is one.

    Args:
        form: the network.
        function: the problem, with its own or a learned likelihood.
    """

    def __init__(self, form: PublishedForm, function: ProblemFunction) -> None:
        self.form, self.function = form, function

    @classmethod
    def load(
        cls, path: str | Path, problem: Problem, likelihood: str | Path | None = None, name: str | None = None
    ) -> OnePass:
        """Load the weights of a problem.

        Args:
            path: what ``beliefstream train-posterior`` has written.
            problem: the problem itself.
            likelihood: a learned likelihood, which checks in place of the problem's own.
            name: of the problem as it was trained, ``module:Name``; that of its class if absent.

        Raises:
            ValueError: a file is missing, or of another problem, incomplete or not finite.
        """
        function, label = ProblemFunction.of(problem), name or name_of(problem)
        form = weights.load(Path(path), function, label)
        if likelihood is not None:
            learned = learned_weights.load(Path(likelihood), label, function)
            function = ProblemFunction.of(problem, learned)
        return cls(form, function)

    def posterior(
        self,
        prior: MixtureLike | Mapping[str, Sequence[float]],
        data: Numbers,
        context: Mapping[str, float] | None = None,
        components: int = DEFAULTS.components,
        check: bool = True,
    ) -> Answer:
        """Return the posterior of one report.

        Args:
            prior: a mixture, or the numbers of parametric priors.
            data: of the report, by name; of a problem with rows a sequence for each.
            context: by name.
            components: of the answer.
            check: whether to check and refine it, where there is a likelihood.

        Raises:
            ValueError: a name is missing or unknown, or a number is outside its domain.
            ProblemError: the likelihood fails.
        """
        if not 1 <= components <= MOST_COMPONENTS:
            raise ValueError(f"components: expected 1 to {MOST_COMPONENTS}, got {components}")
        priors, numbers = self._priors(prior), self._numbers(data, context or {})
        found = self.form.answer(priors, numbers[None], components)
        outside = max(self.form.distance_of(numbers), self._prior_outside(priors))
        if not (check and self.function.has_likelihood):
            return Answer(*_parts(found), "unchecked", None, None, None, False, outside)
        best = checked(priors, self.function, numbers[None], found)
        quality = best.quality
        return Answer(
            *_parts(best.answer),
            self._likelihood,
            float(quality.sample_efficiency[0]),
            float(quality.divergence[0]),
            float(quality.deviation[0]),
            bool(best.refined[0]),
            outside,
        )

    @property
    def _likelihood(self) -> Literal["exact", "learned"]:
        return "learned" if self.function.is_learned else "exact"

    def samples(
        self,
        answer: MixtureLike,
        prior: MixtureLike | Mapping[str, Sequence[float]],
        data: Numbers,
        context: Mapping[str, float] | None = None,
        count: int = 10_000,
        seed: int = 0,
    ) -> Samples:
        """Draw samples of the posterior itself, with `answer` as the proposal; without a likelihood, of the answer.

        In the limit of many weighed points they are exact, whatever the answer is. `effective` says how near that is.

        Args:
            answer: of `posterior`, for the same prior, data and context.
            prior, data, context: as in `posterior`.
            count: of samples.
            seed: of all chance.

        Raises:
            ValueError: as `posterior`; or no point that was tried is possible.
            ProblemError: the likelihood fails.
        """
        if not 1 <= count <= MOST_SAMPLES:
            raise ValueError(f"count: expected 1 to {MOST_SAMPLES}, got {count}")
        priors, numbers, mixture = self._priors(prior), self._numbers(data, context or {}), _mixture(answer)
        generator = torch.Generator().manual_seed(seed)
        if not self.function.has_likelihood:
            return Samples(mixture.sample(count, generator)[0].numpy(), None, "unchecked")
        seeds = torch.randint(2**31, (math.ceil(TRIED * count / AT_ONCE),), generator=generator).tolist()
        found = [weighed(priors, self.function, numbers[None], mixture, AT_ONCE, each) for each in seeds]
        logs = torch.cat([each.target - each.proposal for each in found], 1)
        if float(logs.max()) == -math.inf:
            raise ValueError(NOWHERE)
        shares = torch.softmax(logs, 1)
        points = torch.cat([each.points for each in found], 1)[0]
        chosen = points[systematic_places(shares, count)[0]]
        chosen = chosen[torch.randperm(count, generator=generator)]
        return Samples(chosen.numpy(), min(float(count), float(1 / shares.square().sum())), self._likelihood)

    def _priors(self, prior: MixtureLike | Mapping[str, Sequence[float]]) -> Priors:
        """Read a prior; raises ValueError."""
        families, names = self.form.families, [name for name, _ in self.function.parameters]
        if families is not None:
            if not isinstance(prior, Mapping):
                raise ValueError(f"prior: expected the two numbers of each of {names}, got {prior!r}")
            _same_names("prior", prior, names)
            pairs = [_floats("prior", name, prior[name], 2) for name in names]
            numbers = torch.tensor([[*itertools.chain(*pairs)]], dtype=torch.float64)
            if not bool((numbers > 0).all()):
                raise ValueError(f"prior: expected positive numbers, got {numbers[0].tolist()}")
            return Priors.parametric(families, numbers)
        if isinstance(prior, Mapping):
            raise ValueError("prior: this problem takes a mixture over its coordinates, got numbers by name")
        parts = (prior.weights, prior.means, prior.covariances)
        given, means, covariances = (torch.as_tensor(np.asarray(each, dtype=float)) for each in parts)
        size = len(names)
        if means.shape != (len(given), size) or covariances.shape != (len(given), size, size):
            raise ValueError(f"prior: expected {size} coordinates, got means of shape {tuple(means.shape)}")
        positive = bool((given >= 0).all()) and abs(float(given.sum()) - 1) < 1e-6
        if not positive or not all(bool(each.isfinite().all()) for each in (means, covariances)):
            raise ValueError("prior: expected weights that sum to 1, and finite means and covariances")
        if int(torch.linalg.cholesky_ex(covariances).info.max()) > 0:
            raise ValueError("prior: a covariance is not positive definite")
        return Priors(GaussianMixture.from_weights(given[None], means[None], covariances[None]))

    def _numbers(self, data: Numbers, context: Mapping[str, float]) -> Tensor:
        """Numbers of an observation ``(Q,)``, data row by row and then context; raises ValueError."""
        names, rows = [name for name, _ in self.function.data], self.function.rows
        _same_names("data", data, names)
        _same_names("context", context, self.function.context)
        columns = [_floats("data", name, data[name], None if rows != ONE else 1) for name in names]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1 or not 1 <= len(columns[0]) <= rows.most:
            raise ValueError(f"data: expected 1 to {rows.most} rows, as many of each of {names}, got {data}")
        lacking = [float("nan")] * (rows.most - len(columns[0]))
        filled = [value for row in zip(*(c + lacking for c in columns), strict=True) for value in row]
        known = [_floats("context", name, context[name], 1)[0] for name in self.function.context]
        self.function.check_numbers([*filled, *known])
        return torch.tensor([*filled, *known], dtype=torch.float64)

    def _prior_outside(self, priors: Priors) -> float:
        """How far a prior lies outside those of the training: its numbers, or places and widths of its components."""
        if priors.numbers is not None and priors.families is not None:
            return float(
                TrainingRange(priors.families.low, priors.families.high).distance(priors.numbers.log()).max()
            )
        count = len(self.function.parameters)
        low, high = (end[:count] for end in (self.form.trained_on.low, self.form.trained_on.high))
        mixture = priors.mixture
        deviations = mixture.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
        reach = (deviations * INSIDE * (1 - 1e-9), TrainingRange(low, high))
        places = torch.stack([reach[1].distance(mixture.means + sign * reach[0]) for sign in (-1, 1)])
        allowed = TrainingRange(*(torch.full((count,), end).log().double() for end in (NARROWEST, WIDEST)))
        widths = allowed.distance((deviations / (high - low)).log())
        present = mixture.present[..., None]
        return max(float(torch.where(present, each, 0.0).max()) for each in (places, widths))


def _mixture(given: MixtureLike) -> GaussianMixture:
    """A batch of one mixture."""
    parts = (given.weights, given.means, given.covariances)
    return GaussianMixture.from_weights(
        *(torch.as_tensor(np.asarray(part, dtype=float))[None] for part in parts)
    )


def _parts(mixture: GaussianMixture) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights, means and covariances of the only mixture of a batch."""
    weights, means, covariances = mixture.log_weights.exp(), mixture.means, mixture.covariances
    return weights[0].numpy(), means[0].numpy(), covariances[0].numpy()


def _same_names(label: str, given: Mapping[str, Any], wanted: Sequence[str]) -> None:
    if sorted(given) != sorted(wanted):
        raise ValueError(f"{label}: expected {list(wanted)}, got {list(given)}")


def _floats(label: str, name: str, given: Any, count: int | None) -> list[float]:
    """The numbers of a name; raises ValueError if they are none, or not `count`."""
    values = np.atleast_1d(np.asarray(given, dtype=object)).tolist()
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if not numbers or (count is not None and len(values) != count) or not np.isfinite(values).all():
        wanted = "numbers" if count is None else "a number" if count == 1 else f"{count} numbers"
        raise ValueError(f"{label}: {name} needs {wanted}, got {given!r}")
    return [float(value) for value in values]
