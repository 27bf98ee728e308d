"""The compared ways to a one-parameter posterior, and their divergence from the exact one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from research.paper.exact.grids import Array, GridPosterior
from research.paper.exact.variational import variational_gaussian
from research.paper.form.network import PublishedForm, answer
from research.paper.form.refinement import refine
from research.paper.form.whitening import whiten
from research.paper.report import Checked, Figure, Row, Source, milliseconds
from research.paper.scalar import Problems, ScalarMixture, ScalarTask, log_joint

Method = Callable[[ScalarTask, Problems], ScalarMixture]
EXTREME = (2, 20)  # fewest and most components in training
TIMED = 1000  # problems of a timing
VARIATIONAL, ALONE = "mean-field VI", "network"


def methods(network: PublishedForm, counts: Sequence[int]) -> dict[str, Method]:
    """Return the methods by name; `counts` are the components of refined answers, and more are of the network's."""
    found: dict[str, Method] = {VARIATIONAL: variational}
    for count in sorted({*counts, *EXTREME}):
        found[f"{ALONE}, K = {count}"] = alone(network, count)
    for count in counts:
        found[f"checked and refined, K = {count}"] = refined(network, count)
    return found


def alone(network: PublishedForm, count: int) -> Method:
    """Return the network without refinement."""
    return lambda task, problems: answer(network, task, problems, count)


def refined(network: PublishedForm, count: int) -> Method:
    """Return the network with its answers refined where that makes them better."""
    return lambda task, problems: refine(task, problems, answer(network, task, problems, count)).posterior


def variational(task: ScalarTask, problems: Problems) -> ScalarMixture:
    """Return the Gaussian of mean-field variational inference, started at the posterior's moments."""
    frame = whiten(task, problems)
    return variational_gaussian(lambda points: log_joint(task, problems, points), frame.centre, frame.scale)


def divergences(exact: GridPosterior, answered: ScalarMixture) -> Array:
    """Return KL(exact ‖ answer) ``(B,)`` in nats."""
    return exact.divergence(lambda points: answered.log_density(torch.from_numpy(points)).numpy())


def rows(
    compared: Mapping[str, Method],
    figures: Mapping[str, Mapping[str, Figure]],
    task: ScalarTask,
    problems: Problems,
) -> list[Row]:
    """Return a row for each method, with its time for `TIMED` of the problems."""
    few = problems.rows(0, TIMED)

    def row(name: str, method: Method) -> Row:
        source: Source = "baseline" if name == VARIATIONAL else "ours"
        checked: Checked | None = None if name == VARIATIONAL else task.likelihood
        spent = milliseconds(lambda: method(task, few), len(few.prior))
        return Row(source, name, figures[name], spent, "unchecked" if name.startswith(ALONE) else checked)

    return [row(name, method) for name, method in compared.items()]
