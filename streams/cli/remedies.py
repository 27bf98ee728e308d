"""Advice for each reason of a dead letter, and for wrong settings of topics."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from beliefstream.schemas import Reason

SENDER = "fix the sender"
REMEDIES: Mapping[Reason, str] = {
    Reason.too_large: f"{SENDER}, or raise BELIEFSTREAM_MAXIMUM_MESSAGE_BYTES; docs/definitions.md has other limits",
    Reason.not_json: f"{SENDER}: the value is one JSON object in UTF-8",
    Reason.invalid: f"{SENDER}: the detail names the field; `beliefstream contract` writes the JSON Schemas",
    Reason.not_finite: f"{SENDER}: it reports NaN or infinity; leave such observations out",
    Reason.invalid_time: f"{SENDER}: time is seconds since the epoch (not milliseconds), or RFC 3339 with an offset",
    Reason.invalid_covariance: f"{SENDER}: noise must be positive definite",
    Reason.key_mismatch: f"{SENDER}: the record's key is the entity (for a definition, the sensor or entity)",
    Reason.wrong_partition: f"{SENDER}: see docs/producers.md for the partitioner, then send them again",
    Reason.impossible: f"{SENDER}: the sensor cannot report such a value; or fix its definition",
    Reason.unknown_sensor: "define the sensor (beliefstream sensors set FILE), then send them again",
    Reason.unknown_entity: "define a model of the entity or of * (beliefstream models set FILE), then send them again",
    Reason.wrong_length: f"{SENDER}, or the sensor's definition: they disagree on the number of values",
    Reason.missing_coordinates: "the sensor needs coordinates that the entity's model lacks: change one of them",
    Reason.future: "set the sender's clock (NTP), or raise BELIEFSTREAM_FUTURE_TOLERANCE",
    Reason.late: "raise lateness_window of the model, or send sooner; check the senders' clocks",
    Reason.invalid_definition: "set the definition again; until then the previous one is used",
    Reason.numerical: f"{SENDER}: a belief cannot represent such numbers; check the sensor's noise too",
}
"""One line of advice for each reason."""


def remedy_for(reason: Reason) -> str:
    """Return the advice for a reason."""
    return REMEDIES.get(reason, "the detail says what is wrong")


TOPIC_REMEDIES: Mapping[str, str] = {
    "does not exist": "`beliefstream topics create` creates the missing topics",
    "may not be seen": "deploy/SECURITY.md lists the rights of each user; devices and consumers do not need all topics",
    "cleanup.policy": "set it: kafka-configs.sh --alter --topic NAME --add-config cleanup.policy=compact (the embedded "
    "broker: start it again, then create the topics)",
    "max.message.bytes": "set it: kafka-configs.sh --alter --topic NAME --add-config max.message.bytes=BYTES",
    "partition": "set BELIEFSTREAM_PARTITIONS to the topics' number of partitions, or delete those that differ (their "
    "records are lost) and create them again; adding partitions would move entities to other partitions",
}
"""Advice for problems of topics, by words in the problem."""


def remedy_for_topics(problems: Collection[str]) -> str:
    """Return the advice for problems found by `streams.kafka.topics.check`."""
    return "; ".join(
        remedy for words, remedy in TOPIC_REMEDIES.items() if any(words in each for each in problems)
    )
