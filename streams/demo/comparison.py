"""Tables that compare our posteriors, as received from Kafka, with the baselines on the same observations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.streams.demo.tracking import ReceivedBelief
from beliefstream.streams.scores.measures import Cases, Row, Scores, batches, row_of

OURS = "Beliefstream"
CALIBRATED = 0.9


class Comparison(NamedTuple):
    """Scores of all methods at the same instants of one group of entities."""

    group: str
    title: str
    rows: list[Row]

    @property
    def instants(self) -> int:
        return self.rows[0].cases


class Measure(NamedTuple):
    """A score as text, and its loss; lower is better."""

    name: str
    text: str
    loss: float


def measures(scores: Row) -> list[Measure]:
    """Return the four scores that are shown, with lengths in m."""
    likelihood, coverage = scores.negative_log_likelihood, scores.coverage90
    return [
        Measure("RMSE", f"{scores.rmse:.2f} m", scores.rmse),
        Measure("median error", f"{scores.median:.2f} m", scores.median),
        Measure(
            "−ln p(truth)", f"{likelihood:.2f}" if abs(likelihood) < 1000 else f"{likelihood:.0f}", likelihood
        ),
        Measure("90 % covers", f"{100 * coverage:.1f} %", abs(coverage - CALIBRATED)),
    ]


def ours(tracks: Mapping[str, Sequence[ReceivedBelief]]) -> Cases:
    """Score the last belief received for each instant of each entity."""
    last: dict[tuple[str, float], ReceivedBelief] = {}
    for entity, track in tracks.items():
        for belief in track:
            last[entity, belief.time] = belief
    scores = Scores(len(last))
    for part in batches(len(last)):
        entities, times = zip(*list(last)[part], strict=True)
        beliefs = list(last.values())[part]
        truths = torch.from_numpy(np.stack([belief.truth for belief in beliefs]))
        scores.add_batch(entities, times, _stacked(beliefs), truths)
    return scores.found


def _stacked(beliefs: Sequence[ReceivedBelief]) -> GaussianMixture:
    """Stack the beliefs into one batch of mixtures over the position."""
    parts = [(belief.weights, belief.means, belief.covariances) for belief in beliefs]
    return concatenate(
        [GaussianMixture.from_weights(*(torch.from_numpy(part)[None] for part in each)) for each in parts]
    )


def compare(group: str, title: str, received: Cases, baselines: Mapping[str, Cases]) -> Comparison:
    """Compare all methods at the instants that all of them have."""
    methods = {OURS: received, **baselines}
    shared = set.intersection(*map(set, methods.values()))
    rows = [
        row_of({key: found[key] for key in shared}, group, name, math.nan) for name, found in methods.items()
    ]
    return Comparison(group, title, rows)


def table(comparison: Comparison) -> Table:
    """Return a rich table; the best of each score is bold."""
    title = f"{comparison.title}: {comparison.instants} posteriors"
    result = Table(title=title, title_justify="left", title_style="bold")
    result.add_column("", no_wrap=True)
    columns = [measures(row) for row in comparison.rows]
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
    cells = {row.method: measures(row)[number] for row in comparison.rows}
    losses = [cell.loss for cell in cells.values() if not math.isnan(cell.loss)]
    if not losses:
        return set()
    best = next(cell.text for cell in cells.values() if cell.loss == min(losses))
    return {method for method, cell in cells.items() if cell.text == best}


def verdict(comparisons: Sequence[Comparison]) -> list[str]:
    """Return two lines: where our method is best, and where another method is better."""
    best, worse = [], []
    for comparison in comparisons:
        our_measures = measures(comparison.rows[0])
        for number, measure in enumerate(our_measures):
            first = winners(comparison, number)
            name = f"{comparison.group} {measure.name}"
            if comparison.rows[0].method in first:
                best.append(name)
            elif first:
                other = min(first)
                row = next(row for row in comparison.rows if row.method == other)
                theirs = measures(row)[number]
                worse.append(f"{name} {measure.text} ({other} {theirs.text})")
    return [
        "Best of all: " + ("; ".join(best) or "nowhere") + ".",
        "Not best: " + ("; ".join(worse) or "nowhere") + ".",
    ]
