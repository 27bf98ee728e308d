"""Checks that a worker has the permissions it needs; without them Faust retries for ever and logs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from beliefstream.streams.kafka.topics import TopicNames, administration

__all__ = ["missing_rights"]


def missing_rights(bootstrap_servers: str, names: TopicNames, group: str, **kafka_options: Any) -> list[str]:
    """Return the permissions that a worker lacks on its topics and its group, a sentence each.

    A broker without an authoriser allows everything. Missing topics are not reported.

    Args:
        bootstrap_servers: `host:port[,host:port...]`.
        names: the topics' names.
        group: the consumer group.
        kafka_options: options of `kafka.KafkaAdminClient`.

    Raises:
        TopicError: the broker does not answer.
    """
    with administration(bootstrap_servers, kafka_options) as admin:
        described = {topic["name"]: topic for topic in admin.describe_topics(list(names))}
        return [*_of_topics(names, described), *_of_group(admin, group)]


def _of_topics(names: TopicNames, described: Mapping[str, Any]) -> Iterator[str]:
    reads = {names.observations, names.priors, names.sensors, names.models, names.beliefs_changelog}
    writes = {names.posteriors, names.dead_letters, names.sensor_health, names.beliefs_changelog}
    for name in names:
        allowed = described.get(name, {}).get("authorized_operations")
        if described.get(name, {}).get("error_code") == TopicAuthorizationFailedError.errno:
            allowed = ()
        if allowed is None:
            continue
        needed = ["READ"] * (name in reads) + ["WRITE"] * (name in writes) + ["DESCRIBE_CONFIGS"]
        if lacking := [operation for operation in needed if operation not in allowed]:
            yield f"No right to {', '.join(lacking)} on the topic {name!r}."


def _of_group(admin: Any, group: str) -> Iterator[str]:
    try:
        allowed = admin.describe_groups([group])[group].get("authorized_operations")
    except GroupAuthorizationFailedError:
        allowed = ()
    except KafkaError:  # it has no coordinator yet: a new broker creates it when first asked
        return
    if allowed is not None and "READ" not in allowed:
        yield f"No right to READ on the group {group!r}."
