"""Every query of the dashboard and of the alerts gives numbers, from a real Prometheus and a real worker."""

from __future__ import annotations

import json
import math
import re
import time
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Coordinate, Mixture, Model, PositionSensor, RandomWalk
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.prometheus import program, prometheus
from tests.streams.workers import stream

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/beliefstream.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
QUESTIONS = (
    "Is it keeping up?",
    "Is it right?",
    "Which sensor is faulty?",
    "What was refused?",
    "Is something broken or lost?",
)
WINDOW = "20s"  # for Grafana's interval of rates, which depends on the width of a panel
COMPARISON = re.compile(r"(==|>|<)\s+")
PATIENCE = 60.0  # seconds
HEALTH_WINDOW = 64.0  # seconds
OF_A_GPU = "beliefstream_gpu_"


def queries() -> list[str]:
    """Of the panels and of the variables, as Grafana would send them with all sensors chosen."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"]["query"])[0]
            targets.append(f"count by ({label}) ({metric})")
    return [each.replace("$__rate_interval", WINDOW).replace("$sensor", ".*") for each in targets]


def conditions() -> list[str]:
    """Of the alerts, as 0 or 1 where they would be empty unless they fire; `absent` is of what must not be."""
    found = []
    for group in RULES["groups"]:
        for rule in group["rules"]:
            expression = re.sub(r"^absent\((.*)\)$", r"\1", rule["expr"])
            found.append(COMPARISON.sub(r"\1 bool ", expression))
    return found


def test_a_condition_is_tried_without_its_threshold() -> None:
    assert COMPARISON.sub(r"\1 bool ", 'sum(rate(a{b="c"}[5m])) > 0.01 * b and c == 0') == (
        'sum(rate(a{b="c"}[5m])) > bool 0.01 * b and c == bool 0'
    )
    assert 'up{job="beliefstream"} == bool 1' in conditions()


def test_each_row_of_the_dashboard_is_a_question() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert tuple(rows) == QUESTIONS


def test_sensors_have_panels_of_their_own() -> None:
    repeated = [panel for panel in DASHBOARD["panels"] if panel.get("repeat") == "sensor"]
    assert repeated
    for panel in repeated:
        assert "$sensor" in panel["title"]
        assert all('{sensor=~"$sensor"}' in target["expr"] for target in panel["targets"])


def test_every_query_gives_numbers(embedded_broker: EmbeddedNode, names: Names, tmp_path: Path) -> None:
    """While two sensors see some entities, one of them is biased, and a message in ten is refused."""
    program("prometheus")
    with stream(embedded_broker, names, tmp_path) as opened:
        opened.define(
            [
                *(PositionSensor(sensor=name, standard_deviation=1.0) for name in ("bent", "steady")),
                Model(
                    entity="*",
                    name="still",
                    motion=RandomWalk(spectral_density=0.01),
                    coordinates=tuple(Coordinate(name=name, unit="m") for name in "xy"),
                    prior=Mixture.gaussian((0.0, 0.0), 100.0),
                ),
            ]
        )
        worker = opened.worker(health_window=HEALTH_WINDOW).start()
        begin, topic = time.time() - 3600.0, names.topics.observations
        numbers, missing = count(), [each for each in queries() if OF_A_GPU not in each] + conditions()

        def send() -> None:
            """Five seconds of event time."""
            for number in islice(numbers, 5):
                name = "nobodys" if number % 10 == 9 else "bent" if number % 2 else "steady"
                entity, value = f"e-{number % 3}", [3.0 * (name == "bent") + (-1.0) ** (number // 2)] * 2
                body = {"entity": entity, "sensor": name, "time": begin + number, "value": value}
                opened.raw.send(topic, key=entity.encode(), value=json.dumps(body).encode())
            opened.raw.flush()

        def all_are_there() -> bool:
            send()
            missing[:] = [each for each in missing if not any(map(math.isfinite, watching.values(each)))]
            return not missing

        with prometheus(RULES, f"127.0.0.1:{worker.port}", tmp_path, "500ms") as watching:
            try:
                eventually(all_are_there, PATIENCE, "every query gives a number")
            finally:
                assert missing == []
            of_a_gpu = [each for each in queries() if OF_A_GPU in each]
            assert of_a_gpu
            for each in of_a_gpu:  # the worker of this test computes on the processor
                assert watching.values(each) == []
