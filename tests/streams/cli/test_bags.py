"""Bags through the commands, from ROS 2 to Foxglove."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from beliefstream.schemas import Posterior, parse
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.bridges.bags import START, Sent, odometry, write_bag
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.messages.test_send import arrived
from tests.streams.cli.offline.test_fuse_tables import MODELS

ODOMETRY = "nav_msgs/msg/Odometry"
SENSORS = """
- {sensor: odom, kind: position, standard_deviation: 2}
- {sensor: yaw, kind: heading, standard_deviation: 0.1}
"""
TOPICS = """
topics:
  - {topic: "/{entity}/odom", sensor: odom}
  - {topic: "/{entity}/odom", sensor: yaw, quantity: yaw}
"""


@pytest.fixture(autouse=True)
def files(small_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))
    (tmp_path / "sensors.yaml").write_text(SENSORS)
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "topics.yaml").write_text(TOPICS)
    messages = [
        Sent("/rover/odom", ODOMETRY, odometry(number, 3.0 + number, 4.0, 0.5), number) for number in (0, 1)
    ]
    write_bag(tmp_path / "drive.mcap", messages)


def test_a_bag_is_fused_to_what_a_kalman_filter_gives_and_foxglove_draws(run: Run, tmp_path: Path) -> None:
    definitions = ("--sensors", "sensors.yaml", "--models", "models.yaml", "--output", "out.mcap")
    bag = tmp_path / "drive.mcap"
    (tmp_path / "odom.yaml").write_text('topics: [{topic: "/{entity}/odom", sensor: odom}]')
    result = run("fuse", str(bag), "--mapping", "odom.yaml", *definitions)
    assert result.status == 0, result.err
    mean, covariance = np.zeros(2), 100 * np.eye(2)
    noise = np.array([[0.04, 0.01], [0.01, 0.09]])  # of the messages, not the sensor's
    for step, value in enumerate([(3.0, 4.0), (4.0, 4.0)]):
        covariance = covariance + 0.1 * step * np.eye(2)
        gain = covariance @ np.linalg.inv(covariance + noise)
        mean, covariance = mean + gain @ (value - mean), covariance - gain @ covariance
    with (tmp_path / "out.mcap").open("rb") as file:
        last = [message.data for _, _, message in make_reader(file).iter_messages(topics=["/posteriors"])][-1]
    posterior = parse(Posterior, last)
    assert (posterior.entity, posterior.time) == ("rover", START + 1)
    np.testing.assert_allclose(posterior.mixture.mean(), mean, rtol=1e-5)
    np.testing.assert_allclose(posterior.mixture.covariance(), covariance, rtol=1e-4)


def test_a_bag_is_sent(run: Run, topics: Names, embedded_broker: EmbeddedNode) -> None:
    result = run("send", "drive.mcap", "--mapping", "topics.yaml")
    assert result.status == 0, result.err
    assert result.out.startswith("sent 4 observations of 1 entity, 0 unusable rows")
    found = arrived(embedded_broker, topics)
    assert [(each["entity"], each["sensor"], each["time"]) for each in found] == [
        ("rover", "odom", START),
        ("rover", "yaw", START),
        ("rover", "odom", START + 1),
        ("rover", "yaw", START + 1),
    ]
    assert found[0]["value"] == [3, 4]
    assert found[1]["value"] == pytest.approx(0.5)
    assert json.dumps(found[0]["covariance"]) == "[[0.04, 0.01], [0.01, 0.09]]"


def test_a_bag_without_an_entity_is_one_line(run: Run) -> None:
    result = run("fuse", "drive.mcap", "--sensors", "sensors.yaml", "--models", "models.yaml")
    assert_one_line(result, "whose is /rover/odom?", "--set entity=NAME")
