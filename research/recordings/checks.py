"""What `python -m research.recordings` prints beside scores: health of the sensors, tuned and fitted settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from beliefstream.inference.tracking.health.verdicts import assess, judge_together
from beliefstream.streams.cli.definitions.sensors import print_health
from beliefstream.streams.cli.definitions.sensors_fit import print_fit
from beliefstream.streams.cli.offline.replay_scores import ticks
from beliefstream.streams.cli.output import progress_bar
from beliefstream.streams.definitions import own_code
from beliefstream.streams.scores.measures import Row
from beliefstream.streams.scores.methods import OURS
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.scores.tracks import log_of
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from research.recordings import health
from research.recordings.evidence import fitted
from research.recordings.parts import limited
from research.recordings.readers import RecordingReader
from research.recordings.tuning import tune


def judge(settings: Settings, recordings: Iterable[Recording], as_json: bool) -> None:
    """Print the health of the sensors of each recording, at its end."""
    own_code.load(settings.measurements)
    updater = make_updater(settings)
    for recording in recordings:
        log = log_of(recording)
        with progress_bar("posteriors") as progress:
            tick = ticks(progress, recording)
            windows = health.judge(
                log, updater, settings.health_window, partial(tick, OURS, log.observations)
            )
        print(recording.name)
        alone = {sensor: assess(window) for sensor, window in windows.items()}
        judged = judge_together(alone, {sensor: window.entities for sensor, window in windows.items()})
        print_health(judged, as_json)


def tuned(settings: Settings, name: str, reader: RecordingReader, data: Path | None) -> None:
    """Tune a recording's settings, and print them with its reader's present settings."""
    if reader.settings_of is not None:
        print(f"{name}: uses the settings of {reader.settings_of}")
        return

    def report(number: str, value: float, row: Row) -> None:
        print(
            f"{name}: {number} {value:.4g}: NLL {row.negative_log_likelihood:.3f}, RMSE {row.rmse:.4g}, "
            f"{row.coverage90:.1%} in 90 %",
            flush=True,
        )

    chosen = tune(reader, data, make_updater(settings), report)
    present = type(chosen)()
    for field in fields(chosen):
        print(
            f"{name}: {field.name} {getattr(chosen, field.name)}, the reader has {getattr(present, field.name)}"
        )


def fitted_parts(
    settings: Settings, names: Sequence[str], data: Path | None, limit: float
) -> list[Recording]:
    """Fit the settings of recordings by evidence, print them, and return the recordings with them."""
    own_code.load(settings.measurements)
    updater, found = make_updater(settings), []
    for name in names:
        recording, fit = fitted(name, updater, data)
        print_fit(fit)
        found.append(limited(replace(recording, name=f"{name} by evidence"), limit))
    return found
