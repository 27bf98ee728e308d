"""Runs all checks of `beliefstream doctor`."""

from __future__ import annotations

import email.utils
import json
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from importlib.metadata import version
from typing import TypeVar

from kafka.errors import KafkaError

from beliefstream.streams.cli.doctor.findings import NOT_READABLE, Finding, Status, absent, listed
from beliefstream.streams.cli.doctor.losses import examine_losses
from beliefstream.streams.cli.doctor.records import examine_records
from beliefstream.streams.cli.doctor.sensors import examine_sensor_health
from beliefstream.streams.cli.doctor.topics import examine_dead_letters, examine_topics, missing_topics
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.setup import EXTRAS, opened
from beliefstream.streams.client import Registry
from beliefstream.streams.kafka.connection import refusal
from beliefstream.streams.kafka.security import SecurityError
from beliefstream.streams.settings import Settings

__all__ = ["Finding", "Status", "examine"]

T = TypeVar("T")

TIMEOUT = 3.0  # seconds; a running worker answers in milliseconds
SKEW = 2.0  # seconds; the HTTP date has whole seconds, and the answer takes time


def examine(settings: Settings, worker_urls: Sequence[str]) -> Iterator[Finding]:
    """Run all checks and yield each finding as it is made."""
    broker = examine_broker(settings)
    missing: Collection[str] | None = None
    yield broker
    if broker.status is Status.ok:
        topics = examine_topics(settings)
        yield topics
        # a problem with one topic must not hide findings about another
        missing = frozenset() if topics.status is Status.ok else missing_topics(settings)
        yield from examine_definitions(settings, missing)
        yield examine_measurements(settings, missing)
        yield examine_sensor_health(settings, missing)
        yield from examine_records(settings, missing)
        yield examine_dead_letters(settings, missing)
    else:
        subjects = (
            "topics, models, sensors, measurements, sensor-health, partitioner, clocks, group, dead-letters"
        )
        yield Finding(subjects, Status.skipped, "no broker answers")
    yield from examine_install(settings)
    for url in worker_urls:
        yield from examine_worker(url)
    yield from examine_losses(settings, worker_urls, missing)


def examine_broker(settings: Settings) -> Finding:
    """Check that the broker answers."""
    from beliefstream.streams.local.broker import ask_for_metadata

    try:
        options = settings.client_options
    except SecurityError as error:
        return Finding("broker", Status.problem, str(error), "the file must be readable and in PEM format")
    reasons = []
    for server in settings.brokers.split(","):
        try:
            ask_for_metadata(server, **options)
        except (OSError, ValueError, KafkaError) as error:
            reasons.append(f"{server}: {refusal(server, options) or error or type(error).__name__}")
        else:
            return Finding("broker", Status.ok, f"answers at {server}")
    remedy = "start one (beliefstream broker), or name another with --brokers or BELIEFSTREAM_BROKERS"
    return Finding("broker", Status.problem, f"none answers: {'; '.join(reasons)}", remedy)


def examine_definitions(settings: Settings, missing: Collection[str] = frozenset()) -> Iterator[Finding]:
    """Check that there are models and sensors; skipped if the topic is among the `missing`."""
    registry = opened(Registry, settings, settings.names.sensors, settings.names.models)
    for subject, topic, read in (
        ("models", settings.names.models, registry.models),
        ("sensors", settings.names.sensors, registry.sensors),
    ):
        if topic in missing:
            yield Finding(subject, Status.skipped, absent(topic))
            continue
        try:
            found = sorted(read())
        except NOT_READABLE as error:
            remedy = "beliefstream topics check; deploy/SECURITY.md lists the rights of each user"
            yield Finding(subject, Status.problem, str(error), remedy)
            continue
        if found:
            yield Finding(subject, Status.ok, listed(found))
        else:
            remedy = f"beliefstream {subject} set FILE; beliefstream simulate defines some too"
            yield Finding(
                subject, Status.problem, "none is defined: every observation becomes a dead letter", remedy
            )


def examine_measurements(settings: Settings, missing: Collection[str] = frozenset()) -> Finding:
    """Check that the measurement functions of sensors of kind `own`, and the problems of kind `learned`, are found.

    It needs a broker that answers.
    """
    try:
        from beliefstream.inference.likelihood.measurement_functions import find
        from beliefstream.streams.definitions import own_code

        loaded = own_code.load(settings.measurements)
    except ModuleNotFoundError as error:
        return Finding("measurements", Status.skipped, f"{error.name} is missing")
    except ValueError as error:
        return Finding("measurements", Status.problem, str(error), "name modules that a worker can import")
    if settings.names.sensors in missing:
        return Finding("measurements", Status.skipped, absent(settings.names.sensors))
    registry = opened(Registry, settings, settings.names.sensors, settings.names.models)
    try:
        sensors = registry.sensors()
    except NOT_READABLE as error:
        return Finding("measurements", Status.skipped, f"sensors cannot be read: {error}")
    wanted = {name: sensor.measurement for name, sensor in sensors.items() if sensor.kind == "own"}
    likelihoods = {
        name: (sensor.problem, sensor.weights, sensor.sha256)
        for name, sensor in sensors.items()
        if sensor.kind == "learned"
    }
    faults = _faults(wanted, find) + _faults(likelihoods, lambda named: own_code.learned(*named))
    if faults:
        remedy = f"name the module that registers it in {own_code.SETTING}, here and for the workers"
        return Finding("measurements", Status.problem, "; ".join(faults[:3]), remedy)
    found = f"{', '.join(loaded)}; " if loaded else ""
    more = f", of kind learned: {len(likelihoods)}" if likelihoods else ""
    return Finding("measurements", Status.ok, f"{found}sensors of kind own: {len(wanted)}{more}")


