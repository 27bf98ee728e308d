"""The resources of deploy/kubernetes: valid by published schemas, and the same topics, rights and alerts as elsewhere.

Core kinds are held against the schemas of kubernetes-validate, custom ones against `custom_resources.json`. No cluster
is asked. What the overlays make of the files is seen where `kubectl` or `kustomize` is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.topics import TopicNames
from tests.deploy.kubernetes import FILES, KUBERNETES, OVERLAYS, check, composed, of_kind, resources, the
from tests.deploy.test_deploy import DEPLOY
from tests.streams.cli.acls import documented


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_resource_is_valid_by_its_published_schema(path: Path) -> None:
    for resource in resources(path):
        check(resource)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_an_overlay_makes_is_valid(overlay: str) -> None:
    for resource in composed(overlay):
        check(resource)
        assert resource["metadata"]["namespace"] == "beliefstream"


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("StatefulSet", "beliefstream-worker", ("spec", "replicaCount"), 2),
        ("StatefulSet", "beliefstream-worker", ("spec", "replicas"), "two"),
        ("KafkaTopic", "observations", ("spec", "partition"), 8),
        ("KafkaUser", "worker", ("spec", "authentication", "type"), "password"),
        ("ScaledObject", "beliefstream-worker", ("spec", "triggers"), None),
        ("ServiceMonitor", "beliefstream-worker", ("spec", "endpoint"), []),
        ("PrometheusRule", "beliefstream", ("spec", "groups"), "none"),
    ],
)
def test_a_fault_in_a_resource_is_found(kind: str, name: str, path: tuple[str, ...], value: object) -> None:
    resource = the(kind, name)
    part = resource
    for step in path[:-1]:
        part = part[step]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(resource)


def test_every_file_is_used() -> None:
    used: set[Path] = set()
    for path in KUBERNETES.rglob("kustomization.yaml"):
        (content,) = resources(path)
        for name in (*content["resources"], *content.get("components", [])):
            target = (path.parent / name).resolve()
            assert target.exists(), f"{path}: {name}"
            used.add(target)
    assert set(FILES) <= used


def test_topics_are_those_that_the_command_creates() -> None:
    names = TopicNames()
    made = {each["metadata"]["name"]: each["spec"] for each in of_kind("KafkaTopic")}
    assert list(made) == list(names)
    for name, spec in made.items():
        expected = topics.settings(names, name, 3, topics.RETENTION, topics.DEAD_LETTER_RETENTION)
        assert {setting: str(value) for setting, value in spec["config"].items()} == expected, name
        assert spec["partitions"] == (1 if name in names.unpartitioned else topics.PARTITIONS), name
        assert spec["replicas"] == 3, name


def test_one_broker_gets_one_copy_and_asks_for_no_more() -> None:
    names = TopicNames()
    for each in of_kind("KafkaTopic", composed("single")):
        name, spec = each["metadata"]["name"], each["spec"]
        expected = topics.settings(names, name, 1, topics.RETENTION, topics.DEAD_LETTER_RETENTION)
        assert {setting: str(value) for setting, value in spec["config"].items()} == expected, name
        assert spec["replicas"] == 1, name


Right = tuple[str, str, str, str, str]


def rights_of_users() -> Iterator[Right]:
    """Principal, operation, kind of resource, name and pattern, in capitals as Kafka has them."""
    for user in of_kind("KafkaUser"):
        for acl in user["spec"]["authorization"]["acls"]:
            kind, pattern = acl["resource"]["type"], acl["resource"].get("patternType", "literal")
            for operation in acl["operations"]:
                yield (
                    f"User:{user['metadata']['name']}",
                    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper(),
                    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).upper(),
                    acl["resource"]["name"],
                    {"literal": "LITERAL", "prefix": "PREFIXED"}[pattern],
                )


def test_users_have_the_rights_of_the_page_on_security_and_no_others() -> None:
    pages = [
        (
            acl.principal,
            acl.operation.name,
            acl.resource_pattern.resource_type.name,
            acl.resource_pattern.resource_name,
            acl.resource_pattern.pattern_type.name,
        )
        for acl in documented()
    ]
    assert sorted(rights_of_users()) == sorted(pages)


def test_alerts_are_those_of_prometheus() -> None:
    (rules,) = of_kind("PrometheusRule")
    assert rules["spec"] == yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())


def test_prometheus_gives_workers_the_job_that_alerts_ask_for_and_gateways_another() -> None:
    asked = set(re.findall(r'job="([^"]+)"', (DEPLOY / "prometheus/rules.yml").read_text()))
    worker = the("ServiceMonitor", "beliefstream-worker")
    service = the("Service", "beliefstream-worker")
    assert {service["metadata"]["labels"][worker["spec"]["jobLabel"]]} == asked
    gateway = the("ServiceMonitor", "beliefstream-gateway")
    (rule,) = gateway["spec"]["endpoints"][0]["relabelings"]
    assert rule["targetLabel"] == "job" and rule["replacement"] not in asked
