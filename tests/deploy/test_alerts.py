"""The alerts: right by promtool, each with its section in the runbook, and each set off by a real worker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer
from beliefstream.schemas import Coordinate, Mixture, Model, PositionSensor, RandomWalk, RangeSensor
from tests.brokers import KafkaNode
from tests.conftest import eventually, unique_names
from tests.deploy.counters import unborn
from tests.prometheus import Prometheus, program, prometheus
from tests.streams.workers import PARTITIONS, Stream, Worker, make_again, stream

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]
}
INTERVAL = "500ms"
WINDOW = "5s"  # of rates
HOLD = "1s"  # for how long a condition must hold
PATIENCE = 30.0  # seconds for an alert to fire
SESSION = 20.0  # seconds for which a worker that was killed holds its partitions; a new one starts in 10
STALL = 10.0  # seconds without progress
BACKLOG = 12_000  # on one partition: more than FallingBehind allows


def test_promtool_finds_the_rules_right(tmp_path: Path) -> None:
    for path in (DEPLOY / "prometheus/rules.yml", Path(__file__).with_name("rules_test.yml")):
        shutil.copy(path, tmp_path)
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run([program("promtool"), *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_tries_every_alert_and_every_alert_is_set_off_below() -> None:
    tried = yaml.safe_load(Path(__file__).with_name("rules_test.yml").read_text())["tests"]
    expected = {each["alertname"] for case in tried for each in case["alert_rule_test"] if each["exp_alerts"]}
    assert expected == ALERTS.keys()
    assert set(re.findall(r'fires\(\w+, "(\w+)"\)', Path(__file__).read_text())) == ALERTS.keys()


def test_counters_that_a_worker_does_not_show_from_its_start_are_found() -> None:
    """What a fresh worker shows is held against the rules and the dashboard in tests/streams/worker/test_health.py."""
    shown = """
beliefstream_a_total{topic="observations"} 0
beliefstream_a_total{topic="priors"} 0
beliefstream_b_total{topic="observations"} 784
beliefstream_c_total 0
"""
    samples = [sample for family in text_string_to_metric_families(shown) for sample in family.samples]
    for expression, faults in (
        ("sum by (topic, instance) (rate(beliefstream_a_total[5m])) > beliefstream_lag", []),
        ('increase(beliefstream_a_total{topic=~"observations|priors"}[5m])', []),
        ("rate(beliefstream_b_total[5m])", ["beliefstream_b_total: not 0"]),
        ("sum by (topic) (rate(beliefstream_c_total[5m]))", ["beliefstream_c_total: no label topic"]),
        ('rate(beliefstream_a_total{topic="models"}[5m])', ['beliefstream_a_total: no topic="models"']),
        ("rate(beliefstream_d_total[5m])", ["beliefstream_d_total: no series"]),
        ("rate(beliefstream_e_seconds_count[5m])", ["beliefstream_e_seconds_count: no series"]),
    ):
        assert list(unborn([expression], samples)) == faults


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.split(r"^## ", (DEPLOY / "RUNBOOK.md").read_text(), flags=re.MULTILINE)[1:]
    found = {section.split("\n", 1)[0]: section for section in sections}
    assert found.keys() == ALERTS.keys()
    for name, rule in ALERTS.items():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (DEPLOY.parent / path).is_file()
        assert anchor == name.lower()
        assert [word for word in ("**Means**", "**Look at**", "**Do**") if word in found[name]] == [
            "**Means**",
            "**Look at**",
            "**Do**",
        ]
        assert len(found[name].splitlines()) <= 24, f"{name}: longer than a screen"


def hastened() -> dict[str, Any]:
    """The rules with the same conditions and thresholds, over seconds where they have minutes."""
    rules = yaml.safe_load(yaml.safe_dump(RULES))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[\d+m\]", f"[{WINDOW}]", rule["expr"])
            rule["expr"] = re.sub(r"offset \d+m", f"offset {WINDOW}", rule["expr"])
            rule["for"] = HOLD
    return dict(rules)


class Site:
    """A broker, a worker and the Prometheus that watches it."""

    def __init__(self, opened: Stream, worker: Worker, watching: Prometheus) -> None:
        self.stream, self.worker, self.watching = opened, worker, watching
        self._fired: set[str] = set()

    def firing(self) -> set[str]:
        """What fires now."""
        found = self.watching.firing()
        self._fired |= found
        return found

    def fired(self) -> set[str]:
        """What fires now, or has when we looked before."""
        return self.firing() | self._fired

    def forget(self, alert: str) -> None:
        self._fired.discard(alert)

    def delete_observations(self) -> None:
        """All that are on the topic now."""
        servers, topic = self.stream.broker.bootstrap_servers, self.stream.names.topics.observations
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer = KafkaConsumer(bootstrap_servers=servers, group_id=None)
        admin = KafkaAdminClient(bootstrap_servers=servers)
        try:
            admin.delete_records(consumer.end_offsets(places))
        finally:
            admin.close()
            consumer.close()

    def observe(self, sensor: str, value: float, entities: list[str], count: int = 1) -> None:
        """Send `count` observations of each entity, acknowledged."""
        now, topic = time.time(), self.stream.names.topics.observations
        for number in range(count):
            for entity in entities:
                body = f'{{"entity":"{entity}","sensor":"{sensor}","time":{now + 1e-4 * number},"value":{value}}}'
                self.stream.raw.send(topic, key=entity.encode(), value=body.encode())
        self.stream.raw.flush()

    def judge_sensors(self) -> None:
        """Two sensors see one entity; one of them is biased, and stops."""
        start, topic = time.time() - 300.0, self.stream.names.topics.observations
        for number in range(240):
            sensor, value = ("bent", 3.0) if number < 120 and number % 2 else ("steady", 0.0)
            body = {"entity": "judged", "sensor": sensor, "time": start + number, "value": [value] * 3}
            self.stream.raw.send(topic, key=b"judged", value=json.dumps(body).encode())
        self.stream.raw.flush()

    def misplace(self, entity: str) -> None:
        """Send an observation to each partition, one of which is the entity's."""
        body = f'{{"entity":"{entity}","sensor":"nobodys","time":1,"value":1}}'.encode()
        for partition in range(PARTITIONS):
            self.stream.raw.send(
                self.stream.names.topics.observations, key=entity.encode(), value=body, partition=partition
            )
        self.stream.raw.flush()


