"""A recording under control goes through a worker as it does through the replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import ControlSensor
from research.recordings.readers import read
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.research.recordings.conftest import data_folder
from tests.streams.oracle import expected, shift
from tests.streams.workers import posteriors_of, stream

SECONDS = 15.0  # of the recording


def test_landmarks_and_odometry(embedded_broker: EmbeddedNode, names: Names, tmp_path: Path) -> None:
    folder = data_folder()
    if folder is None:
        pytest.skip(
            "the recorded data is not here: BELIEFSTREAM_DATA names its folder, or ../shared/data holds it"
        )
    recording = read("mrclam_robot1", data=folder)
    controls = {sensor.sensor for sensor in recording.sensors if isinstance(sensor, ControlSensor)}
    first = recording.observations[0].time
    sent = [o for o in recording.observations if o.time < first + SECONDS]
    assert {o.sensor for o in sent} & controls
    (outcomes,) = expected(recording.model, recording.sensors, sent).values()
    with stream(embedded_broker, names, tmp_path) as opened:
        opened.define([*recording.sensors, *recording.models])
        opened.worker().start()
        for observation in sent:
            opened.observations.send_message(observation)

        def newest(records: list[Any]) -> Any:
            found = posteriors_of(records).get(recording.model.entity, [])
            opened.dead_letters.poll(0)
            assert not opened.dead_letters.records
            return found if found and found[-1].sequence == len(sent) else None

        found = opened.posteriors.wait_for(newest, 60.0, "all are applied")
    # where a batch ends between two messages of one time, the second comes with a posterior that revises the first
    last = list({each.time: each for each in found}.values())
    assert [each.time for each in last] == [outcome.belief.time for outcome in outcomes]
    for posterior, outcome in zip(last, outcomes, strict=True):
        assert shift(posterior.mixture, outcome) < 1e-6
