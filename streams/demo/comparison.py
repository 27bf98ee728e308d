"""Tables that compare our posteriors, as received from Kafka, with the baselines on the same observations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.demo.baseline_answers import Answers, Summary
from beliefstream.streams.demo.baselines import mixture_answers
from beliefstream.streams.demo.tracking import ReceivedBelief

OURS = "Beliefstream"
CALIBRATED = 0.9


class ComparisonRow(NamedTuple):
    """Scores of one method."""

    method: str
    scores: Summary


class Comparison(NamedTuple):
    """Scores of all methods at the same instants of one group of entities."""

    group: str
    title: str
    rows: list[ComparisonRow]

    @property
    def instants(self) -> int:
        return self.rows[0].scores.cases


class Measure(NamedTuple):
    """A score as text, and its loss; lower is better."""

    name: str
    text: str
    loss: float


def measures(scores: Summary) -> list[Measure]:
    """Return the four scores of a row, with lengths in m."""
    likelihood, coverage = scores.negative_log_likelihood, scores.coverage90
    return [
        Measure("RMSE", f"{scores.rmse:.2f} m", scores.rmse),
        Measure("median error", f"{scores.median:.2f} m", scores.median),
        Measure(
            "−ln p(truth)", f"{likelihood:.2f}" if abs(likelihood) < 1000 else f"{likelihood:.0f}", likelihood
        ),
        Measure("90 % covers", f"{100 * coverage:.1f} %", abs(coverage - CALIBRATED)),
    ]


def ours(tracks: Mapping[str, Sequence[ReceivedBelief]]) -> Answers:
    """Return the last belief received for each instant of each entity, with the truth."""
    last: dict[tuple[str, float], ReceivedBelief] = {}
    for entity, track in tracks.items():
        for belief in track:
            last[entity, belief.time] = belief
    if not last:
        return Answers(np.array([], dtype=str), *(np.empty(shape) for shape in (0, (0, 2), (0, 2), 0, 0)))
    entities, times = zip(*last, strict=True)
    truths = torch.from_numpy(np.stack([belief.truth for belief in last.values()]))
    return mixture_answers(entities, times, truths, _stacked(list(last.values())))


def _stacked(beliefs: Sequence[ReceivedBelief]) -> GaussianMixture:
    """Stack the beliefs into one batch of mixtures over the position."""
    most = max(len(belief.weights) for belief in beliefs)
    weights, means = np.zeros((len(beliefs), most)), np.zeros((len(beliefs), most, 2))
    covariances = np.tile(np.eye(2), (len(beliefs), most, 1, 1))
    for row, belief in enumerate(beliefs):
        count = len(belief.weights)
        weights[row, :count], means[row, :count] = belief.weights, belief.means
        covariances[row, :count] = belief.covariances
    return GaussianMixture.from_weights(*(torch.from_numpy(part) for part in (weights, means, covariances)))


def compare(group: str, title: str, received: Answers, baselines: Mapping[str, Answers]) -> Comparison:
    """Compare all methods at the instants that all of them have."""
    shared = set(received.instants).intersection(*(set(each.instants) for each in baselines.values()))
    methods = {OURS: received, **baselines}
    return Comparison(
        group,
        title,
        [ComparisonRow(name, each.at(sorted(shared)).summary()) for name, each in methods.items()],
    )


def table(comparison: Comparison) -> Table:
    """Return a rich table; the best of each score is bold."""
    title = f"{comparison.title}: {comparison.instants} posteriors"
    result = Table(title=title, title_justify="left", title_style="bold")
    result.add_column("", no_wrap=True)
    columns = [measures(row.scores) for row in comparison.rows]
    for measure in columns[0]:
        result.add_column(measure.name, justify="right", no_wrap=True)
    for row, cells in zip(comparison.rows, columns, strict=True):
        texts = [
            f"[bold green]{cell.text}[/]" if row.method in winners(comparison, number) else cell.text
            for number, cell in enumerate(cells)
        ]
        result.add_row(row.method, *texts)
    return result


def winners(comparison: Comparison, number: int) -> set[str]:
    """Return the methods with the best score, as rounded in the table; none if no score is defined."""
    cells = {row.method: measures(row.scores)[number] for row in comparison.rows}
    losses = [cell.loss for cell in cells.values() if not math.isnan(cell.loss)]
    if not losses:
        return set()
    best = next(cell.text for cell in cells.values() if cell.loss == min(losses))
    return {method for method, cell in cells.items() if cell.text == best}


def verdict(comparisons: Sequence[Comparison]) -> list[str]:
    """Return two lines: where our method is best, and where another method is better."""
    best, worse = [], []
    for comparison in comparisons:
        our_measures = measures(comparison.rows[0].scores)
        for number, measure in enumerate(our_measures):
            first = winners(comparison, number)
            name = f"{comparison.group} {measure.name}"
            if comparison.rows[0].method in first:
                best.append(name)
            elif first:
                other = min(first)
                row = next(row for row in comparison.rows if row.method == other)
                theirs = measures(row.scores)[number]
                worse.append(f"{name} {measure.text} ({other} {theirs.text})")
    return [
        "Best of all: " + ("; ".join(best) or "nowhere") + ".",
        "Not best: " + ("; ".join(worse) or "nowhere") + ".",
    ]
