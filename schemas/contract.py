"""Generates the contract of the topics from the messages: JSON Schemas and an AsyncAPI 3.0.0 document.

`python -m beliefstream.schemas.contract DIRECTORY` writes the files. The document describes the service: what it
receives from producers and operators, and the posteriors, dead letters and health of sensors that it sends.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from beliefstream.schemas.base import Message
from beliefstream.schemas.beliefs.posterior import Posterior
from beliefstream.schemas.beliefs.prior import Prior, Reset
from beliefstream.schemas.dead_letter import HEADERS, OPTIONAL_HEADERS, DeadLetter, Replay
from beliefstream.schemas.model import Model
from beliefstream.schemas.observation import Observation
from beliefstream.schemas.sensor_health import SensorHealth
from beliefstream.schemas.sensors.parsing import KINDS, sensor_adapter

HASH = "murmur2"
FORMULA = "(murmur2(key) & 0x7fffffff) % partitions"
RULE = (
    f"The record's key is the entity in UTF-8, and its partition is {FORMULA}, as with Java's default partitioner. "
    "A record without a key, or in another partition, becomes a dead letter."
)
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FORMAT = "application/schema+json;version=2020-12"
_BINDING = "0.5.0"  # version of AsyncAPI's Kafka bindings
_PARTITIONS = 8
_PARTITIONER = "x-partitioner"
_VALIDATION: JsonSchemaMode = "validation"


CLIENTS = {
    "Java": 'producer.send(new ProducerRecord<>("observations", "mower", json)); // the default partitioner',
    "kafka-python": 'KafkaProducer().send("observations", key=b"mower", value=json)  # the default partitioner',
    "aiokafka": 'await producer.send("observations", key=b"mower", value=json)  # the default partitioner',
    "confluent-kafka and all clients of librdkafka": (
        'Producer({"partitioner": "murmur2_random"})  # not its default'
    ),
    "kcat": "kcat -P -b HOST:PORT -t observations -K '|' -X topic.partitioner=murmur2_random",
    "Go, franz-go": "kgo.NewClient(kgo.SeedBrokers(brokers...)) // the default partitioner",
    "Go, kafka-go": "&kafka.Writer{Balancer: kafka.Murmur2Balancer{}} // not its default",
    "Go, Sarama": (
        "config.Producer.Partitioner = sarama.NewCustomPartitioner(sarama.WithAbsFirst(), "
        "sarama.WithCustomHashFunction(newMurmur2)) // not its default; docs/producers.md has newMurmur2"
    ),
}
"""How to make each Kafka client follow the rule: code, or an option."""


def partitioner() -> dict[str, Any]:
    """Return the rule as the extension `x-partitioner` of the contract.

    One worker owns partition n of `observations`, `priors` and the beliefs. Records of one entity in two partitions
    would give it two beliefs. So all producers must choose the partition by the same hash of the key.
    """
    return {
        "key": "entity",
        "hash": HASH,
        "partition": FORMULA,
        "description": RULE,
        "clients": CLIENTS,
    }


Schema = dict[str, Any]
LETTERS = "dead-letters"
# without sensors, of which there are kinds, and dead letters, which are bytes
_MESSAGES: dict[str, type[Message]] = {
    "observation": Observation,
    "model": Model,
    "prior": Prior,
    "reset": Reset,
    "posterior": Posterior,
    "replay": Replay,
    "sensor_health": SensorHealth,
}


@dataclass(frozen=True)
class Topic:
    """One topic of the contract with one of its messages."""

    address: str
    message: str
    action: Literal["receive", "send"]
    key: str
    description: str
    compacted: bool = False
    partitioned: bool = True  # whether it has as many partitions as observations
    by_key: bool = False  # whether senders must choose partitions by `RULE`

    @property
    def event(self) -> str | None:
        """The type in the CloudEvents headers; a dead letter has none."""
        return (
            None if self.message == "dead_letter" else f"org.beliefstream.{self.message.replace('_', '-')}.v1"
        )


_TOPICS = (
    Topic("observations", "observation", "receive", "the entity", "Reports of sensors.", by_key=True),
    Topic("sensors", "sensor", "receive", "the sensor", "Sensor definitions.", True, False),
    Topic("models", "model", "receive", "the entity, or *", "Entity models.", True, False),
    Topic("priors", "prior", "receive", "the entity", "Priors stated by operators.", by_key=True),
    Topic("priors", "reset", "receive", "the entity", "Entities to forget.", by_key=True),
    Topic("posteriors", "posterior", "send", "the entity", "Beliefs after updates."),
    Topic(
        LETTERS, "dead_letter", "send", "the original key", "Unusable messages, with their original bytes."
    ),
    Topic(LETTERS, "replay", "send", "none", "Notes of dead letters that were sent again."),
    Topic(
        "sensor-health",
        "sensor_health",
        "send",
        "the sensor",
        "Health of each sensor in each partition.",
        True,
    ),
)


def json_schemas() -> dict[str, Schema]:
    """Return a self-contained JSON Schema (2020-12) for each message; for a dead letter, the schema of its headers."""
    schemas = {name: message.model_json_schema(mode=_VALIDATION) for name, message in _MESSAGES.items()}
    schemas["sensor"] = {"title": "Sensor", **sensor_adapter.json_schema(mode=_VALIDATION)}
    schemas["dead_letter"] = _dead_letter_headers()
    for topic in _TOPICS:
        if topic.by_key:
            schemas[topic.message] |= {_PARTITIONER: partitioner()}
    return {name: {"$schema": _DIALECT, **_plain(schemas[name])} for name in sorted(schemas)}


def asyncapi() -> Schema:
    """Return the AsyncAPI 3.0.0 document of all topics."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Beliefstream",
            "version": "1.0.0",
            "description": "A stream of Bayesian updates: observations in, posteriors out. Times are seconds "
            "since the epoch (UTC) or RFC 3339. CloudEvents headers (binary mode) are optional.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.address: _channel(topic.address) for topic in _TOPICS},
        "operations": {f"{topic.action}_{topic.message}": _operation(topic) for topic in _TOPICS},
        "components": {
            "schemas": _component_schemas(),
            "messages": {topic.message: _message(topic) for topic in _TOPICS},
        },
    }


