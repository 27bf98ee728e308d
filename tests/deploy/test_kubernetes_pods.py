"""The pods of deploy/kubernetes: what they may, are set by and are asked; who reaches them, and how many there are."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.topics import TopicNames
from tests.deploy.kubernetes import KUBERNETES, composed, of_kind, resources, the
from tests.deploy.test_deploy import dockerfile_user


def pods() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The pod and its only container, by the name of what makes it."""
    made = {}
    for each in (*of_kind("StatefulSet"), *of_kind("Deployment")):
        pod = each["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        made[each["metadata"]["name"]] = pod, container
    return made


PODS = pods()


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights_and_writes_to_its_volumes_only(name: str) -> None:
    pod, container = PODS[name]
    user, group = map(int, dockerfile_user().split(":"))
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (user, group, group)
    assert security["runAsNonRoot"] is True and security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written <= {"/data", "/tmp"} and "/tmp" in written
    assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys()
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_for_the_pages_that_are_there(name: str) -> None:
    _, container = PODS[name]
    (port,) = container["ports"]
    addresses = {value for variable, value in variables(name).items() if variable.endswith("_ADDRESS")}
    assert addresses == {f"0.0.0.0:{port['containerPort']}"}
    for probe, page in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        assert container[f"{probe}Probe"]["httpGet"] == {"path": page, "port": port["name"]}
    # a worker that is late to answer is not killed before it could have
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60


def variables(name: str) -> dict[str, str]:
    """The environment of a pod, that of the shared settings included."""
    (base,) = resources(KUBERNETES / "base/kustomization.yaml")
    (generated,) = base["configMapGenerator"]
    shared = dict(line.split("=", 1) for line in generated["literals"])
    container = PODS[name][1]
    assert [each["configMapRef"]["name"] for each in container["envFrom"]] == [generated["name"]]
    return shared | {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_set_by_settings_that_exist_and_finds_its_secrets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("beliefstream.streams.settings")
    given = variables(name)
    secrets = {f"BELIEFSTREAM_{secret.upper()}_FILE" for secret in module.SECRETS}
    settings = {f"BELIEFSTREAM_{field.upper()}" for field in module.Settings.model_fields}
    assert given.keys() <= settings | secrets
    (tmp_path / "secret").write_text("a secret of a pod")  # in place of those that are mounted there
    for variable, value in given.items():
        monkeypatch.setenv(variable, str(tmp_path / "secret") if variable in secrets else value)
    monkeypatch.chdir(tmp_path)
    settings = module.Settings()
    assert settings.names == TopicNames()
    pod, container = PODS[name]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = {
        f"{mounted[volume['name']]}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in pod["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }
    expected = {
        given["BELIEFSTREAM_SASL_PASSWORD_FILE"]: (settings.sasl_username, "password"),
        str(settings.ssl_ca_file): ("kafka-cluster-ca-cert", "ca.crt"),
    }
    if token_file := given.get("BELIEFSTREAM_GATEWAY_TOKEN_FILE"):
        expected[token_file] = ("beliefstream-gateway", "token")
    assert files == expected
    assert settings.sasl_username in {each["metadata"]["name"] for each in of_kind("KafkaUser")}


def test_beliefs_on_disk_have_a_volume_each_and_workers_are_not_all_evicted() -> None:
    worker = the("StatefulSet", "beliefstream-worker")
    given = variables("beliefstream-worker")
    (claim,) = worker["spec"]["volumeClaimTemplates"]
    mounts = {mount["mountPath"]: mount["name"] for mount in PODS["beliefstream-worker"][1]["volumeMounts"]}
    assert given["BELIEFSTREAM_STORE"] == "rocksdb://"
    assert mounts[given["BELIEFSTREAM_DATA_DIRECTORY"]] == claim["metadata"]["name"]
    budget = the("PodDisruptionBudget", "beliefstream-worker")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == worker["spec"]["selector"]


def test_workers_are_scaled_by_the_lag_of_their_group_up_to_one_for_each_partition() -> None:
    scaled = the("ScaledObject", "beliefstream-worker")["spec"]
    (trigger,) = scaled["triggers"]
    settings = import_module("beliefstream.streams.settings").Settings(_env_file=None)
    assert trigger["type"] == "kafka"
    assert trigger["metadata"]["consumerGroup"] == settings.application
    assert trigger["metadata"]["topic"] == settings.names.observations
    assert scaled["maxReplicaCount"] == topics.PARTITIONS
    assert scaled["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "beliefstream-worker",
    }
    host = trigger["metadata"]["bootstrapServers"].replace(".beliefstream:", ":")
    assert host == variables("beliefstream-worker")["BELIEFSTREAM_BROKERS"]
    assert "replicas" not in the("StatefulSet", "beliefstream-worker", composed("production"))["spec"]


def test_pods_reach_names_and_kafka_and_are_reached_by_prometheus() -> None:
    policy = the("NetworkPolicy", "beliefstream")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    for each in (*of_kind("StatefulSet"), *of_kind("Deployment")):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert ports == {53, int(variables("beliefstream-worker")["BELIEFSTREAM_BROKERS"].rpartition(":")[2])}
    (rule,) = policy["ingress"]
    assert rule["from"] and [port["port"] for port in rule["ports"]] == ["web"]
