"""Checks the health of sensors for faults, and says which fit corrects them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from beliefstream.streams.cli.doctor.findings import (
    NOT_READABLE,
    Finding,
    Status,
    absent,
    listed,
    not_readable,
)
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.setup import opened
from beliefstream.streams.client import Registry
from beliefstream.streams.settings import Settings

SUBJECT = "sensor-health"
LASTING = (
    "state the total deviation, which sensors correct SENSOR proposes; then beliefstream sensors fit, which fits "
    "errors that last: docs/how-wrong-is-my-sensor.md"
)
OTHERS = "beliefstream sensors list --health, and sensors correct SENSOR for the first: docs/sensor-health.md"


def examine_sensor_health(settings: Settings, missing: Collection[str] = frozenset()) -> Finding:
    """Report sensors whose observations do not fit their present definitions; skipped without the topics."""
    from beliefstream.schemas.sensor_health import digest_of
    from beliefstream.streams.client.sensor_health import read_sensor_health

    for topic in (settings.names.sensor_health, settings.names.sensors):
        if topic in missing:
            return Finding(SUBJECT, Status.skipped, absent(topic))
    try:
        defined = opened(Registry, settings, settings.names.sensors, settings.names.models).sensors()
        states = opened(read_sensor_health, settings, settings.names.sensor_health)
    except NOT_READABLE as error:
        return not_readable(SUBJECT, "the health of sensors", error)
    judged, verdicts = 0, defaultdict[str, list[str]](list)
    for name, state in sorted(states.items()):
        if name in defined and state.definition == digest_of(defined[name]):
            judged += 1
            verdicts[state.assessment.verdict].append(name)
    faulty = {verdict: names for verdict, names in verdicts.items() if verdict not in ("healthy", "unknown")}
    if not faulty:
        return Finding(SUBJECT, Status.ok, f"{counted(judged, 'sensor')} judged, none at fault")
    detail = "; ".join(f"{verdict}: {listed(names)}" for verdict, names in sorted(faulty.items()))
    return Finding(SUBJECT, Status.problem, detail, LASTING if "lasting" in faulty else OTHERS)
