"""A recording fused here and compared with the truth, beside the classical filters on the same observations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inference.evaluation.baselines import ExtendedKalmanFilter, ParticleFilter
from inference.evaluation.scores import Score, Summary, mixture_level, particle_level
from inference.filtering import Instant, StateModel
from inference.mixture import GaussianMixture
from inference.motion import transition as linear_transition
from inference.sensors import encode
from streams import measurements
from streams.app import make_updater
from streams.cli.common import console, progress_bar
from streams.conversion import state_model
from streams.offline import Fused, Log

if TYPE_CHECKING:
    from streams.recordings import Recording
    from streams.settings import Settings

PARTICLES = 3000
_BATCH = 256  # beliefs scored at once

Step = Callable[[], None]


def fuse_recording(settings: Settings, recording: Recording, score: bool, out: Path | None) -> None:
    """Fuse the recording, write the posteriors to `out` if given, and print how good they are."""
    measurements.load(settings.measurements)
    log = Log()
    for sensor in recording.sensors:
        log.define_sensor(sensor)
    log.define_model(recording.model)
    for number, observation in enumerate(recording.observations, 1):
        log.add(observation.to_json(), f"line:{number}")
    timeline = log.timelines()[recording.model.entity]
    updater = make_updater(settings)
    with progress_bar("posteriors") as progress, out.open("wb") if out else nullcontext() as file:
        task = progress.add_task(f"fuse {recording.name}", total=len(timeline), note="")
        began, fused = time.perf_counter(), []
        for posterior in log.fuse(updater):
            fused.append(posterior)
            if file is not None:
                file.write(posterior.to_json() + b"\n")
            progress.advance(task)
        seconds = time.perf_counter() - began
        summaries: dict[str, Summary] = {}
        if score:
            compared = progress.add_task("score", total=len(timeline), note="")
            summaries = scores(recording, timeline, fused, lambda: progress.advance(compared))
    print(f"{len(fused)} posteriors in {seconds:.1f} s, one entity, one after the other")
    if summaries:
        _show(recording, summaries)


def scores(
    recording: Recording, timeline: Sequence[Instant], fused: Sequence[Fused], step: Step
) -> dict[str, Summary]:
    """Ours, the gated extended Kalman filter and the bootstrap particle filter, by name.

    Only instants at which the truth is known count; `step` is called after each instant of the baselines.
    """
    names = recording.model.coordinate_names
    axes = [names.index(name) for name in recording.coordinates]
    known = [recording.truth_times[0] <= instant.time <= recording.truth_times[-1] for instant in timeline]
    times = [instant.time for instant, is_known in zip(timeline, known, strict=True) if is_known]
    truth = torch.from_numpy(recording.truth_at(times))
    model = state_model(recording.model)
    ours = [posterior for posterior, is_known in zip(fused, known, strict=True) if is_known]
    return {
        "Beliefstream": _score_ours(ours, truth, axes),
        **_score_baselines(timeline, known, truth, axes, model, step),
    }


def _score_ours(fused: Sequence[Fused], truth: torch.Tensor, axes: list[int]) -> Summary:
    score = Score()
    alike: dict[int, list[int]] = defaultdict(list)
    for index, posterior in enumerate(fused):
        alike[len(posterior.outcome.belief.weights)].append(index)
    for indices in alike.values():
        for start in range(0, len(indices), _BATCH):
            chosen = indices[start : start + _BATCH]
            parts = [fused[index].outcome.belief.mixture().marginal(axes) for index in chosen]
            mixture = GaussianMixture(
                torch.cat([part.log_weights for part in parts]),
                torch.cat([part.means for part in parts]),
                torch.cat([part.covariances for part in parts]),
            )
            _add(score, mixture, truth[chosen])
    return score.summary()


def _add(score: Score, mixture: GaussianMixture, truth: torch.Tensor) -> None:
    density = mixture.log_density(truth[:, None])[:, 0]
    score.add(truth, mixture.moments()[0], density, mixture_level(mixture, truth))


def _score_baselines(
    timeline: Sequence[Instant],
    known: Sequence[bool],
    truth: torch.Tensor,
    axes: list[int],
    model: StateModel,
    step: Step,
) -> dict[str, Summary]:
    """Both at once, over the same instants, motion and sensors."""
    prior = model.prior.mixture()
    kalman = ExtendedKalmanFilter(*prior.moments())
    particles = ParticleFilter(prior, PARTICLES, torch.Generator().manual_seed(0))
    of_kalman, of_particles, place = Score(), Score(), 0
    for interval, instant, is_known in zip(_intervals(timeline), timeline, known, strict=True):
        transition, noise = linear_transition(model.motion, interval)
        observations = encode([instant.readings], model.motion.dimension)
        for baseline in (kalman, particles):
            baseline.predict(transition, noise)
            baseline.update(observations)
        if is_known:
            true = truth[place : place + 1]
            _add(of_kalman, kalman.mixture().marginal(axes), true)
            density = particles.log_density(true[:, None], axes)[:, 0]
            of_particles.add(true, particles.mean(axes), density, particle_level(particles, true, axes))
            place += 1
        step()
    return {
        "extended Kalman filter, gated": of_kalman.summary(),
        f"particle filter, {PARTICLES} particles": of_particles.summary(),
    }


def _intervals(timeline: Sequence[Instant]) -> list[torch.Tensor]:
    """Seconds since the instant before, ``(1,)`` each; the prior is for the first."""
    times = [timeline[0].time, *(instant.time for instant in timeline)]
    return [torch.tensor([later - earlier], dtype=torch.float64) for earlier, later in pairwise(times)]


def _show(recording: Recording, summaries: dict[str, Summary]) -> None:
    from rich.table import Table

    unit = recording.model.coordinates[0].unit
    numbers = ("posteriors", f"RMSE ({unit})", f"median error ({unit})", "NLL (nats)", "90 % coverage")
    table = Table("method", title=f"{recording.name} against the truth")
    for heading in numbers:
        table.add_column(heading, justify="right")
    for name, found in summaries.items():
        table.add_row(
            name,
            str(found.cases),
            f"{found.rmse:.3f}",
            f"{found.median:.3f}",
            f"{found.negative_log_likelihood:.3f}",
            f"{found.coverage90:.1%}",
        )
    console().print(table)
