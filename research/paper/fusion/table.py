"""Results of task 3: the library's own network, which never saw these sensors, beside the exact filter."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from beliefstream.inference.likelihood.noise import Exponential, Noise, Uniform
from beliefstream.inference.mixtures.coverage import REGIONS, inside, levels
from beliefstream.inference.motion import FixedStep
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import bearing, range_to
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.update.settings import FAST, UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.paper.exact.grids import Array
from research.paper.fusion import kalman as fusion_kalman
from research.paper.fusion.task import FAR, MOTION, NOISE, START, Series, filtered, simulate
from research.paper.report import Figure, Row, Source, Table, published

PARTICLES = 10_000  # of the baseline
LONG = 200  # steps; longer series are for drift, which one method shows
EXACT = 40_000  # of the filter that stands for the exact one
NLL, EXCESS, LATE = "NLL a step", "over the exact filter", "the same, last fifth"
COLUMNS = (NLL, EXCESS, LATE, *(f"{region:.0%} region" for region in REGIONS))
PUBLISHED = (
    published("EKF (its noise model is wrong)", 100, **{NLL: 95.9}),
    published("particle filter (two weights are swapped)", 8180, **{NLL: -0.244}),
    published("DT, K = 4", 170, **{NLL: -0.197}),
)
RANGE = range_to(
    [0, 2],
    4,
    [0.0, 0.0],
    0.1,
    maximum_range=FAR,
    noise=Noise(slope=0.1, clutter=((0.2, Exponential(1.0)), (0.1, Uniform(0.0, FAR)))),
)
FURTHER = UpdateSettings(
    merge_below=0.0005,
    refine_below=0.99,
    refine_points=2048,
    repeat_below=0.97,
    repeat_points=(8192,),
    linear_below=0.0005,
    quadrature_below=0.001,
    bend_below=0.001,
)
BEARING = bearing([2, 0], 4, [0.0, 0.0], 0.1)  # atan2(px, py) is the angle from the second axis


class Filtered(NamedTuple):
    """Of the true states: log densities ``(S, T)``, and levels ``(S, T)`` (`mixtures.coverage`)."""

    log_density: Array
    levels: Array
    milliseconds: float  # for 1 000 posteriors


def fusion_table(series: int, steps: int, seed: int) -> Table:
    """Compare on one set of series; the excess is paired, since series differ by far more than methods."""
    drawn = simulate(series, steps, seed)
    floor = filtered(drawn, EXACT, seed + 1).exact
    begin = time.process_time()
    particles = filtered(drawn, PARTICLES, seed + 2)
    spent = 1e6 * (time.process_time() - begin) / (series * steps)
    kalman = fusion_kalman.filtered(drawn)
    rows = [
        row("exact", f"exact filter, a sum over {EXACT:,} particles", floor, floor),
        row("baseline", f"the same over {PARTICLES:,}", particles.exact, floor, spent),
        row("baseline", f"particle filter of {PARTICLES:,}, Gaussian", particles.gaussian, floor, spent),
        row("baseline", f"particle filter of {PARTICLES:,}, kernels", particles.kernels, floor, spent),
        row("baseline", "EKF", kalman, floor),
    ]
    for name, settings in settings_by_name(steps).items():
        found = product(drawn, settings, seed)
        rows.append(row("ours", name, found.log_density, floor, found.milliseconds, found.levels))
    notes = [
        f"{series} series of {steps} steps, seed {seed}; ± is between series.",
        "Ours are the shipped weights; training saw neither these sensors nor this motion.",
    ]
    return Table(
        "fusion", "Range and bearing: negative log density of the state", COLUMNS, [*PUBLISHED, *rows], notes
    )


def settings_by_name(steps: int = 0) -> Mapping[str, UpdateSettings]:
    """Return the compared settings; for series of many steps the default alone."""
    if steps > LONG:
        return {"checked and refined, K = 8": UpdateSettings()}
    return {
        "network, not refined, K = 8": FAST,
        "checked and refined, K = 4": UpdateSettings(components=4),
        "checked and refined, K = 8": UpdateSettings(),
        "checked and refined, K = 16": UpdateSettings(components=16),
        "refined further, K = 8": FURTHER,
    }


def row(
    source: Source,
    method: str,
    log_density: Array,
    floor: Array,
    milliseconds: float | None = None,
    level: Array | None = None,
) -> Row:
    """Return the figures of a method, with standard errors between series."""
    figures = {NLL: Figure.of(-log_density.mean(1))}
    if source != "exact":
        excess = floor - log_density
        figures[EXCESS] = Figure.of(excess.mean(1))
        figures[LATE] = Figure.of(excess[:, -max(excess.shape[1] // 5, 1) :].mean(1))  # errors add up, or not
    if level is not None:
        for region in REGIONS:
            share = inside(torch.from_numpy(level), region).mean(1)
            figures[f"{region:.0%} region"] = Figure.of(share.numpy())
    return Row(source, method, figures, milliseconds)


def product(series: Series, settings: UpdateSettings, seed: int) -> Filtered:
    """Filter all series with the library's public functions."""
    prior = Belief(0.0, np.ones(1), START[None], np.eye(4)[None])
    motion = FixedStep(tuple(map(tuple, MOTION)), tuple(map(tuple, NOISE)))
    model = StateModel(motion, prior, components=settings.components)
    updater = Updater(weights.load(), settings=settings)
    generator = torch.Generator().manual_seed(seed)
    beliefs: list[Belief | None] = [None] * len(series.states)
    log_densities, found = [], []
    begin, spent = 0.0, 0.0
    for step in range(series.states.shape[1]):
        begin = time.process_time()
        instants = [_instant(step, report) for report in series.reports[:, step]]
        outcomes = advance([Step(b, model, i) for b, i in zip(beliefs, instants, strict=True)], updater)
        spent += time.process_time() - begin
        beliefs = [outcome.belief for outcome in outcomes]
        truth = torch.from_numpy(series.states[:, step])
        scored = [_scored(outcome, state, generator) for outcome, state in zip(outcomes, truth, strict=True)]
        log_densities.append([each[0] for each in scored])
        found.append([each[1] for each in scored])
    posteriors = series.states.shape[0] * series.states.shape[1]
    return Filtered(np.array(log_densities).T, np.array(found).T, 1e6 * spent / posteriors)


def _instant(step: int, report: Array) -> Instant:
    return Instant(float(step), (Reading(RANGE, report[:1]), Reading(BEARING, report[1:])))


def _scored(outcome: Outcome, state: torch.Tensor, generator: torch.Generator) -> Sequence[float]:
    """Return log density and level of the true state."""
    mixture = outcome.belief.mixture()
    level = levels(mixture, state[None], generator)
    return float(mixture.log_density(state[None, None])[0, 0]), float(level[0])
