"""Result of an update: the posterior, its quality, and the method that found it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate

Part = TypeVar("Part")
Result = TypeVar("Result")
VECTORS = ("sample_efficiency", "log_evidence", "p_value", "method", "lost")


class Method(IntEnum):
    """How a posterior was found."""

    TRANSFORMER = 0
    REFINED = 1
    KALMAN = 2
    FALLBACK = 3
    LINEARISED = 4
    QUADRATURE = 5


@dataclass(frozen=True)
class Answer:
    """Posterior and quality of a batch; the vectors are ``(B,)``."""

    posterior: GaussianMixture
    sample_efficiency: Tensor  # fraction of the points, 0 to 1
    log_evidence: Tensor  # log p(observations), in the sensors' own units
    p_value: Tensor  # p-value of the observations under the prediction, 0 to 1
    method: Tensor  # a `Method`, int64
    lost: Tensor  # estimate of KL(exact ‖ posterior), nats

    @classmethod
    def of(
        cls, posterior: GaussianMixture, log_evidence: Tensor, lost: Tensor, method: Method | Tensor
    ) -> Answer:
        """An answer whose sample efficiency is that of its divergence; its p-value is not known yet."""
        if not isinstance(method, Tensor):
            method = torch.full_like(lost, method, dtype=torch.int64)
        unknown = torch.full_like(lost, math.nan)
        return cls(posterior, efficiency_at(lost), log_evidence, unknown, method, lost)

    @classmethod
    def none(cls, prior: GaussianMixture) -> Answer:
        """No answers: the priors, with all lost."""
        zero = torch.zeros(prior.batch, dtype=torch.float64)
        return cls.of(prior, zero, zero + math.inf, Method.FALLBACK)

    def with_p_value(self, p_value: Tensor) -> Answer:
        return replace(self, p_value=p_value)

    def rows(self, index: Tensor) -> Answer:
        vectors = (getattr(self, name)[index] for name in VECTORS)
        return Answer(self.posterior.rows(index), *vectors)

    def with_rows(self, index: Tensor, other: Answer) -> Answer:
        """Replace the entities at `index` by `other`; without a copy where these are none, or all in order."""
        batch = len(self.method)
        if len(index) == 0:
            return self
        if len(index) == batch and bool((index == torch.arange(batch)).all()):
            return other
        keep = torch.ones(batch, dtype=torch.bool)
        keep[index] = False
        kept = torch.nonzero(keep)[:, 0]
        return joined([(kept, self.rows(kept)), (index, other)])


def efficiency_at(divergence: Tensor) -> Tensor:
    """Sample efficiency of an answer whose KL(exact ‖ answer) is known, nats.

    It is one over one plus the chi-square divergence, which for two close densities is twice that of Kullback and
    Leibler. For others this is what `importance.quality` allows at most.
    """
    return (-2 * divergence).exp()


def joined(parts: Sequence[tuple[Tensor, Answer]]) -> Answer:
    """The answers of parts of a batch, each with its places, in the order of the places."""
    if len(parts) == 1 and bool((parts[0][0].diff() > 0).all()):
        return parts[0][1]
    order = torch.argsort(torch.cat([index for index, _ in parts]))
    posterior = concatenate([update.posterior for _, update in parts])
    vectors = [torch.cat([getattr(update, name) for _, update in parts]) for name in VECTORS]
    return Answer(posterior, *vectors).rows(order)


def in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results of all parts, in order, from as many threads as PyTorch's operators may use."""
    count = min(torch.get_num_threads(), len(parts))
    if count < 2:
        return [work(part) for part in parts]

    def in_mode(part: Part) -> Result:
        with torch.inference_mode(inference):  # each thread has its own mode
            return work(part)

    inference = torch.is_inference_mode_enabled()
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(in_mode, parts))
