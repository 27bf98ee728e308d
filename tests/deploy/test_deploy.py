"""The files in deploy/ fit each other and the code: what they mount, set and show is there."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/beliefstream.json"
BRIDGES = DASHBOARD.with_name("bridges.json")
METRIC = re.compile(r"\bbeliefstream_[a-z_]+")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    """Every panel that shows something of a worker."""
    return shown(DASHBOARD)


def shown(dashboard: Path) -> list[dict[str, Any]]:
    found = json.loads(dashboard.read_text())["panels"]
    return [panel for panel in found if panel["type"] not in ("row", "text")]


def expressions(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def names_of_metrics(module: str = "monitoring.metrics") -> set[str]:
    """Of a worker, or of the bridges, as Prometheus shows them."""
    ending = {"counter": "_total", "info": "_info"}
    families = import_module(f"beliefstream.streams.{module}").REGISTRY.collect()
    names = {family.name + ending.get(family.type, "") for family in families}
    return {name for name in names if name.startswith("beliefstream_")}


def named(expressions: list[str]) -> set[str]:
    """The metrics in PromQL, histograms by their own name."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", metric)
        for expression in expressions
        for metric in METRIC.findall(expression)
    }


def environment(compose: dict[str, Any]) -> dict[str, str]:
    return dict(compose["services"]["worker"]["environment"])


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_yaml_parses(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents and all(isinstance(each, dict) for each in documents)


def test_services_mount_and_build_from_what_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
        assert set(service.get("depends_on", [])) <= set(compose["services"]), name


def test_images_are_pinned_to_a_version_and_its_digest(compose: dict[str, Any]) -> None:
    images = [s["image"] for s in compose["services"].values() if "build" not in s]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    images += re.findall(r"^ARG BASE=(\S+)", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE}"}
    assert all(re.search(r":v?\d+\.\d+\S*@sha256:[0-9a-f]{64}$", image) for image in images), images


def test_ports_are_open_to_this_machine_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_dockerfile_copies_what_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = " ".join(copied).split()
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(allowed)
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_worker_is_confined(compose: dict[str, Any]) -> None:
    for service in (compose["services"]["worker"], compose["services"]["topics"]):
        assert service["read_only"] is True
        assert service["user"].split(":")[0] not in ("0", "root")
        assert any(mount.startswith("/data:") for mount in service["tmpfs"])
        assert service["user"] == dockerfile_user()


def dockerfile_user() -> str:
    """Whom the image runs as, after everything is installed."""
    users = re.findall(r"^USER (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return str(users[-1])


def test_the_image_runs_as_a_user_of_its_own_who_owns_its_data_only() -> None:
    uid, gid = dockerfile_user().split(":")
    assert int(uid) >= 10000 and int(gid) >= 10000
    text = (DEPLOY / "Dockerfile").read_text()
    assert f"install -d -o {uid} -g {gid} /data" in text
    assert "chown" not in text and "chmod" not in text
    assert text.index("USER ") < text.index("ENTRYPOINT")


def test_all_containers_are_confined(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "devices", "pid", "network_mode", "ipc"} & set(service), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", ())), name


def test_services_have_limits_and_start_again(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] == ("no" if name == "topics" else "unless-stopped"), name
        assert re.fullmatch(r"\d+m", service["mem_limit"]), name
        assert service["cpus"] >= 1 and service["pids_limit"] <= 512, name


def test_what_runs_on_says_whether_it_is_healthy(compose: dict[str, Any]) -> None:
    """But for mosquitto, whose image has no client that would end by itself."""
    silent = {name for name, service in compose["services"].items() if "healthcheck" not in service}
    assert silent == {"topics", "mosquitto"}


def test_the_bridge_finds_its_mapping(compose: dict[str, Any]) -> None:
    mapping = import_module("beliefstream.streams.bridges.mqtt.mapping").Mapping
    (volume,) = compose["services"]["bridge"]["volumes"]
    source, target, mode = volume.split(":")
    assert (compose["services"]["bridge"]["command"][2], mode) == (target, "ro")
    payload = b'{"value": 4.5, "time": 1769860800}'
    found = mapping.read(DEPLOY / source).observation("sites/a/mower/beacon-1", payload, 0.0, 1000)
    assert (found.entity, found.sensor, found.value) == ("mower", "beacon-1", 4.5)


def test_the_worker_writes_to_its_data_directory_and_nowhere_else(compose: dict[str, Any]) -> None:
    """All that its settings let it write to is on one of the tmpfs; no volume is mounted."""
    for name in ("worker", "topics"):
        service = compose["services"][name]
        assert "volumes" not in service
        assert {mount.split(":")[0] for mount in service["tmpfs"]} == {"/data", "/tmp"}
        assert service["environment"]["BELIEFSTREAM_DATA_DIRECTORY"] == "/data"


def test_no_secret_is_written_in_the_files() -> None:
    secrets = import_module("beliefstream.streams.settings").SECRETS
    for path in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile"):
        for secret in secrets:
            assert f"BELIEFSTREAM_{secret.upper()}:" not in path.read_text()
            assert f"BELIEFSTREAM_{secret.upper()}=" not in path.read_text()


def test_the_page_on_security_names_settings_that_exist() -> None:
    settings = import_module("beliefstream.streams.settings").Settings
    secrets = import_module("beliefstream.streams.settings").SECRETS
    names = re.findall(r"BELIEFSTREAM_([A-Z_]*[A-Z])", (DEPLOY / "SECURITY.md").read_text())
    known = {*settings.model_fields, *(f"{secret}_file" for secret in secrets)}
    assert names and {name.lower() for name in names} <= known


def test_the_worker_is_set_by_settings_that_exist(compose: dict[str, Any]) -> None:
    settings = import_module("beliefstream.streams.settings").Settings
    names = {name.removeprefix("BELIEFSTREAM_").lower() for name in environment(compose)}
    assert names <= set(settings.model_fields)


def test_workers_and_bridges_are_found_where_they_listen(compose: dict[str, Any]) -> None:
    settings = import_module("beliefstream.streams.settings").Settings(_env_file=None)
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())

    def port_of(name: str) -> int:
        return int(environment(compose)[f"BELIEFSTREAM_{name}_ADDRESS"].rpartition(":")[2])

    ports = {
        "beliefstream": ("worker", port_of("WEB")),
        "beliefstream-gateway": ("gateway", settings.gateway_address.port),
        "beliefstream-mqtt": ("bridge", port_of("BRIDGE")),
    }
    assert {job["job_name"] for job in prometheus["scrape_configs"]} == ports.keys()
    for job in prometheus["scrape_configs"]:
        service, port = ports[job["job_name"]]
        (discovery,) = job["dns_sd_configs"]
        assert (discovery["names"], discovery["port"], job["metrics_path"]) == ([service], port, "/metrics")
        assert f":{port}/readyz" in compose["services"][service]["healthcheck"]["test"][-1]


def test_clients_in_containers_find_the_broker(compose: dict[str, Any]) -> None:
    advertised = compose["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"PLAINTEXT://{environment(compose)['BELIEFSTREAM_BROKERS']}," in advertised


def test_grafana_finds_prometheus_and_the_dashboard(compose: dict[str, Any]) -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/beliefstream.yaml").read_text())["providers"]
    grafana = compose["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"


def test_the_dashboard_shows_every_metric_and_no_other(panels: list[dict[str, Any]]) -> None:
    assert named(expressions(panels)) == names_of_metrics()


def test_the_dashboard_of_bridges_shows_every_metric_of_theirs_and_no_other() -> None:
    assert named(expressions(shown(BRIDGES))) == names_of_metrics("bridges.gateway.metrics")


def test_rules_name_metrics_that_exist() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert named(expressions) <= names_of_metrics()


@pytest.mark.parametrize("dashboard", [DASHBOARD, BRIDGES], ids=lambda path: path.stem)
def test_counters_are_shown_as_rates_and_histograms_as_quantiles(dashboard: Path) -> None:
    panels = shown(dashboard)
    for expression in expressions(panels):
        for metric in METRIC.findall(expression):
            if metric.endswith(("_total", "_bucket", "_sum", "_count")):
                assert re.search(rf"(rate|increase)\({metric}(\{{[^}}]*\}})?\[", expression), expression
            if metric.endswith("_bucket"):
                assert expression.startswith("histogram_quantile("), expression


@pytest.mark.parametrize("dashboard", [DASHBOARD, BRIDGES], ids=lambda path: path.stem)
def test_every_panel_has_a_title_a_meaning_a_unit_and_legends(dashboard: Path) -> None:
    panels = shown(dashboard)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("dashboard", [DASHBOARD, BRIDGES], ids=lambda path: path.stem)
def test_panels_do_not_overlap(dashboard: Path) -> None:
    panels = shown(dashboard)
    cells = [
        (grid["x"] + column, grid["y"] + line)
        for grid in (panel["gridPos"] for panel in panels)
        for column in range(grid["w"])
        for line in range(grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
