"""What a worker waits for, and that every metric of the contract is there; the pages themselves: test_fusion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.app import create_app
from beliefstream.streams.worker.health import reasons_not_ready
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.deploy.counters import unborn
from tests.streams.oracle import updater
from tests.streams.workers import START_TIMEOUT, Worker, stream

DEPLOY = Path(__file__).parents[3] / "deploy"


async def nowhere(*_: Any) -> None:
    raise AssertionError("nothing is refused here")


@pytest.fixture
def reader() -> DefinitionsReader:
    return DefinitionsReader(Definitions("sensors", "models"), "127.0.0.1:1", nowhere)


def test_a_worker_that_has_not_started_waits_for_definitions_and_beliefs(reader: DefinitionsReader) -> None:
    app = create_app(Settings(application="health", logs="json"), updater())
    reachable = Reachability([])
    assert reasons_not_ready(app, reader, reachable) == [
        "definitions are being read",
        "beliefs are being recovered",
    ]
    reader.complete.set()
    assert reasons_not_ready(app, reader, reachable) == ["beliefs are being recovered"]
    app.tables.on_actives_ready()  # type: ignore[attr-defined]
    assert reasons_not_ready(app, reader, reachable) == []
    app.in_recovery = True
    app.rebalancing = True
    assert reasons_not_ready(app, reader, reachable) == [
        "partitions are being assigned",
        "beliefs are being recovered",
    ]


def test_a_worker_exports_whether_it_is_ready_from_before_it_is(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    with stream(embedded_broker, names, tmp_path) as opened:
        worker = opened.worker().launch()
        eventually(lambda: worker.page("/metrics")[0] == 200, START_TIMEOUT, "the worker answers")
        assert (worker.metrics()["beliefstream_ready"], worker.page("/readyz")[0]) == (0.0, 503)
        worker.wait_until_ready()
        assert worker.metrics()["beliefstream_ready"] == 1.0
        check_counters(worker, names)


def check_counters(worker: Worker, names: Names) -> None:
    """Each counter of an alert or a panel is there at 0: a rate sees nothing of a series that begins at 784."""
    yaml = pytest.importorskip("yaml")
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    panels = json.loads((DEPLOY / "grafana/dashboards/beliefstream.json").read_text())["panels"]
    expressions += [target["expr"] for panel in panels for target in panel.get("targets", ())]
    shown = text_string_to_metric_families(worker.page("/metrics")[1])
    samples = [sample for family in shown for sample in family.samples]
    assert list(unborn(expressions, samples)) == []
    lost = {s.labels["topic"] for s in samples if s.name == "beliefstream_lost_offsets_total"}
    assert lost == {names.topics.observations, names.topics.priors}


def test_every_metric_is_ours_by_name_and_in_base_units() -> None:
    """Which ones there are is held against the dashboard, in tests/deploy."""
    shown = text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())
    exposed = {family.name for family in shown}
    assert len(exposed) > 20
    assert all(name.startswith(("beliefstream_", "process_")) for name in exposed)
    assert not any(name.endswith(("_milliseconds", "_ms", "_minutes", "_kilobytes")) for name in exposed)
