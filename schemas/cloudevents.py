"""CloudEvents 1.0 headers in the binary mode of the Kafka binding: attributes in headers, the message in the value.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from beliefstream.schemas.base import printable
from beliefstream.schemas.time import to_rfc3339

OBSERVATION = "org.beliefstream.observation.v1"
SENSOR = "org.beliefstream.sensor.v1"
MODEL = "org.beliefstream.model.v1"
PRIOR = "org.beliefstream.prior.v1"
RESET = "org.beliefstream.reset.v1"
POSTERIOR = "org.beliefstream.posterior.v1"
REPLAY = "org.beliefstream.replay.v1"
SENSOR_HEALTH = "org.beliefstream.sensor-health.v1"

_PREFIX = "ce_"
_SPECVERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")


def headers(type: str, source: str, id: str, time: float) -> list[tuple[str, bytes]]:
    """Make the CloudEvents headers of one record.

    Args:
        type: type of the record, such as `OBSERVATION`.
        source: URI reference of the sender.
        id: identifier, unique among the records of the source.
        time: time of the event, in seconds since the epoch.
    """
    origin, kind = _constant(source, type)
    return [
        _SPECVERSION,
        ("ce_id", id.encode()),
        origin,
        kind,
        ("ce_time", to_rfc3339(time).encode()),
        _CONTENT_TYPE,
    ]


@functools.lru_cache(1024)
def _constant(source: str, type: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """The headers that nearly all records of a program have alike."""
    return ("ce_source", source.encode()), ("ce_type", type.encode())


def parse(headers: Iterable[tuple[str, bytes | None]] | None) -> dict[str, str]:
    """Return the CloudEvents attributes of a record by name (`id`, `source`, `type`, `datacontenttype`, ...).

    Values are untrusted; characters that are not printable are escaped.
    """
    attributes = {}
    for name, content in headers or ():
        text = printable((content or b"").decode(errors="replace"))
        if name.startswith(_PREFIX):
            attributes[printable(name.removeprefix(_PREFIX))] = text
        elif name.lower() == "content-type":
            attributes["datacontenttype"] = text
    return attributes
