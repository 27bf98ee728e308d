"""Checks the topics at the broker."""

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
        there = f"all exist, {settings.partitions} partitions"
        if compressed:
            there += f"; only workers unpack compressed batches (deploy/SECURITY.md): {', '.join(compressed)}"
        return Finding("topics", Status.ok, there)
    return Finding("topics", Status.problem, " ".join(problems), remedy_for_topics(problems))


def missing_topics(settings: Settings) -> frozenset[str]:
    """Return the topics that do not exist, or that this user may not see; empty if the broker lists none."""
    try:
        with administration(settings.brokers, settings.client_options) as admin:
            described = admin.describe_topics(list(settings.names))
    except TopicError:
        return frozenset()
    return frozenset(topic["name"] for topic in described if topic["error_code"] != 0)


def kept_compressed(settings: Settings) -> list[str]:
    """Return topics whose compressed batches the broker does not unpack before workers read them; raises TopicError.

    This is fine if every sender is trusted. So `check` does not report it, and workers start.
    """
    names = settings.names
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names.read_by_workers]
    with administration(settings.brokers, settings.client_options) as admin:
        found = admin.describe_configs(resources, config_filter="all").get("topic", {})
    kept = {name: entries.get("compression.type", {}).get("value") for name, entries in found.items()}
    return [name for name in names.read_by_workers if kept.get(name) != UNPACKED]
