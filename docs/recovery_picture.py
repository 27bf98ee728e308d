"""Draws `docs/recovery.png` and prints the tables of `docs/recovery.md`: the crate of the demo, which is carried.

    python -m docs.recovery_picture

It takes a minute or two. The exact posterior is a sum over a grid, and shares no code with the filters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt, rc_context
from numpy.typing import NDArray
from scipy.special import ndtr

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.tracking.events import Belief, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.tracking.recovery.history import History
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.demo.crate import AFTER, BEACONS, BEFORE, PLACES, SILENT, crate
from beliefstream.streams.demo.picture import BEACON, BELIEF, JUMP, TRUTH
from beliefstream.streams.demo.view import RIGHT_WITHIN
from beliefstream.streams.fitting.picture import STYLE
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.scores.tracks import log_of, tracks_of
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater

Array = NDArray[np.float64]

PICTURE = Path(__file__).with_name("recovery.png")
SHOWN = (1, 2, 4, 6, 8, 9, 10, 11, 12, 16, 32)  # reports after the move, in the first table
SEEDS = range(8)  # of the second table
MORE = (26, 80)  # numbers of reports before the move, also in that table
DENSITIES = (0.01, 0.03, 0.1, 0.3)  # m²/s, of the crate as one that moves
DRAWN = 0.03  # the one of these in the picture
STEP = 0.1  # m, of the grid
# the middle of both places, and the vector from the old one to the new one, m
MIDWAY, TOWARDS = np.mean(PLACES, axis=0), np.diff(PLACES, axis=0)[0]


class Row(NamedTuple):
    """A belief after a report: its weight at the new place, the distance of its mean from the truth, its quality."""

    weight: float
    error: float  # m
    p_value: float
    accumulated_error: float  # nats


def carried(seed: int = 0, before: int = BEFORE) -> Recording:
    """The crate with a report a second."""
    return crate(float(before + SILENT + AFTER), seed, before=before)


def run(updater: Updater, recording: Recording, together: bool = True, **changes: Any) -> list[Row]:
    """Filter the reports under the model with `changes`; as a worker does, each update has the earlier ones too."""
    (track,) = tracks_of(recording, log_of(recording))
    model: StateModel = replace(track.model, **changes)
    belief: Belief | None = None
    rows, history = list[Row](), History()
    for instant in track.instants:
        earlier = history.earlier(instant.time) if together else None
        step = Step(belief, model, instant, earlier)
        (outcome,) = advance([step], updater)
        history.add(step, outcome)
        belief = outcome.belief
        error = float(np.linalg.norm(belief.weights @ belief.means - recording.truth_at(instant.time)[0]))
        rows.append(Row(new_weight(belief), error, outcome.p_value, outcome.accumulated_error))
    return rows


def new_weight(belief: Belief) -> float:
    """Probability that the crate is nearer to the new place than to the old one."""
    spread = np.sqrt(TOWARDS @ belief.covariances @ TOWARDS)
    return float(belief.weights @ ndtr((belief.means - MIDWAY) @ TOWARDS / spread))


def exact_weights(recording: Recording) -> list[float]:
    """Weight of the new place after each report, by a grid of 60 m by 60 m around the middle of the beacons."""
    middle, axis = np.mean(BEACONS, axis=0), np.arange(-30.0, 30.0, STEP)
    points = middle + np.stack(np.meshgrid(axis, axis), axis=-1)
    log_density = -0.5 * ((points - middle) ** 2).sum(-1) / 10.0**2
    inside, found = (points - MIDWAY) @ TOWARDS > 0, list[float]()
    for observation in recording.observations:
        beacon = BEACONS[int(observation.sensor[-1]) - 1]
        off = (observation.values[0] - np.linalg.norm(points - beacon, axis=-1)) / 0.3
        log_density += np.log(0.95 * np.exp(-0.5 * off**2) / (0.3 * np.sqrt(2 * np.pi)) + 0.05 / 100.0)
        density = np.exp(log_density - log_density.max())
        found.append(float(density[inside].sum() / density.sum()))
    return found


def table(exact: Sequence[float], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the first table: a run, report by report."""
    yield "| report after the move | exact weight | weight | p-value | accumulated error, nats | error, m |"
    yield "|" + "---:|" * 6
    for number in SHOWN:
        row, weight = rows[BEFORE + number - 1], exact[BEFORE + number - 1]
        quality = f"{row.p_value:.1g} | {row.accumulated_error:.1g}"
        yield f"| {number} | {weight:.2g} | {row.weight:.2g} | {quality} | {row.error:.2f} |"


