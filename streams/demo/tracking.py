"""Collects the received posteriors, with the latency and the error of each."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import Posterior
from beliefstream.streams.demo.scenario import MOWER, Schedule, ScheduledMessage

Array = NDArray[np.float64]

RECENT = 5.0  # seconds over which rates and latencies are computed during the run


@dataclass(frozen=True, eq=False)
class ReceivedBelief:
    """Position of one posterior: weights (K,), means (K, 2) m, covariances (K, 2, 2) m², and the truth (2,) m."""

    time: float
    weights: Array
    means: Array
    covariances: Array
    truth: Array
    method: str
    sample_efficiency: float
    p_value: float

    @property
    def mean(self) -> Array:
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> Array:
        """Covariance of the whole mixture, (2, 2), m²."""
        deviations = self.means - self.mean
        between = np.einsum("k,ki,kj->ij", self.weights, deviations, deviations)
        return np.asarray(np.einsum("k,kij->ij", self.weights, self.covariances) + between)

    @property
    def error(self) -> float:
        """Distance of the mean from the truth, m."""
        return float(np.linalg.norm(self.mean - self.truth))

    @property
    def spread(self) -> float:
        """Square root of the trace of the covariance, m: the root mean square error that the belief expects."""
        return math.sqrt(float(np.trace(self.covariance)))


@dataclass(frozen=True)
class Jump:
    """Beliefs of the entity with a replaced prior: before it, the prior, and after each later observation."""

    before: ReceivedBelief
    stated: ReceivedBelief
    after: tuple[ReceivedBelief, ...]


@dataclass(frozen=True)
class Figures:
    """Figures that are shown during the run and at the end; times in s, lengths in m."""

    elapsed: float = 0.0
    entities: int = 0
    sent: int = 0
    applied: int = 0
    posteriors: int = 0
    sent_rate: float = 0.0  # per second
    posterior_rate: float = 0.0
    latency_median: float = math.nan  # from sending to receiving the posterior
    latency_95: float = math.nan
    sample_efficiency: float = math.nan
    methods: dict[str, int] = field(default_factory=dict)
    mower_error: float = math.nan
    mower_spread: float = math.nan
    fleet_error: float = math.nan  # median of the entities' current errors


class Tracker:
    """Collects posteriors and sent messages; thread-safe."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._waiting: dict[str, float] = {}  # send times of observations without a posterior, by id
        self._beliefs: dict[str, list[ReceivedBelief]] = defaultdict(list)
        # events with their times, in order: sent; received, with sample size; received, with latency
        self._sent: list[float] = []
        self._received: list[tuple[float, float]] = []
        self._latencies: list[tuple[float, float]] = []
        self._methods: Counter[str] = Counter()

    def begin(self) -> None:
        """Start the clock."""
        self._begin = time.monotonic()

    def sent(self, message: ScheduledMessage, now: float) -> None:
        """Record a message that was sent at the time `now` of `time.monotonic()`."""
        if message.observation is None or message.note:
            return
        with self._lock:
            self._sent.append(now)
            if message.observation.id is not None:
                self._waiting[message.observation.id] = now

    def received(self, posterior: Posterior, now: float) -> None:
        """Record a posterior that was received at the time `now` of `time.monotonic()`."""
        belief = self._received_belief(posterior)
        with self._lock:
            self._beliefs[posterior.entity].append(belief)
            self._methods[belief.method] += 1
            self._received.append((now, belief.sample_efficiency))
            for identifier in posterior.applied:
                sent = self._waiting.pop(identifier, None)
                if sent is not None:
                    self._latencies.append((now, now - sent))

    def missing(self) -> int:
        """Return the number of observations without a posterior."""
        with self._lock:
            return len(self._waiting)

    def latest(self) -> dict[str, ReceivedBelief]:
        """Return the newest belief of each entity."""
        with self._lock:
            return {entity: track[-1] for entity, track in self._beliefs.items()}

    def track(self, entity: str) -> list[ReceivedBelief]:
        """Return all beliefs of an entity, in order of arrival."""
        with self._lock:
            return list(self._beliefs.get(entity, ()))

    def jump(self) -> Jump | None:
        """Return the beliefs before and after the replaced prior; None if it has not been received."""
        track = self.track(self._schedule.gates.entity)
        index = next((i for i, belief in enumerate(track) if belief.method == "prior"), 0)
        if index == 0:
            return None
        return Jump(track[index - 1], track[index], tuple(track[index + 1 :]))

    def figures(self, recent: float | None = RECENT) -> Figures:
        """Return figures, with rates, latencies and sample size over the last `recent` seconds, or over all time."""
        now = time.monotonic()
        latest = self.latest()
        fleet = [latest[entity].error for entity in self._schedule.fleet.entities if entity in latest]
        mower = latest.get(MOWER)
        with self._lock:
            elapsed = now - self._begin
            since = self._begin if recent is None else max(self._begin, now - recent)
            window = max(now - since, 1e-3)
            latencies = _after(self._latencies, since)
            median, late = np.quantile(latencies, (0.5, 0.95)).tolist() if latencies else (math.nan, math.nan)
            received = _after(self._received, since)
            sizes = [size for size in received if not math.isnan(size)]
            return Figures(
                elapsed=elapsed,
                entities=len(latest),
                sent=len(self._sent),
                applied=len(self._sent) - len(self._waiting),
                posteriors=sum(self._methods.values()),
                sent_rate=(len(self._sent) - bisect_left(self._sent, since)) / window,
                posterior_rate=len(received) / window,
                latency_median=median,
                latency_95=late,
                sample_efficiency=float(np.mean(sizes)) if sizes else math.nan,
                methods=dict(self._methods.most_common()),
                mower_error=mower.error if mower else math.nan,
                mower_spread=mower.spread if mower else math.nan,
                fleet_error=float(np.median(fleet)) if fleet else math.nan,
            )

    def _received_belief(self, posterior: Posterior) -> ReceivedBelief:
        names = posterior.coordinate_names
        axes = [names.index(name) for name in "xyz" if name in names]
        mixture, quality = posterior.mixture, posterior.quality
        return ReceivedBelief(
            time=posterior.time,
            weights=np.array(mixture.weights),
            means=np.array(mixture.means)[:, axes],
            covariances=np.array(mixture.covariances)[:, axes][:, :, axes],
            truth=self._schedule.truth(posterior.entity, [posterior.time])[0],
            method=quality.method,
            sample_efficiency=math.nan if quality.method == "prior" else quality.sample_efficiency,
            p_value=quality.p_value,
        )


def _after(timed: list[tuple[float, float]], since: float) -> list[float]:
    """Return the values of all events at or after the time `since`."""
    return [value for _, value in timed[bisect_left(timed, (since, -math.inf)) :]]
