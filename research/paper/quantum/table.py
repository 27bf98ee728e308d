"""Results of task 2: KL to the exact posterior, with the published discrepancy and its floor beside it."""

from __future__ import annotations

import numpy as np
import torch

from research.paper.exact.discrepancy import discrepancy
from research.paper.exact.grids import Array, GridPosterior, quantum_posterior
from research.paper.form.network import PublishedForm
from research.paper.methods import divergences, methods, rows
from research.paper.quantum.task import Quantum, learn
from research.paper.report import Figure, Row, Table, published
from research.paper.scalar import Problems, log_joint

COUNTS = (5, 10)  # components of the answers
FEWEST = 40  # problems
KL, MMD = "KL(exact ‖ answer)", "MMD²"
PUBLISHED = (
    published("SVI", **{MMD: 0.0028}),
    published("TabPFN", **{MMD: 0.0046}),
    published("ACE", **{MMD: 0.0067}),
    published("PFN", **{MMD: 0.0100}),
    published("DT, K = 5", **{MMD: 0.0027}),
)


def quantum_table(network: PublishedForm, count: int, seed: int) -> Table:
    """Compare on `count` problems; training saw none of them.

    Raises:
        ValueError: there are too few problems for the discrepancy.
    """
    if count < FEWEST:
        raise ValueError(f"count: expected at least {FEWEST} for the task quantum, got {count}")
    task = Quantum(learn())
    problems = task.sample(count, torch.Generator().manual_seed(2**40 + seed))
    a, b = problems.prior.numpy().T
    exact = quantum_posterior(a, b, problems.data.numpy())
    numbers, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    compared = methods(network, COUNTS)
    figures = {}
    for name, method in compared.items():
        answered = method(task, problems)
        drawn = answered.sample(1, generator)[:, 0].numpy()
        figures[name] = {
            KL: Figure.of(divergences(exact, answered)),
            MMD: scored(problems, drawn, seed),
        }
    floor = Row("exact", "exact posterior", {MMD: scored(problems, exact.draw(numbers), seed)})
    learned = Row(
        "exact", "prior × learned likelihood", {KL: Figure.of(of_likelihood(task, problems, exact))}
    )
    notes = [
        f"{count} problems, seed {seed}; the exact posterior has its nuisance integrated in closed form.",
        f"MMD²: {count // 2} true and {count // 2} drawn pairs; ± is of bootstraps.",
        "Ours knows the simulator only; refinement and check use the learned likelihood.",
    ]
    timed = rows(compared, figures, task, problems)
    return Table("quantum", "Quantum parameter", (KL, MMD), [*PUBLISHED, floor, learned, *timed], notes)


def scored(problems: Problems, drawn: Array, seed: int) -> Figure:
    """Return the discrepancy of parameters drawn for each problem; the first half of the problems stays true."""
    half = len(drawn) // 2
    prior, data, true = (part.numpy() for part in problems)
    inputs = [1 / (1 + np.exp(-np.where(np.arange(len(drawn)) < half, true, drawn))), data, prior]
    found = discrepancy([part[:half] for part in inputs], [part[half : 2 * half] for part in inputs], seed)
    return Figure(float(found.mean()), float(found.std(ddof=1)))


def of_likelihood(task: Quantum, problems: Problems, exact: GridPosterior) -> Array:
    """Return KL(exact ‖ prior × learned likelihood) ``(B,)``, the error of the learned likelihood alone."""
    joint = log_joint(task, problems, torch.from_numpy(exact.points)).numpy()
    learned = GridPosterior.normalised(exact.points, joint)
    return exact.divergence(lambda _: learned.log_density)
