"""Prometheus metrics of a worker, in base units; no metric has an entity as a label."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from beliefstream.inference.update.devices import MemoryFallback
from beliefstream.schemas import Reason
from beliefstream.schemas.beliefs.posterior import Method

REGISTRY = CollectorRegistry()
_counter, _gauge = partial(Counter, registry=REGISTRY), partial(Gauge, registry=REGISTRY)
_histogram, _info = partial(Histogram, registry=REGISTRY), partial(Info, registry=REGISTRY)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def observe_all(histogram: Histogram, values: Iterable[float]) -> None:
    """Count all these values; NaN is left out."""
    for value in values:
        if not math.isnan(value):
            histogram.observe(value)


# the worker's memory, processor time and open files, under their usual names
ProcessCollector(registry=REGISTRY)

OBSERVATIONS = _counter(
    "beliefstream_observations",
    "Observations read, by outcome: accepted, rejected (a dead letter), duplicate (already applied), forgotten (before "
    "a reset of their entity)",
    ["outcome"],
)
DEAD_LETTERS = _counter("beliefstream_dead_letters", "Messages that could not be used, by reason", ["reason"])
BATCH_SIZE = _histogram(
    "beliefstream_batch_size",
    "Messages in one batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
)
UPDATE_SECONDS = _histogram(
    "beliefstream_update_seconds", "Time to predict and update the beliefs of one batch", buckets=_SECONDS
)
END_TO_END_SECONDS = _histogram(
    "beliefstream_end_to_end_seconds",
    "From an observation received to its posterior acknowledged by the broker",
    buckets=_SECONDS,
)
EVENT_LAG_SECONDS = _histogram(
    "beliefstream_event_lag_seconds",
    "Wall clock minus the time of the observation when its posterior is acknowledged",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400),
)
SAMPLE_EFFICIENCY = _histogram(
    "beliefstream_sample_efficiency",
    "Effective sample size of importance sampling from a posterior, as a share of its samples: 1 at best",
    buckets=(0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
)
ACCUMULATED_ERROR = _histogram(
    "beliefstream_accumulated_error_nats",
    "Estimate of how far a posterior is from the exact one, from all updates so far",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
RECORD_AGE_SECONDS = _histogram(
    "beliefstream_record_age_seconds",
    "Age of the oldest record of a batch, by its timestamp on the topic, when the batch's posteriors are acknowledged",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400),
)
POSTERIORS = _counter(
    "beliefstream_posteriors",
    "Posteriors by method: transformer, refined, kalman, linearised, quadrature, fallback, prior (a stated prior)",
    ["method"],
)
READY = _gauge(
    "beliefstream_ready", "1 when this worker processes observations, 0 while it waits for what /readyz names"
)
BROKER_REACHABLE = _gauge(
    "beliefstream_broker_reachable",
    "1 while a broker answers and every partition has a leader, 0 once one of these has failed for 8 s",
)
ENTITIES = _gauge("beliefstream_entities", "Entities whose belief this worker holds")
RECOVERY_SECONDS = _gauge(
    "beliefstream_recovery_seconds", "Time taken to restore beliefs after the last change of partitions"
)
CONSUMER_LAG = _gauge(
    "beliefstream_consumer_lag",
    "Messages between the end of a partition and what this worker has processed",
    ["topic", "partition"],
)
LOST_OFFSETS = _counter(
    "beliefstream_lost_offsets",
    "Messages that were deleted from a source topic before they were read",
    ["topic"],
)
MISPLACED = _counter(
    "beliefstream_misplaced_records",
    "Records in another partition than murmur2 of their key gives, by topic: dead letters, unless "
    "BELIEFSTREAM_REFUSE_MISPLACED is false",
    ["topic"],
)
_IMPLAUSIBLE = _counter(
    "beliefstream_implausible",
    "Observations more than 100 standard deviations (of noise and prediction together) from every prediction, by "
    "sensor (the first 100 of a worker, then other); they are applied, and include expected outliers",
    ["sensor"],
)
_EXPECTED_OUTLIERS = _counter(
    "beliefstream_expected_outliers",
    "Outliers that the definitions expect among accepted observations: the sum of their outlier_probability, by sensor",
    ["sensor"],
)
LOG_FAULTS = _counter(
    "beliefstream_log_faults",
    "Faults of a partition's logs, found when it was taken over, by fault: emptied (the changelog has lost beliefs, "
    "which are computed again), remade (a source topic was deleted and created again), cut (a source log has lost its "
    "end), gone (messages to read again are no longer in the source log)",
    ["fault"],
)
STALLS = _counter(
    "beliefstream_stalls", "Times this worker has stopped because partitions stalled with messages waiting"
)
OUT_OF_MEMORY = _counter(
    "beliefstream_out_of_memory",
    "Batches that did not fit into the device's memory, by answer: halved, or cpu (then marked fallback)",
    ["answer"],
)
BUILD = _info("beliefstream_build", "Version, device, network and weights of this worker")
_FAULTY = _gauge(
    "beliefstream_sensor_faulty",
    "1 while the health of the sensor has this verdict: biased, noisier, quieter, outliers, lasting; from the "
    "partitions of this worker; for the first 100 sensors of a worker",
    ["sensor", "verdict"],
)
_NOISE_SCALE = _gauge(
    "beliefstream_sensor_noise_scale",
    "Noise of the sensor over its stated noise, since its fault began if it has one",
    ["sensor"],
)
_OUTLIER_SHARE = _gauge(
    "beliefstream_sensor_outlier_share",
    "Mean posterior probability of an outlier of the sensor, since its fault began if it has one",
    ["sensor"],
)
_NEWEST = _gauge(
    "beliefstream_sensor_newest_seconds",
    "Event time of the newest observation of the sensor, in steps of a 256th of BELIEFSTREAM_HEALTH_WINDOW",
    ["sensor"],
)
_DUE = _gauge(
    "beliefstream_sensor_due_seconds",
    "Event time by which the sensor must have reported again, or it counts as silent",
    ["sensor"],
)
_CLOCK = _gauge(
    "beliefstream_sensor_clock_seconds",
    "Lowest event time that the sensor's partitions have reached; it advances with this machine's clock while "
    "nothing is read",
    ["sensor"],
)
OTHER = "other"
MOST_SENSORS = 100  # sensors with their own series
FAULTY_VERDICTS = ("biased", "noisier", "quieter", "outliers", "lasting")
BROKER_REACHABLE.set(1)  # until it is known
_sensors: set[str] = set()


def count_implausible(sensor: str) -> None:
    """Count one implausible observation of this sensor."""
    _IMPLAUSIBLE.labels(sensor if has_series(sensor) else OTHER).inc()


def count_expected_outliers(sensor: str, number: float) -> None:
    """Count outliers that the definition of this sensor expects."""
    _EXPECTED_OUTLIERS.labels(sensor if has_series(sensor) else OTHER).inc(number)


def has_series(sensor: str) -> bool:
    """Whether the sensor is one of the first that have series of their own."""
    if len(_sensors) < MOST_SENSORS:
        _sensors.add(sensor)
    return sensor in _sensors


def set_sensor(
    sensor: str,
    *,
    verdict: str,
    noise_scale: float,
    outlier_share: float,
    newest: float,
    due: float,
    clock: Callable[[], float],
) -> None:
    """Set the health of a sensor that `has_series`; times are event times in seconds, that of `clock` when asked."""
    for fault in FAULTY_VERDICTS:
        _FAULTY.labels(sensor, fault).set(verdict == fault)
    _NOISE_SCALE.labels(sensor).set(noise_scale)
    _OUTLIER_SHARE.labels(sensor).set(outlier_share)
    _NEWEST.labels(sensor).set(newest)
    _DUE.labels(sensor).set(due)
    _CLOCK.labels(sensor).set_function(clock)


def remove_sensor(sensor: str) -> None:
    """Remove the health of a sensor, which another worker shows now."""
    for fault in FAULTY_VERDICTS:
        _FAULTY.remove(sensor, fault)
    for gauge in (_NOISE_SCALE, _OUTLIER_SHARE, _NEWEST, _DUE, _CLOCK):
        gauge.remove(sensor)


# create every series at the start, so that rates and ratios begin at 0 instead of at the first event
for _outcome in ("accepted", "rejected", "duplicate", "forgotten"):
    OBSERVATIONS.labels(_outcome)
for _reason in Reason:
    DEAD_LETTERS.labels(_reason.value)
for _method in get_args(Method):
    POSTERIORS.labels(_method)
for _fallback in get_args(MemoryFallback):
    OUT_OF_MEMORY.labels(_fallback)
_IMPLAUSIBLE.labels(OTHER)
_EXPECTED_OUTLIERS.labels(OTHER)
for _fault in ("emptied", "remade", "cut", "gone"):
    LOG_FAULTS.labels(_fault)


def begin(topics: Iterable[str]) -> None:
    """Create the series of these source topics at the start too."""
    for topic in topics:
        LOST_OFFSETS.labels(topic)


Memory = Callable[[], tuple[int, int]]
"""Free and all bytes of a GPU's memory, as `torch.cuda.mem_get_info` says them."""


