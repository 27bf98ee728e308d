"""Names, creates and checks the topics, and the rights on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from beliefstream.streams.kafka.connection import connect

PARTITIONS = 8
# `max.message.bytes` of every topic. With Kafka's own limit of 1 MiB, a prior of 256 components in 16 coordinates would
# not fit, nor would a belief with its history. The producer refuses larger messages, so an oversized observation would
# be lost at its sender. With 12 MiB an observation of 10 MB arrives, and becomes a dead letter that an operator sees.
MESSAGE_BYTES = 12 * 1024 * 1024
# A dead letter is the original with some headers: every message that `observations` accepts must fit.
DEAD_LETTER_BYTES = MESSAGE_BYTES + 1024 * 1024
RETENTION = timedelta(days=7)
DEAD_LETTER_RETENTION = timedelta(days=30)
# The log cleaner does not compact a partition's newest segment, and a worker that takes over reads all of it. 64 MiB
# instead of 1 GiB bounds that time.
CHANGELOG_SEGMENT_BYTES = 64 * 1024 * 1024
UNPACKED = "uncompressed"  # `compression.type`
REQUEST_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_MS = 5_000


class TopicError(RuntimeError):
    """A topic could not be created, or the broker did not answer."""


@dataclass(frozen=True)
class TopicNames:
    """Names of the topics.

    Attributes:
        beliefs_changelog: given by Faust: `<app id>-<table name>-changelog`; see `for_app`.
    """

    observations: str = "observations"
    sensors: str = "sensors"
    models: str = "models"
    priors: str = "priors"
    posteriors: str = "posteriors"
    dead_letters: str = "dead-letters"
    sensor_health: str = "sensor-health"
    beliefs_changelog: str = "beliefstream-beliefs-changelog"

    @classmethod
    def for_app(cls, app_id: str, table: str = "beliefs", **names: str) -> Self:
        """Return the names for a Faust app, whose table gives the changelog its name; other names by keyword."""
        return cls(beliefs_changelog=f"{app_id}-{table}-changelog", **names)

    def __iter__(self) -> Iterator[str]:
        return (getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def partitioned_alike(self) -> tuple[str, ...]:
        """Topics whose partitions n belong to the same worker; they need the same number of partitions."""
        return (self.observations, self.priors, self.posteriors, self.sensor_health, self.beliefs_changelog)

    @property
    def compacted(self) -> tuple[str, ...]:
        """Topics that keep the last value of every key for ever."""
        return self.sensors, self.models, self.sensor_health, self.beliefs_changelog

    @property
    def unpartitioned(self) -> tuple[str, ...]:
        """Topics with one partition, which every worker reads completely."""
        return self.sensors, self.models

    @property
    def read_by_workers(self) -> tuple[str, ...]:
        """Topics to which others write, and which workers read."""
        return self.observations, self.priors, self.sensors, self.models


def create(
    bootstrap_servers: str,
    names: TopicNames | None = None,
    *,
    partitions: int = PARTITIONS,
    replication: int = 1,
    retention: timedelta = RETENTION,
    dead_letter_retention: timedelta = DEAD_LETTER_RETENTION,
    **kafka_options: Any,
) -> list[str]:
    """Create the topics that do not exist yet; existing topics are not changed (see `check`).

    Args:
        bootstrap_servers: `host:port[,host:port...]`.
        names: the topics' names.
        partitions: of all topics except `sensors` and `models`, which have one.
        replication: copies of each partition. With three or more, a record is acknowledged when two copies have it.
        retention: how long observations, priors and posteriors are kept.
        dead_letter_retention: how long dead letters are kept.
        kafka_options: options of `kafka.KafkaAdminClient`, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Returns:
        The names of the created topics, in the order of `names`.

    Raises:
        TopicError: the broker does not answer, or refuses (with its message).
    """
    names = names or TopicNames()
    wanted = [
        NewTopic(
            name,
            num_partitions=1 if name in names.unpartitioned else partitions,
            replication_factor=replication,
            topic_configs=settings(names, name, replication, retention, dead_letter_retention),
        )
        for name in names
    ]
    with administration(bootstrap_servers, kafka_options) as admin:
        answer = admin.create_topics(wanted, raise_errors=False)
        outcomes = {topic["name"]: topic for topic in answer["topics"]}
        created = [name for name in names if outcomes[name]["error_code"] == 0]
        refused = [
            f"{name}: {outcomes[name]['error_message'] or for_code(outcomes[name]['error_code']).__name__}"
            for name in names
            if outcomes[name]["error_code"] not in (0, TopicAlreadyExistsError.errno)
        ]
        if refused:
            raise TopicError("Topics could not be created: " + "; ".join(refused))
        admin.wait_for_topics(list(names), timeout_ms=REQUEST_TIMEOUT_MS)
    return created


def settings(
    names: TopicNames, name: str, replication: int, retention: timedelta, dead_letter_retention: timedelta
) -> dict[str, str]:
    """The topic's settings, in the broker's form."""
    chosen: dict[str, object] = {"max.message.bytes": MESSAGE_BYTES}
    if name in names.compacted:
        chosen["cleanup.policy"] = "compact"
    else:
        chosen["cleanup.policy"] = "delete"
        chosen["retention.ms"] = round(retention.total_seconds() * 1000)
    if name in names.read_by_workers:
        # The broker unpacks compressed batches and applies max.message.bytes to the result. Clients would unpack
        # batches of any size.
        chosen["compression.type"] = UNPACKED
    if name in (names.observations, names.priors):
        # The broker stamps each record. So a check for times in the future has the same result at every reading.
        chosen["message.timestamp.type"] = "LogAppendTime"
    if name == names.beliefs_changelog:
        chosen["segment.bytes"] = CHANGELOG_SEGMENT_BYTES
    if name == names.dead_letters:
        chosen["max.message.bytes"] = DEAD_LETTER_BYTES
        chosen["retention.ms"] = round(dead_letter_retention.total_seconds() * 1000)
    if replication >= 3:
        chosen["min.insync.replicas"] = 2
    return {setting: str(value) for setting, value in chosen.items()}


def check(
    bootstrap_servers: str,
    names: TopicNames | None = None,
    *,
    partitions: int | None = PARTITIONS,
    **kafka_options: Any,
) -> list[str]:
    """Return the problems with the topics at this broker, a sentence each.

    Args:
        partitions: the expected number; None for any number that is the same everywhere; the others are as in `create`.

    Raises:
        TopicError: the broker does not answer.
    """
    names = names or TopicNames()
    with administration(bootstrap_servers, kafka_options) as admin:
        described = admin.describe_topics(list(names))
        counts = {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in counts]
        # By default the answer leaves out every value that equals the broker's default.
        answer = admin.describe_configs(resources, config_filter="all") if resources else {}
    found = {
        name: {setting: str(entry["value"]) for setting, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }
    hidden = {t["name"] for t in described if t["error_code"] == TopicAuthorizationFailedError.errno}
    missing = [
        f"The topic {name!r} {'may not be seen by this user' if name in hidden else 'does not exist'}."
        for name in names
        if name not in counts
    ]
    return [
        *missing,
        *partition_problems(names, counts, partitions),
        *compaction_problems(names, found),
        *size_problems(names, found),
    ]


def topic_id(bootstrap_servers: str, name: str, **kafka_options: Any) -> str:
    """Return the broker's id of a topic, which changes if it is deleted and created again; raises TopicError."""
    with administration(bootstrap_servers, kafka_options) as admin:
        (described,) = admin.describe_topics([name])
    if described["error_code"] != 0:
        raise TopicError(f"The topic {name!r} does not exist.")
    return str(described["topic_id"])