def documents() -> dict[str, str]:
    """Return the text of each generated file, by file name."""
    contents = {f"{name}.schema.json": schema for name, schema in json_schemas().items()}
    contents["asyncapi.json"] = asyncapi()
    return {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}


def write(directory: Path | str) -> list[Path]:
    """Write the contract into a directory, created if missing; returns the files."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in documents().items():
        (target / name).write_text(text, encoding="utf-8")
        written.append(target / name)
    return written


def _channel(address: str) -> Schema:
    topics = [topic for topic in _TOPICS if topic.address == address]
    topic = topics[0]
    description = " ".join(each.description for each in topics)
    return {
        "address": topic.address,
        "description": f"{description} {RULE}" if topic.by_key else description,
        "messages": {each.message: {"$ref": f"#/components/messages/{each.message}"} for each in topics},
        "bindings": {
            "kafka": {
                "topic": topic.address,
                "partitions": _PARTITIONS if topic.partitioned else 1,
                "topicConfiguration": {"cleanup.policy": ["compact" if topic.compacted else "delete"]},
                "bindingVersion": _BINDING,
            }
        },
    }


def _operation(topic: Topic) -> Schema:
    return {
        "action": topic.action,
        "channel": {"$ref": f"#/channels/{topic.address}"},
        "messages": [{"$ref": f"#/channels/{topic.address}/messages/{topic.message}"}],
    }


def _message(topic: Topic) -> Schema:
    if topic.event is None:
        content, headers = "application/octet-stream", _dead_letter_headers()
        payload: Schema = {"description": "the original value"}
    else:
        content, headers = "application/json", _event_headers(topic.event)
        schema = topic.message.title().replace("_", "")
        payload = {"schemaFormat": _FORMAT, "schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {
        "name": topic.message,
        "title": topic.description,
        "contentType": content,
        "headers": headers,
        "payload": payload,
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": topic.key},
                **({_PARTITIONER: partitioner()} if topic.by_key else {}),
                "bindingVersion": _BINDING,
            }
        },
    }


def _event_headers(event: str) -> Schema:
    texts = {name: {"type": "string"} for name in ("ce_id", "ce_source", "ce_time")}
    return {
        "type": "object",
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_type": {"type": "string", "const": event},
            **texts,
            "content-type": {"type": "string"},
        },
    }


def _dead_letter_headers() -> Schema:
    schema = DeadLetter.model_json_schema(mode=_VALIDATION)
    properties = schema["properties"]
    properties["reason"] = {**schema["$defs"]["Reason"], "description": properties["reason"]["description"]}
    for number in ("partition", "offset"):  # headers are text
        properties[number] = {"type": "string", "pattern": "^[0-9]+$"} | {
            key: properties[number][key] for key in ("title", "description")
        }
    for field, header in HEADERS.items():  # an absent header is not null
        if header in OPTIONAL_HEADERS:
            properties[field] = {"type": "string"} | {
                key: properties[field][key] for key in ("title", "description")
            }
    return {
        "title": "DeadLetterHeaders",
        "description": schema["description"],
        "type": "object",
        "properties": {header: properties[field] for field, header in HEADERS.items()},
        "required": [header for header in HEADERS.values() if header not in OPTIONAL_HEADERS],
    }


def _component_schemas() -> Schema:
    messages = [(message, _VALIDATION) for message in (*_MESSAGES.values(), *KINDS)]
    _, schema = models_json_schema(messages, ref_template="#/components/schemas/{model}")
    definitions: Schema = schema["$defs"]
    definitions["Sensor"] = {"oneOf": [{"$ref": f"#/components/schemas/{s.__name__}"} for s in KINDS]}
    sound: Schema = _plain(dict(sorted(definitions.items())))
    return sound


def _plain(schema: Any) -> Any:
    """Drop OpenAPI's `discriminator`; in plain JSON Schema the required constant `kind` does the same."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        name: _plain(part)
        for name, part in schema.items()
        if not (name == "discriminator" and "mapping" in part)
    }
    if "const" in plain.get("properties", {}).get("kind", {}):
        plain["required"] = ["kind", *plain.get("required", ())]
    return plain


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m beliefstream.schemas.contract DIRECTORY")
    for path in write(sys.argv[1]):
        print(path)