def models(updater: Updater) -> Iterator[str]:
    """Yield the lines of the second table: how soon each model finds the new place, of `SEEDS`."""
    yield "| model | reports until it is right | error of the last ten, m | accumulated error after five, nats |"
    yield "|---|---:|---:|---:|"
    resting: dict[str, Any] = {"motion": RandomWalk((0.0, 0.0))}
    cases = [("at rest", BEFORE, resting)]
    cases += [(f"at rest, {before} reports before", before, resting) for before in MORE]
    cases += [("at rest, `expires_after` 5 s", BEFORE, resting | {"expires_after": 5.0})]
    cases += [
        (f"random walk, {each:g} m²/s", BEFORE, {"motion": RandomWalk((each, each))}) for each in DENSITIES
    ]
    for name, before, changes in cases:
        after = [run(updater, carried(seed, before), **changes)[before:] for seed in SEEDS]
        waits = sorted(_until_right(rows) for rows in after)
        found = f"{waits[0]:g} to {waits[-1]:g}" if waits[-1] < np.inf else f"more than {len(after[0])}"
        error = np.median([row.error for rows in after for row in rows[-10:]])
        doubt = np.median([rows[4].accumulated_error for rows in after])
        yield f"| {name} | {found} | {error:.2f} | {doubt:.1g} |"


def _until_right(rows: Sequence[Row]) -> float:
    """Number of reports after which the error stays below a metre; infinite if it does not."""
    wrong = max((number for number, row in enumerate(rows, 1) if row.error > RIGHT_WITHIN), default=0)
    return wrong + 1 if wrong < len(rows) else np.inf


def paint(exact: Sequence[float], runs: Mapping[str, Sequence[Row]]) -> None:
    """Draw the picture."""
    numbers = np.arange(len(exact)) - BEFORE + 1  # of the reports after the move
    titles = (
        "Weight of the new place",
        "Distance of the mean from the truth, m",
        "p-value of each report",
        "Accumulated error, nats",
    )
    with rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(12.0, 7.0), layout="constrained", sharex=True)
        for each, title, field in zip(axes.flat, titles, range(4), strict=True):
            each.set_title(title)
            each.axvline(0.5, color=TRUTH, linestyle=":")
            for (name, rows), colour in zip(runs.items(), (BELIEF, JUMP, BEACON), strict=True):
                each.plot(numbers, [row[field] for row in rows], ".-", color=colour, label=name)
            if field:
                each.set_yscale("log")
        axes[0, 0].plot(
            numbers, exact, color=TRUTH, linewidth=6, alpha=0.25, label="exact, by a grid", zorder=0
        )
        axes[0, 0].legend(loc="center right")
        axes[1, 0].set_ylim(1e-20, 10.0)
        for each in axes[1]:
            each.set_xlabel("reports after the move")
        figure.savefig(PICTURE, dpi=100)
        plt.close(figure)


def main() -> None:
    """Run everything."""
    updater = make_updater(Settings())
    recording = carried()
    exact, at_rest = exact_weights(recording), run(updater, recording)
    print(*table(exact, at_rest), "", *models(updater), sep="\n")
    moving = run(updater, recording, motion=RandomWalk((DRAWN, DRAWN)))
    alone = run(updater, recording, together=False)
    names = ("at rest, all reports together", "at rest, report by report", f"random walk, {DRAWN:g} m²/s")
    paint(exact, dict(zip(names, (at_rest, alone, moving), strict=True)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
