"""Results of task 4: negative log density of the next output and of the lengthscale, beside quadrature."""

from __future__ import annotations

import numpy as np
import torch

from research.paper.exact.grids import Array, process_exact
from research.paper.form.network import PublishedForm
from research.paper.gaussian_process.task import COORDINATES, GaussianProcess, predictive
from research.paper.methods import methods, rows
from research.paper.report import Figure, Row, Table, published
from research.paper.scalar import Problems, ScalarMixture

COUNTS = (5, 10)  # components of the answers
OUTPUT, SCALE = "next output", "lengthscale"
OVER_OUTPUT, OVER_SCALE = "next output, over exact", "lengthscale, over exact"
PUBLISHED = (
    published("VI", 123e3, **{SCALE: 0.39}),
    published("MCMC", 27e3, **{SCALE: 2.27}),
    published("PFN", 9.2e3, **{OUTPUT: 0.90, SCALE: 1.53}),
    published("TabPFN", 28.5e3, **{OUTPUT: 1.08, SCALE: 0.37}),
    published("ACE", 11.7e3, **{OUTPUT: 1.08, SCALE: 0.35}),
    published("DT, K = 10", 9.5e3, **{OUTPUT: 0.81, SCALE: 0.31}),
)


def gaussian_process_table(network: PublishedForm, count: int, seed: int) -> Table:
    """Compare on `count` problems; training saw none of them."""
    task = GaussianProcess()
    problems = task.sample(count, torch.Generator().manual_seed(2**40 + seed))
    exact = [process_exact(*each) for each in zip(*(part.numpy() for part in problems), strict=True)]
    output, scale = np.array(exact).T
    floor = Row("exact", "quadrature", {OUTPUT: Figure.of(-output), SCALE: Figure.of(-scale)})
    compared = methods(network, COUNTS)
    figures = {}
    for name, method in compared.items():
        found_output, found_scale = log_densities(problems, method(task, problems))
        figures[name] = {
            OUTPUT: Figure.of(-found_output),
            SCALE: Figure.of(-found_scale),
            OVER_OUTPUT: Figure.of(output - found_output),
            OVER_SCALE: Figure.of(scale - found_scale),
        }
    timed = rows(compared, figures, task, problems)
    title = "Gaussian process with a prior of its lengthscale: negative log density"
    notes = [f"{count} problems, seed {seed}; what is over exact is paired."]
    columns = (OUTPUT, SCALE, OVER_OUTPUT, OVER_SCALE)
    return Table("gaussian-process", title, columns, [*PUBLISHED, floor, *timed], notes)


def log_densities(problems: Problems, posterior: ScalarMixture) -> tuple[Array, Array]:
    """Return log densities ``(B,)`` of the true next output, and of the true lengthscale (not of its logarithm)."""
    target = problems.data[:, -1, COORDINATES:]
    output = predictive(problems.data, posterior).log_density(target)[:, 0]
    scale = posterior.log_density(problems.parameter[:, None])[:, 0] - problems.parameter
    return output.numpy(), scale.numpy()