def partition_problems(names: TopicNames, counts: Mapping[str, int], partitions: int | None) -> Iterator[str]:
    for name, count in counts.items():
        wanted = 1 if name in names.unpartitioned else partitions
        if wanted is not None and count != wanted:
            yield f"The topic {name!r} has {count} partition{'s' * (count != 1)} instead of {wanted}."
    alike = {name: counts[name] for name in names.partitioned_alike if name in counts}
    if len(set(alike.values())) > 1:
        listed = ", ".join(f"{name!r} {count}" for name, count in alike.items())
        yield (
            "One worker must own an entity's observations, priors, posteriors and belief, and its sensors' health, so "
            f"these topics need the same number of partitions: {listed}."
        )
    if counts.get(names.dead_letters, partitions or 0) < counts.get(names.observations, 0):
        yield (
            f"The topic {names.dead_letters!r} has fewer partitions than {names.observations!r}: a dead "
            "letter goes to the partition of its source record."
        )


def compaction_problems(names: TopicNames, found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for name in names.compacted:
        policy = found.get(name, {"cleanup.policy": "compact"}).get("cleanup.policy", "delete")
        if policy != "compact":
            yield (
                f"The topic {name!r} has cleanup.policy={policy} instead of compact: its records would be "
                "deleted by age."
            )


def size_problems(names: TopicNames, found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    sizes = {name: int(found.get(name, {}).get("max.message.bytes", MESSAGE_BYTES)) for name in names}
    for name in names:
        if sizes[name] < MESSAGE_BYTES:
            yield (
                f"The topic {name!r} accepts messages up to {sizes[name]} bytes (max.message.bytes) instead of "
                f"{MESSAGE_BYTES}."
            )
    if names.dead_letters in found and sizes[names.dead_letters] <= sizes[names.observations]:
        yield (
            f"The topic {names.dead_letters!r} accepts no larger messages than {names.observations!r} "
            "(max.message.bytes): a dead letter is the original with some headers."
        )


@contextmanager
def administration(bootstrap_servers: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """An admin client that raises its errors as TopicError."""
    chosen = {"request_timeout_ms": REQUEST_TIMEOUT_MS, "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS, **options}
    try:
        admin = connect(KafkaAdminClient, bootstrap_servers, chosen)
    except (KafkaError, OSError, ValueError) as error:
        raise TopicError(str(error)) from error
    try:
        yield admin
    except KafkaError as error:
        raise TopicError(f"The broker at {bootstrap_servers} refused: {error}") from error
    finally:
        admin.close()


def missing_rights(bootstrap_servers: str, names: TopicNames, group: str, **kafka_options: Any) -> list[str]:
    """Return the permissions that a worker lacks on its topics and its group, a sentence each.

    A broker without an authoriser allows everything. Missing topics are not reported.

    Args:
        group: the consumer group; the others are as in `create`.

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
        needed: Kafka's operations, such as `WRITE`, by topic.
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
