"""Checks the topics themselves at the broker."""

from __future__ import annotations

from kafka.admin import ConfigResource, ConfigResourceType

from beliefstream.streams.cli.doctor.findings import Finding, Status
from beliefstream.streams.cli.remedies import remedy_for_topics
from beliefstream.streams.kafka.topics import UNPACKED, TopicError, administration, check
from beliefstream.streams.settings import Settings


def examine_topics(settings: Settings) -> Finding:
    """Check that the topics exist and have the right settings."""
    place, options = (settings.brokers, settings.names), settings.client_options
    try:
        problems = check(*place, partitions=settings.partitions, **options)
        compressed = [] if problems else kept_compressed(settings)
    except TopicError as error:
        return Finding("topics", Status.problem, str(error), "look at the broker's log")
    if not problems:
        there = f"all there, {settings.partitions} partitions"
        if compressed:
            there += f"; what is compressed is unpacked by workers only (deploy/SECURITY.md): {', '.join(compressed)}"
        return Finding("topics", Status.ok, there)
    return Finding("topics", Status.problem, " ".join(problems), remedy_for_topics(problems))


def missing_topics(settings: Settings) -> frozenset[str]:
    """The topics that do not exist, or are not visible to this user; empty if the broker lists none."""
    try:
        with administration(settings.brokers, settings.client_options) as admin:
            described = admin.describe_topics(list(settings.names))
    except TopicError:
        return frozenset()
    return frozenset(topic["name"] for topic in described if topic["error_code"] != 0)


def kept_compressed(settings: Settings) -> list[str]:
    """Topics that workers read and whose compressed batches the broker does not unpack first; raises TopicError.

    This is fine if every sender is trusted: `check` does not report it, and workers start.
    """
    names = settings.names
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names.read_by_workers]
    with administration(settings.brokers, settings.client_options) as admin:
        found = admin.describe_configs(resources, config_filter="all").get("topic", {})
    kept = {name: entries.get("compression.type", {}).get("value") for name, entries in found.items()}
    return [name for name in names.read_by_workers if kept.get(name) != UNPACKED]
