from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beliefstream import schemas
from beliefstream.schemas import Reason
from beliefstream.schemas.contract import asyncapi, documents, json_schemas, write

GENERATED = Path(schemas.__file__).parent / "generated"
MESSAGES = {
    "observation",
    "sensor",
    "model",
    "prior",
    "reset",
    "posterior",
    "dead_letter",
    "replay",
    "sensor_health",
}


def references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(document.get("$ref"), str):
            yield document["$ref"]
        for part in document.values():
            yield from references(part)
    elif isinstance(document, list):
        for part in document:
            yield from references(part)


def resolve(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        document = document[part]
    return document


def test_the_generated_files_are_those_of_the_code() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in GENERATED.glob("*.json")}
    assert committed == documents(), "run: python -m beliefstream.schemas.contract schemas/generated"


def test_the_command_writes_a_file_a_message_and_the_document(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "beliefstream.schemas.contract", str(tmp_path / "new")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    expected = {f"{name}.schema.json" for name in MESSAGES} | {"asyncapi.json"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == expected
    assert {Path(line).name for line in run.stdout.splitlines()} == expected


def test_the_command_says_how_it_is_used() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "beliefstream.schemas.contract"], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (1, "usage: python -m beliefstream.schemas.contract DIRECTORY\n")


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_reference_in_a_schema_leads_somewhere(name: str) -> None:
    schema = json_schemas()[name]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for reference in references(schema):
        assert resolve(schema, reference)


def test_a_schema_says_what_the_code_demands() -> None:
    generated = json_schemas()
    assert generated["observation"]["required"] == ["entity", "sensor", "time", "value"]
    assert generated["observation"]["additionalProperties"] is False
    assert generated["sensor"]["$defs"]["RangeSensor"]["required"][0] == "kind"
    assert set(generated["dead_letter"]["properties"]["beliefstream_reason"]["enum"]) == set(Reason)


def test_every_property_of_a_message_is_described() -> None:
    for name, schema in json_schemas().items():
        for part in (schema, *schema.get("$defs", {}).values()):
            for field, content in part.get("properties", {}).items():
                assert content.get("description"), f"{name}: {field}"


def test_the_document_has_the_structure_of_asyncapi_3() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert {channel["address"] for channel in document["channels"].values()} == {
        "observations",
        "sensors",
        "models",
        "priors",
        "posteriors",
        "dead-letters",
        "sensor-health",
    }
    assert set(document["components"]["messages"]) == MESSAGES
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = resolve(document, operation["channel"]["$ref"])
        for message in operation["messages"]:
            # The specification wants these to point into the channel, not at the component.
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")
            assert resolve(document, message["$ref"]) in channel["messages"].values()
    for reference in references(document):
        assert resolve(document, reference)


def test_the_topic_of_dead_letters_carries_notes_of_replays_too() -> None:
    channel = asyncapi()["channels"]["dead-letters"]
    assert set(channel["messages"]) == {"dead_letter", "replay"}
    headers = json_schemas()["dead_letter"]
    assert headers["properties"]["beliefstream_replay_of"]["type"] == "string"
    assert "beliefstream_replay_of" not in headers["required"]


def test_the_service_sends_posteriors_dead_letters_and_the_health_of_sensors_only() -> None:
    operations = asyncapi()["operations"].values()
    sent = {operation["channel"]["$ref"] for operation in operations if operation["action"] == "send"}
    assert sent == {f"#/channels/{name}" for name in ("posteriors", "dead-letters", "sensor-health")}


@pytest.mark.parametrize("name", ["observation", "prior"])
def test_the_rule_of_partitions_is_named_with_an_example_for_each_client(name: str) -> None:
    rules = [
        json_schemas()[name]["x-partitioner"],
        asyncapi()["components"]["messages"][name]["bindings"]["kafka"]["x-partitioner"],
    ]
    for rule in rules:
        assert (rule["key"], rule["hash"]) == ("entity", "murmur2")
        assert rule["partition"] == "(murmur2(key) & 0x7fffffff) % partitions"
        for client in ("Java", "kafka-python", "confluent-kafka", "kcat", "franz-go", "Sarama"):
            assert any(client in each for each in rule["clients"]), client
        assert "topic.partitioner=murmur2_random" in rule["clients"]["kcat"]


def test_only_what_producers_send_by_key_names_the_rule() -> None:
    named = {name for name, schema in json_schemas().items() if "x-partitioner" in schema}
    assert named == {"observation", "prior", "reset"}


def test_definitions_and_the_health_of_sensors_are_compacted() -> None:
    compacted = {
        name
        for name, channel in asyncapi()["channels"].items()
        if channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    }
    assert compacted == {"sensors", "models", "sensor-health"}


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    first = {path: path.read_text() for path in write(tmp_path)}
    assert {path: path.read_text() for path in write(tmp_path)} == first
    assert json.loads((tmp_path / "asyncapi.json").read_text()) == asyncapi()
