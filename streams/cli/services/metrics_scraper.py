"""Reads a worker's /metrics again and again, and computes recent rates and quantiles of histograms."""

from __future__ import annotations

import math
import threading
import urllib.error
from collections import deque
from dataclasses import dataclass, field
from typing import Self

from pydantic import SecretStr

from beliefstream.streams.monitoring.scraping import TIMEOUT, Snapshot, scrape

INTERVAL = 1.0  # seconds between two requests
WINDOW = 10.0  # seconds that rates and quantiles cover


@dataclass
class MetricsHistory:
    """The snapshots of the last seconds, oldest first."""

    snapshots: deque[Snapshot] = field(default_factory=deque)

    def add(self, snapshot: Snapshot) -> None:
        """Append a snapshot and drop old ones; the history starts again if the worker was restarted."""
        if self.snapshots and snapshot.total("beliefstream_batch_size_count") < self.snapshots[-1].total(
            "beliefstream_batch_size_count"
        ):
            self.snapshots.clear()
        self.snapshots.append(snapshot)
        while snapshot.time - self.snapshots[0].time > WINDOW:
            self.snapshots.popleft()

    @property
    def last(self) -> Snapshot | None:
        return self.snapshots[-1] if self.snapshots else None

    def increase(self, name: str) -> float:
        """The increase of a counter in the window."""
        return self.snapshots[-1].total(name) - self.snapshots[0].total(name) if self.snapshots else 0.0

    def rate(self, name: str) -> float:
        """The increase of a counter per second; NaN with fewer than two snapshots."""
        if len(self.snapshots) < 2:
            return math.nan
        return self.increase(name) / (self.snapshots[-1].time - self.snapshots[0].time)

    def mean(self, name: str) -> float:
        """The mean of a histogram's observations in the window; NaN if there are none."""
        count = self.increase(f"{name}_count")
        return self.increase(f"{name}_sum") / count if count else math.nan

    def quantile(self, name: str, share: float) -> float:
        """A quantile of a histogram's observations in the window, linear within a bucket; NaN if there are none."""
        if not self.snapshots:
            return math.nan
        before, now = (self.snapshots[i].by(f"{name}_bucket", "le") for i in (0, -1))
        buckets = sorted((float(bound), now[bound] - before.get(bound, 0.0)) for bound in now)
        if not buckets or buckets[-1][1] <= 0:
            return math.nan
        wanted, lower, below = share * buckets[-1][1], 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted:
                inside = (wanted - below) / (count - below) if count > below else 1.0
                return lower if math.isinf(bound) else lower + inside * (bound - lower)
            lower, below = bound, count
        return lower


class Scraper:
    """Reads a worker's metrics every second in a thread while its context is open."""

    def __init__(self, url: str, token: SecretStr | None = None) -> None:
        self.url, self.history = url, MetricsHistory()
        self.problem = ""  # why the worker does not answer; empty while it answers
        self._token = token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(TIMEOUT)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.history.add(scrape(self.url, self._token))
                self.problem = ""
            except urllib.error.HTTPError as error:
                hint = " (BELIEFSTREAM_WEB_TOKEN)" if error.code == 401 else ""
                self.problem = f"the worker at {self.url} answers {error.code} {error.reason}{hint}"
            except (OSError, ValueError) as error:
                self.problem = f"no worker answers at {self.url}: {getattr(error, 'reason', error)}"
            self._ended.wait(INTERVAL)
