"""Gateway and MQTT bridge on a Kafka that asks who they are, with the rights of deploy/SECURITY.md and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePatternFilter

from beliefstream.streams.client.producers import Publisher
from beliefstream.streams.kafka.topics import TopicNames, create, missing_topic_rights
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE
from tests.secure_broker import SecureKafkaNode
from tests.streams.bridges.mosquitto import PATTERN, Mosquitto, RunningBridge, messages, publish, publishing
from tests.streams.bridges.running_gateway import observation, running
from tests.streams.cli.acls import allow, documented
from tests.streams.cli.conftest import (
    Run,
    assert_one_line,
    environment,
    run as run,  # the fixture
    set_environment,
)
from tests.streams.client.topics import posterior

pytestmark = pytest.mark.kafka
TOPICS = TopicNames()
NAMES = Names("beliefstream", TOPICS)
RIGHTS = {
    "gateway": {TOPICS.observations: "WRITE", TOPICS.priors: "WRITE", TOPICS.posteriors: "READ"},
    "bridge": {TOPICS.observations: "WRITE", TOPICS.dead_letters: "WRITE"},
}


@pytest.fixture(scope="module")
def node() -> Iterator[SecureKafkaNode]:
    with SecureKafkaNode() as node:
        create(node.bootstrap_servers, TOPICS, partitions=3, **node.security().options())
        allow(node, documented())
        for user in RIGHTS:
            wait_until_allowed(node, user)
        yield node


def lacking(node: SecureKafkaNode, user: str) -> list[str]:
    needed = {topic: [operation] for topic, operation in RIGHTS[user].items()}
    return missing_topic_rights(node.bootstrap_servers, needed, **node.security(user).options())


def wait_until_allowed(node: SecureKafkaNode, user: str) -> None:
    eventually(lambda: not lacking(node, user), PATIENCE, f"the rights of {user} are in force")


def security(node: SecureKafkaNode, user: str, folder: Path) -> dict[str, str]:
    """Settings by which a command is that user."""
    password = folder / f"{user}.password"
    password.write_text(node.passwords[user])
    return {
        "security_protocol": "SASL_SSL",
        "sasl_username": user,
        "sasl_password_file": str(password),
        "ssl_ca_file": str(node.certificates.authority),
    }


@contextmanager
def without(node: SecureKafkaNode, user: str, topic: str) -> Iterator[None]:
    """The user has no right on the topic while the context lasts."""
    taken = [
        acl
        for acl in documented()
        if acl.principal == f"User:{user}" and acl.resource_pattern.resource_name == topic
    ]
    admin = KafkaAdminClient(bootstrap_servers=node.bootstrap_servers, **node.security().options())
    try:
        admin.delete_acls([of(acl) for acl in taken])
        eventually(lambda: lacking(node, user), PATIENCE, "the right is taken away")
        yield
        admin.create_acls(taken)
        wait_until_allowed(node, user)
    finally:
        admin.close()


def of(acl: ACL) -> ACLFilter:
    """The filter that finds this one."""
    pattern = acl.resource_pattern
    found = ResourcePatternFilter(pattern.resource_type, pattern.resource_name, pattern.pattern_type)
    return ACLFilter(acl.principal, "*", ACLOperation(acl.operation), ACLPermissionType.ALLOW, found)


def put_posterior(node: SecureKafkaNode) -> None:
    options = node.security("worker").options()
    with Publisher(node.bootstrap_servers, TOPICS.posteriors, "/tests", options) as publisher:
        publisher.publish("mower", posterior(1).to_json())


def test_the_gateway_needs_the_documented_rights_only(node: SecureKafkaNode, tmp_path: Path) -> None:
    put_posterior(node)
    with running(node, NAMES, tmp_path, **security(node, "gateway", tmp_path)) as gateway:
        assert gateway.post("/v1/observations", observation()).status == 202
        prior = {"weights": [1], "means": [[3, 4]], "covariances": [[[4, 0], [0, 4]]]}
        stated = {"entity": "mower", "time": 1769860800, "mixture": prior, "coordinates": ["x", "y"]}
        assert gateway.post("/v1/priors", stated).status == 202
        assert gateway.get("/v1/posteriors/mower").status == 200
        with without(node, "gateway", TOPICS.observations):
            refused = gateway.post("/v1/observations", observation(1))
            assert refused.status == 503
            assert (
                "not authorized" in refused.body.decode().lower() or "Authorization" in refused.body.decode()
            )
        eventually(
            lambda: gateway.post("/v1/observations", observation(1)).status == 202,
            PATIENCE,
            "the gateway goes on once it has the right again",
        )


def test_the_bridge_needs_the_documented_rights_only_and_loses_nothing_without(
    node: SecureKafkaNode, tmp_path: Path
) -> None:
    good = ("sites/a/mower/gps", {"value": [1, 2], "time": 1769860800, "id": "1"})
    with (
        Mosquitto(tmp_path) as mosquitto,
        RunningBridge(node, NAMES, mosquitto, tmp_path, **security(node, "bridge", tmp_path)) as bridge,
        publishing(mosquitto) as client,
    ):
        publish(client, [good, ("sites/a/mower/gps", {"value": "far"})])
        for outcome in ("accepted", "rejected"):
            metric = messages(outcome)
            eventually(lambda metric=metric: bridge.metric(metric) == 1, PATIENCE, metric)  # type: ignore[misc]
        with without(node, "bridge", TOPICS.observations):
            publish(client, [good])
            eventually(
                lambda: "TopicAuthorizationFailed" in bridge.log(), PATIENCE, "the log names the fault"
            )
        eventually(
            lambda: bridge.metric(messages("accepted")) == 2,
            PATIENCE,
            "the message is forwarded once the bridge has the right again",
        )


@pytest.mark.parametrize(("user", "topic"), [(user, topic) for user in RIGHTS for topic in RIGHTS[user]])
def test_a_bridge_that_lacks_a_right_names_it_and_ends(
    node: SecureKafkaNode, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: str, topic: str
) -> None:
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"topics": [{"topic": PATTERN, "id": "id"}]}))
    command = ("gateway", "--port", "0") if user == "gateway" else ("bridge", "mqtt", str(mapping))
    settings = security(node, user, tmp_path)
    variables = {f"BELIEFSTREAM_{name.upper()}": value for name, value in settings.items()}
    set_environment(monkeypatch, environment(node.bootstrap_servers, NAMES) | variables)
    with without(node, user, topic):
        told = f"No right to {RIGHTS[user][topic]} on the topic {topic!r}"
        assert_one_line(run(*command), told, "deploy/SECURITY.md")