def fires(site: Site, alert: str) -> None:
    """Waits until it does, if it has not."""
    eventually(lambda: alert in site.fired(), PATIENCE, f"{alert} fires")


def quiet(site: Site, alert: str, patience: float = PATIENCE) -> None:
    """Waits until it has ceased, and forgets that it has fired."""
    eventually(lambda: alert not in site.firing(), patience, f"{alert} has ceased")
    site.forget(alert)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """With a network as it is before training, never refined, so that its answers to hard problems are poor."""
    program("prometheus")
    monkeypatch.setenv("PYTHONPATH", str(DEPLOY.parent))
    monkeypatch.setenv("FAULTS", str(tmp_path))
    poor = tmp_path / "poor.safetensors"
    torch.manual_seed(0)
    weights.save(DistributionTransformer(Configuration(width=8, layers=1, heads=2, hidden=8)), poor, {})
    with KafkaNode() as broker, stream(broker, unique_names(), tmp_path) as opened:
        model = Model(
            entity="*",
            name="wide",
            motion=RandomWalk(spectral_density=1.0),
            coordinates=tuple(Coordinate(name=name, unit="m") for name in ("x", "y", "z")),
            prior=Mixture.gaussian((0.0, 0.0, 0.0), 100.0),
        )
        sharp = RangeSensor(
            sensor="sharp", coordinates=("x", "y", "z"), position=(30.0, 20.0, 10.0), standard_deviation=1e-6
        )
        blunt = sharp.model_copy(
            update={"sensor": "blunt", "standard_deviation": 30.0}
        )  # asked of the network
        seen = [
            PositionSensor(sensor=name, coordinates=("x", "y", "z"), standard_deviation=1.0)
            for name in ("bent", "steady")
        ]
        opened.define([sharp, blunt, *seen, model])
        worker = opened.worker(
            weights=str(poor),
            refine_below=0.0,
            measurements="tests.deploy.tight_device,tests.streams.faults",
            session_timeout=SESSION,
            stall_seconds=STALL,
            health_window=64.0,
        ).start()
        with prometheus(hastened(), f"127.0.0.1:{worker.port}", tmp_path, INTERVAL) as watching:
            yield Site(opened, worker, watching)


@pytest.mark.soak
@pytest.mark.kafka
def test_every_alert_fires_for_a_real_worker_and_ceases(site: Site, tmp_path: Path) -> None:
    quiet(site, "NoWorker")  # it fires until the worker has been scraped once
    assert site.fired() == set()

    site.observe("nobodys", 1.0, ["a", "b"], 5)
    fires(site, "DeadLetters")
    site.misplace("elsewhere")
    fires(site, "WrongPartitioner")
    site.observe("blunt", 80.0, [f"b-{number}" for number in range(300)])
    fires(site, "OutOfMemory")
    site.observe("sharp", 80.0, [f"e-{number}" for number in range(80)])
    fires(site, "LowSampleEfficiency")
    fires(site, "AccumulatedError")
    quiet(site, "DeadLetters")
    quiet(site, "WrongPartitioner")

    site.judge_sensors()
    fires(site, "SensorFaulty")
    fires(site, "SensorSilent")

    site.observe("sharp", 80.0, ["hot"], BACKLOG)
    fires(site, "FallingBehind")
    fires(site, "SlowPosteriors")
    quiet(site, "NoProgress")  # over seconds it may have been none
    broker = site.stream.broker
    assert isinstance(broker, KafkaNode)
    broker.kill()  # with most of the backlog still to come
    fires(site, "NoProgress")
    fires(site, "BrokerUnavailable")

    site.worker.kill()
    fires(site, "NoWorker")
    quiet(site, "NotReady")

    broker.start()
    site.delete_observations()
    names = site.stream.names.topics
    make_again(broker.bootstrap_servers, names, names.beliefs_changelog, PARTITIONS)
    site.worker.launch()  # which answers, and has to wait for the session of the one that was killed
    fires(site, "NotReady")
    quiet(site, "NoWorker")
    quiet(site, "NotReady", PATIENCE + 2 * SESSION)  # a rebalance may take as long again
    assert site.worker.metrics()["beliefstream_ready"] == 1.0
    fires(site, "MessagesLost")
    fires(site, "LogDamaged")
    quiet(site, "MessagesLost")

    (tmp_path / "stuck").touch()
    site.observe("sharp", 80.0, ["stuck"])
    fires(site, "Stalled")
