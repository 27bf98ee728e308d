"""Health of the sensors of a log, as a worker that reads it in order of time would have it at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from beliefstream.inference.tracking.health.sums import terms
from beliefstream.inference.tracking.health.windows import Window, entity_bit
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.local.offline_log import Judged, Log


def judge(
    log: Log, updater: Updater, seconds: float, tick: Callable[[], None] = lambda: None
) -> dict[str, Window]:
    """Return the sums of each sensor by name, over so many seconds at the end of the log.

    Leaves out instants whose posterior is not finite, as `Log.fuse` does, and sensors that have no others. `tick` is
    called after each observation.
    """
    judged: dict[str, list[Judged]] = defaultdict(list)
    for each in log.fits(updater):
        judged[each.sensor].append(each)
        tick()
    return {sensor: _window(judged[sensor], seconds) for sensor in sorted(judged)}


def _window(judged: list[Judged], seconds: float) -> Window:
    """The sums of a sensor's observations, added in order of time."""
    judged = sorted(judged, key=lambda each: each.time)
    window = Window(seconds, len(judged[0].fits))
    times = np.array([each.time for each in judged])
    found = terms(np.concatenate([each.fits for each in judged]))
    window.add(times, found.reshape(len(times), window.channels, -1))
    for each in judged:
        window.entities |= entity_bit(each.entity.encode())
    return window
