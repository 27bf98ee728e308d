"""Checks that a worker or a bridge has the permissions it needs: clients retry for ever, and Faust logs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from beliefstream.streams.kafka.topics import TopicNames, administration

__all__ = ["missing_rights", "missing_topic_rights"]


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
        return [*_of_topics(_of_a_worker(names), described), *_of_group(admin, group)]


def missing_topic_rights(
    bootstrap_servers: str, needed: Mapping[str, Sequence[str]], **kafka_options: Any
) -> list[str]:
    """Return the permissions that this user lacks, a sentence for each topic; otherwise as `missing_rights`.

    Args:
        bootstrap_servers: `host:port[,host:port...]`.
        needed: Kafka's operations, such as `WRITE`, by topic.
        kafka_options: options of `kafka.KafkaAdminClient`.
    """
    with administration(bootstrap_servers, kafka_options) as admin:
        described = {topic["name"]: topic for topic in admin.describe_topics(list(needed))}
    return list(_of_topics(needed, described))


def _of_a_worker(names: TopicNames) -> dict[str, list[str]]:
    reads = {names.observations, names.priors, names.sensors, names.models, names.beliefs_changelog}
    writes = {names.posteriors, names.dead_letters, names.sensor_health, names.beliefs_changelog}
    return {
        name: ["READ"] * (name in reads) + ["WRITE"] * (name in writes) + ["DESCRIBE_CONFIGS"]
        for name in names
    }


def _of_topics(needed: Mapping[str, Sequence[str]], described: Mapping[str, Any]) -> Iterator[str]:
    for name, operations in needed.items():
        allowed = described.get(name, {}).get("authorized_operations")
        if described.get(name, {}).get("error_code") == TopicAuthorizationFailedError.errno:
            allowed = ()
        if allowed is None:
            continue
        if lacking := [operation for operation in operations if operation not in allowed]:
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
