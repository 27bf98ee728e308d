"""Results of task 1: KL(exact ‖ answer) for each meta-prior, beside the published figures."""

from __future__ import annotations

import torch

from research.paper.exact.grids import GridPosterior, variance_posterior
from research.paper.form.network import PublishedForm
from research.paper.methods import divergences, methods, rows
from research.paper.report import Figure, Table, published
from research.paper.scalar import Problems
from research.paper.variance.task import META_PRIORS, Variance

COUNTS = (5, 10)  # components of the answers
PUBLISHED = (
    published("SVI", 148e3, narrow=0.0425, wide=0.0558),
    published("PFN-15", 3, narrow=0.517, wide=331.0),
    published("PFN-5000", 3, narrow=0.0038, wide=0.2935),
    published("TabPFNv2", 1520, narrow=0.0112, wide=0.1513),
    published("ACE-5", 37, narrow=0.0094, wide=0.0048, unseen=0.0132),
    published("DT-2", 14, narrow=0.0044, wide=0.0058),
    published("DT-5", 16, narrow=0.0004, wide=0.0003, unseen=0.0054),
)


def variance_table(network: PublishedForm, count: int, seed: int) -> Table:
    """Compare on `count` problems of each meta-prior; training saw none of them."""
    compared = methods(network, COUNTS)
    figures: dict[str, dict[str, Figure]] = {name: {} for name in compared}
    for place, meta in enumerate(META_PRIORS):
        task = Variance(meta)
        problems = held_out(meta, count, seed + place)
        exact = exact_posterior(problems)
        for name, method in compared.items():
            figures[name][meta] = Figure.of(divergences(exact, method(task, problems)))
    timed = rows(compared, figures, Variance("wide"), held_out("wide", count, seed))
    notes = [f"{count} problems of each meta-prior, seed {seed}; the exact posterior is an inverse gamma."]
    title = "Variance under an inverse-gamma prior: KL(exact ‖ answer), nats"
    return Table("variance", title, list(META_PRIORS), [*PUBLISHED, *timed], notes)


def held_out(meta: str, count: int, seed: int) -> Problems:
    """Draw problems with a generator that no training uses."""
    return Variance(meta).sample(count, torch.Generator().manual_seed(2**40 + seed))


def exact_posterior(problems: Problems) -> GridPosterior:
    """Return the exact posteriors of the problems."""
    alpha, beta = problems.prior.numpy().T
    return variance_posterior(alpha, beta, problems.data[:, 0].numpy())
