"""Compares the service with two filters on simulated drives: `python -m research.drive`.

Every method knows the motion. The service and the particles know the three parts of the noise; the Kalman filter merges
them into one Gaussian, which is widened, and gates reports, as is best on drives of their own.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from beliefstream.inference.mixtures.coverage import REGIONS, inside, levels
from beliefstream.inference.mixtures.mixture import GaussianMixture
from research.drive import filters
from research.drive.service import posteriors
from research.drive.simulation import Array, Drive, drive

TUNED_ON = 4  # drives
TUNINGS = [
    filters.Tuning(*each)
    for each in itertools.product((0.15, 0.2, 0.3, 0.5, 1.0), (1.5, 2.0, 3.0, 4.0, math.inf), (0.0, 0.5, 1.0))
]
KERNELS = 1000  # of the particles' density
PLACE = 3  # coordinates that are scored: east, north and up

Beliefs = Iterator[GaussianMixture]  # over the place, one entity, after each epoch


class Scores(NamedTuple):
    """Of one drive by one method, after each epoch."""

    surprise: Array  # negative log density of the true place, nats
    levels: Array  # see `inference.mixtures.coverage`
    error: Array  # in the plane, metres
    milliseconds: float  # an epoch


def gaussian(beliefs: Iterator[tuple[Array, Array]]) -> Beliefs:
    """The place of Gaussian beliefs."""
    for mean, covariance in beliefs:
        place = torch.from_numpy(mean[:PLACE].copy()), torch.from_numpy(covariance[:PLACE, :PLACE].copy())
        yield GaussianMixture.gaussian(place[0][None], place[1][None])


def kernels(beliefs: Iterator[Array]) -> Beliefs:
    """The place of particles: a kernel estimate from some of them, with Silverman's bandwidth for all."""
    for points in beliefs:
        places = points[:, :PLACE]
        width = (4 / ((PLACE + 2) * len(places))) ** (1 / (PLACE + 4))
        spread = torch.from_numpy(np.cov(places.T) * width**2)
        means = torch.from_numpy(places[:: len(places) // KERNELS].copy())[None]
        shape = means.shape[1]
        yield GaussianMixture(
            torch.full((1, shape), -math.log(shape), dtype=torch.float64),
            means,
            spread.expand(1, shape, PLACE, PLACE),
        )


def score(beliefs: Beliefs, given: Drive) -> Scores:
    """Compare beliefs with the true places."""
    generator, rows, seconds = torch.Generator().manual_seed(0), [], 0.0
    for state in given.states:
        begin = time.perf_counter()
        belief = next(beliefs)
        seconds += time.perf_counter() - begin
        truth = torch.from_numpy(state[None, :PLACE].copy())
        mean = (belief.log_weights.exp()[..., None] * belief.means).sum(1)
        off = float(torch.linalg.vector_norm((mean - truth)[0, :2]))
        surprise = -float(belief.log_density(truth[:, None]))
        rows.append((surprise, float(levels(belief, truth, generator)), off))
    surprise, level, error = np.array(rows).T
    return Scores(surprise, level, error, seconds / len(rows) * 1e3)


def tuned(seconds: int, seed: int, held: float) -> filters.Tuning:
    """The best tuning of the Kalman filter by its surprise on drives of their own."""
    drives = [drive(seed + 1000 + number, seconds, held) for number in range(TUNED_ON)]

    def surprise(tuning: filters.Tuning) -> float:
        return float(np.mean([_surprise(filters.kalman(each, tuning), each) for each in drives]))

    return min(TUNINGS, key=surprise)


def _surprise(beliefs: Iterator[tuple[Array, Array]], given: Drive) -> float:
    """Mean negative log density of the true place, nats."""
    found = [
        -float(belief.log_density(torch.from_numpy(state[None, None, :PLACE].copy())))
        for belief, state in zip(gaussian(beliefs), given.states, strict=True)
    ]
    return float(np.mean(found))


def row(name: str, scores: list[Scores]) -> dict[str, str | float]:
    """The figures of one method; errors are over drives."""
    surprise = np.array([each.surprise.mean() for each in scores])
    level = torch.from_numpy(np.concatenate([each.levels for each in scores]))
    found: dict[str, str | float] = {"method": name, "nll": float(surprise.mean())}
    found["nll_error"] = float(surprise.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else 0.0
    for region in REGIONS:
        found[f"{region:.0%}"] = float(inside(level, region).mean())
    error = np.concatenate([each.error for each in scores])
    found["median_error"], found["error_95"] = float(np.median(error)), float(np.quantile(error, 0.95))
    found["milliseconds"] = float(np.median([each.milliseconds for each in scores]))
    return found


def main(
    drives: Annotated[int, typer.Option(help="number of drives")] = 6,
    seconds: Annotated[int, typer.Option(help="seconds a drive")] = 60,
    seed: Annotated[int, typer.Option(help="of the first drive; each has the next")] = 7,
    held: Annotated[
        float, typer.Option(help="seconds for which a satellite stays reflected, on average")
    ] = 1.0,
    particles: Annotated[int, typer.Option(help="number of particles")] = 10_000,
    save: Annotated[Path | None, typer.Option("--json", help="file for the figures")] = None,
) -> None:
    """Simulate drives among buildings, and compare beliefs of the place with the truth."""
    tuning = tuned(seconds, seed, held)
    methods: dict[str, Callable[[Drive, int], Beliefs]] = {
        "Beliefstream": lambda each, _: gaussian_mixtures(each),
        "extended Kalman filter, merged noise": lambda each, _: gaussian(
            filters.kalman(each, filters.Tuning())
        ),
        f"the same, tuned {tuple(tuning)}": lambda each, _: gaussian(filters.kalman(each, tuning)),
        f"{particles} particles": lambda each, number: kernels(filters.particles(each, particles, number)),
    }
    scores: dict[str, list[Scores]] = {name: [] for name in methods}
    for number in range(seed, seed + drives):
        each = drive(number, seconds, held)
        for name, method in methods.items():
            scores[name].append(score(method(each, number), each))
            print(
                f"drive {number - seed + 1} of {drives}: {name}, {scores[name][-1].surprise.mean():.2f} nats"
            )
    rows = [row(name, several) for name, several in scores.items()]
    _show(rows)
    if save is not None:
        save.write_text(json.dumps(rows, indent=1))


def gaussian_mixtures(given: Drive) -> Beliefs:
    """The place of the service's beliefs."""
    for mixture in posteriors(given):
        weights, means, covariances = (torch.as_tensor(np.asarray(part))[None] for part in mixture)
        yield GaussianMixture.from_weights(weights, means[..., :PLACE], covariances[..., :PLACE, :PLACE])


def _show(rows: list[dict[str, str | float]]) -> None:
    table = Table(title="place in space after each epoch")
    for heading in (
        "method",
        "nats",
        *(f"in {region:.0%}" for region in REGIONS),
        "median m",
        "95 % m",
        "ms",
    ):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for each in rows:
        shares = [f"{each[f'{region:.0%}']:.1%}" for region in REGIONS]
        nats = f"{each['nll']:.2f} ± {each['nll_error']:.2f}"
        rest = f"{each['median_error']:.2f}", f"{each['error_95']:.2f}", f"{each['milliseconds']:.1f}"
        table.add_row(str(each["method"]), nats, *shares, *rest)
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