def _faults(wanted: Mapping[str, T], find: Callable[[T], object]) -> list[str]:
    """Why what a sensor names, by the sensor's name, is not found."""
    faults = []
    for name, target in sorted(wanted.items()):
        try:
            find(target)
        except ValueError as error:
            faults.append(f"sensor {name}: {error}")
    return faults


def examine_install(settings: Settings) -> Iterator[Finding]:
    """Say which extras are installed; check what a worker needs if a part of the extra `worker` is there."""
    extras = [extra for extra, modules in EXTRAS.items() if all(map(PathFinder.find_spec, modules))]
    what = f"beliefstream {version('beliefstream')}, Python {platform.python_version()}"
    yield Finding("install", Status.ok, f"{what}, extras: {', '.join(extras) or 'none'}")
    if any(map(PathFinder.find_spec, ("faust", "numba", "torch"))):
        yield examine_device(settings)
        yield examine_weights(settings)
        yield examine_native_code()
    else:
        remedy = "for a worker: pip install 'beliefstream[worker]'"
        yield Finding("device, weights, native-code", Status.skipped, "only a worker needs them", remedy)


def examine_device(settings: Settings) -> Finding:
    """Check that the network can run on the configured device."""
    try:
        import torch

        from beliefstream.inference.update.devices import choose_device

        device = choose_device(settings.device)
    except ModuleNotFoundError as error:
        return Finding(
            "device", Status.problem, f"{error.name} is missing", "pip install 'beliefstream[worker]'"
        )
    except RuntimeError as error:
        return Finding("device", Status.problem, str(error), "BELIEFSTREAM_DEVICE=auto or cpu")
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{settings.threads} of the CPU's threads"
    )
    return Finding("device", Status.ok, f"{device.type}, {name}, PyTorch {torch.__version__}")


def examine_weights(settings: Settings) -> Finding:
    """Check that the weights can be loaded."""
    try:
        from beliefstream.inference.network.weights import load

        network = load(settings.weights)
    except ModuleNotFoundError as error:
        return Finding("weights", Status.skipped, f"{error.name} is missing")
    except (OSError, ValueError) as error:
        remedy = "BELIEFSTREAM_WEIGHTS is the name of shipped weights or a .safetensors file"
        return Finding("weights", Status.problem, str(error), remedy)
    count = sum(parameter.numel() for parameter in network.parameters())
    return Finding("weights", Status.ok, f"{settings.weights}, {count:,} parameters")


def examine_native_code() -> Finding:
    """Say which processors the worker's code is compiled for, and whether it is compiled already."""
    try:
        from beliefstream.inference.mixtures.native import IS_PORTABLE, processor
    except ModuleNotFoundError as error:
        remedy = "pip install 'beliefstream[worker]'"
        return Finding("native-code", Status.problem, f"{error.name} is missing", remedy)
    where = processor() if IS_PORTABLE else f"this processor ({processor()}) only, at the first start"
    return Finding("native-code", Status.ok, f"compiled by Numba {version('numba')} for {where}")


def examine_worker(url: str) -> Iterator[Finding]:
    """Check that a worker runs and is ready, and compare its clock with ours; Kafka does not report a broker's."""
    request = urllib.request.Request(f"{url.rstrip('/')}/readyz")
    try:
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            answer = error  # the worker is not ready, and the answer says what it waits for
        with answer:
            body = json.loads(answer.read())
            date = answer.headers.get("Date")
            status = answer.status
        waits = body["waiting_for"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = f"none answers at {url}: {getattr(error, 'reason', error)}"
        yield Finding("worker", Status.skipped, detail, "beliefstream worker starts one")
        yield Finding("clock", Status.skipped, "only a worker reports its time")
        return
    if status == 200:
        yield Finding(
            "worker", Status.ok, f"ready at {url}, {counted(len(body.get('assigned', ())), 'partition')}"
        )
    else:
        remedy = "wait; if this lasts, look at the worker's log"
        yield Finding("worker", Status.problem, f"not ready: {', '.join(waits)}", remedy)
    yield _clock(date)


def _clock(date: str | None) -> Finding:
    if date is None:
        return Finding("clock", Status.skipped, "the worker did not report its time")
    skew = time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    # the header has whole seconds, rounded down
    if abs(skew - 0.5) <= SKEW:
        return Finding("clock", Status.ok, "agrees with the worker's")
    detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the worker's"
    return Finding("clock", Status.problem, detail, "synchronise both clocks (NTP)")