class Machine(Collector):
    """A collector; what it does not know has no samples."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._memory: Memory | None = None

    def watch(self, directory: Path, memory: Memory | None = None) -> None:
        """Tell of the file system of that directory, and of a GPU if there is one."""
        self._directory, self._memory = directory, memory

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the system."""
        disk, gpu = self._disk(), None if self._memory is None else self._memory()
        told = (
            ("disk_free_bytes", "Free bytes of the file system of BELIEFSTREAM_DATA_DIRECTORY", disk, 0),
            ("disk_size_bytes", "All bytes of the file system of BELIEFSTREAM_DATA_DIRECTORY", disk, 1),
            (
                "gpu_memory_free_bytes",
                "Free bytes of the GPU's memory, which other processes share; none without a GPU",
                gpu,
                0,
            ),
            ("gpu_memory_size_bytes", "All bytes of the GPU's memory; none without a GPU", gpu, 1),
        )
        for name, text, sizes, place in told:
            family = GaugeMetricFamily(f"beliefstream_{name}", text)
            if sizes is not None:
                family.add_metric([], sizes[place])
            yield family

    def _disk(self) -> tuple[int, int] | None:
        """Free and all bytes; of the parent while the directory is not there yet."""
        if self._directory is None:
            return None
        directory = self._directory.absolute()
        for place in (directory, *directory.parents):
            try:
                usage = shutil.disk_usage(place)
            except FileNotFoundError:
                continue
            except OSError:
                return None
            return usage.free, usage.total
        return None


MACHINE = Machine()
REGISTRY.register(MACHINE)
