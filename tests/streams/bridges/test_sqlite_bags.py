"""Bags in SQLite as observations; written by the library that reads them, and changed by Python's own SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from tests.streams.bridges.bags import START, Sent, covariance, distance, fix, imu, odometry
from tests.streams.bridges.test_bags import FIX, IMU, ODOMETRY, POSE, RANGE, faults, good, observed, read

STORE = get_typestore(Stores.ROS2_JAZZY)
ROVER = ("entity=rover",)


def message(kind: str, content: Any) -> Any:
    """The library's message of that type."""
    made = {}
    for name, (form, what) in STORE.fielddefs[kind][1]:
        value = content[name]
        made[name] = message(str(what), value) if form == 2 else value
        if isinstance(value, (list, tuple)):
            made[name] = np.array(value, np.float64)
    return STORE.types[kind](**made)


def write(
    folder: Path, messages: Iterable[Sent], compression: CompressionMode = CompressionMode.NONE
) -> Path:
    """The folder of a bag."""
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3)
    if compression is not CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        topics: dict[str, Any] = {}
        for sent in messages:
            if sent.topic not in topics:
                topics[sent.topic] = writer.add_connection(sent.topic, sent.type, typestore=STORE)
            raw = STORE.serialize_cdr(message(sent.type, sent.content), sent.type)
            writer.write(topics[sent.topic], int((START + sent.at) * 1e9), raw)
    return folder


DRIVE = [
    Sent(
        "/gps/fix", FIX, fix(0.5, (50.75, -1.25, 12.0), covariance(3, v00=4.0, v01=1.0, v11=9.0), kind=3), 0.5
    ),
    Sent("/imu", IMU, imu(1.0), 1.0),
    Sent("/sonar", RANGE, distance(1.5, 2.5, variance=0.0625), 1.5),
    Sent("/odom", ODOMETRY, odometry(2.0, 3.0, 4.0), 2.0),
    Sent("/amcl_pose", POSE, {key: odometry(2.5, 5.0, 6.0)[key] for key in ("header", "pose")}, 2.5),
    Sent("/chatter", "std_msgs/msg/String", {"data": "hello"}, 3.0),
]
SPREAD = ((0.04, 0.01), (0.01, 0.09))
OBSERVED = [
    observed("gps/fix", (50.75, -1.25), 0.5, covariance=((4.0, 1.0), (1.0, 9.0))),
    observed("imu", 0.125, 1.0, covariance=((0.0004,),)),
    observed("sonar", 2.5, 1.5, covariance=((0.0625,),)),
    observed("odom", (3.0, 4.0), 2.0, covariance=SPREAD),
    observed("amcl_pose", (5.0, 6.0), 2.5, covariance=SPREAD),
]


@pytest.mark.parametrize(
    "compression",
    [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE],
    ids=lambda mode: mode.name,
)
def test_every_type_has_a_value_and_its_covariance(tmp_path: Path, compression: CompressionMode) -> None:
    assert good(read(write(tmp_path / "drive", DRIVE, compression), constants=ROVER)) == OBSERVED


def test_a_mapping_says_what_of_which_topic_and_when(tmp_path: Path) -> None:
    bag = write(tmp_path / "drive", [Sent("/rover/odom", ODOMETRY, odometry(1.0, 3, 4, 0.5), 1.25)])
    topics: list[dict[str, Any]] = [
        {"topic": "/{entity}/odom", "sensor": "yaw", "quantity": "yaw", "covariance": "sensor"},
        {"topic": "/{entity}/odom", "sensor": "place", "dimensions": 3, "time": "log"},
    ]
    yaw, place = good(read(bag, *topics))
    assert (yaw.sensor, yaw.time, yaw.covariance) == ("yaw", START + 1.0, None)
    assert yaw.value == pytest.approx(0.5)
    assert (place.sensor, place.value) == ("place", (3.0, 4.0, 0.5))
    assert place.time == pytest.approx(START + 1.25, abs=1e-6)


def test_a_file_alone_is_read_and_so_is_a_folder_without_metadata(tmp_path: Path) -> None:
    bag = write(tmp_path / "drive", DRIVE)
    (bag / "metadata.yaml").unlink()
    assert good(read(bag, constants=ROVER)) == OBSERVED
    assert good(read(bag / "drive.db3", constants=ROVER)) == OBSERVED


def test_a_bag_without_definitions_is_one_of_humble(tmp_path: Path) -> None:
    bag = write(tmp_path / "drive", [each for each in DRIVE if each.type != RANGE])
    with sqlite3.connect(bag / "drive.db3") as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    expected = [each for each in OBSERVED if each.sensor != "sonar"]
    assert good(read(bag, constants=ROVER)) == expected


def test_messages_that_cannot_be_used_are_told_and_the_others_are_used(tmp_path: Path) -> None:
    no_fix = fix(1.0, (50.0, -1.0, 0.0), status=-1)
    bag = write(tmp_path / "drive", [DRIVE[0], Sent("/gps/fix", FIX, no_fix, 1.0), *DRIVE[1:2]])
    with sqlite3.connect(bag / "drive.db3") as database:
        database.execute("UPDATE messages SET data = x'0001' WHERE topic_id = 2")
    database.close()
    found = read(bag, constants=ROVER)
    assert [each.observation for each in found[:1]] == OBSERVED[:1]
    first, second = faults(found)
    assert first == "message 2 of /gps/fix: invalid: status.status: no fix (-1)"
    assert second.startswith("message 1 of /imu: invalid: message: cannot be decoded: ")


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    bag = write(tmp_path / "drive", [Sent("/imu", IMU, imu(n * 0.5), n * 0.5) for n in range(2000)])
    file = bag / "drive.db3"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 65536] = bytes(65536)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"drive: not a bag in SQLite: .*disk image is malformed"):
        read(bag, constants=ROVER)


def test_messages_that_a_recorder_has_not_put_into_the_file_are_not_left_out_silently(tmp_path: Path) -> None:
    bag = write(tmp_path / "drive", DRIVE)
    database = sqlite3.connect(bag / "drive.db3")  # left open, as a recorder is when it is killed
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "INSERT INTO messages(topic_id, timestamp, data) SELECT 1, timestamp + 1, data FROM messages"
    )
    database.commit()
    with pytest.raises(
        ValueError, match=r"drive\.db3-wal holds messages.*sqlite3 .*drive\.db3 'PRAGMA wal_checkpoint'"
    ):
        read(bag, constants=ROVER)
    database.close()
    assert len(read(bag, constants=ROVER)) == 2 * len(DRIVE) - 1


def test_what_is_no_bag_is_told(tmp_path: Path) -> None:
    file = tmp_path / "drive.db3"
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match=r"drive\.db3: not a bag in SQLite: "):
        read(file, constants=ROVER)
    sqlite3.connect(tmp_path / "other.db3").close()
    with pytest.raises(ValueError, match=r"other\.db3: not a bag in SQLite: "):
        read(tmp_path / "other.db3", constants=ROVER)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.db3", constants=ROVER)


def test_a_bag_of_which_nothing_is_used_says_what_there_is(tmp_path: Path) -> None:
    bag = write(tmp_path / "drive", DRIVE[-1:])
    with pytest.raises(ValueError, match=r"no topic of it is used; there are /chatter \(std_msgs/String\)"):
        read(bag, constants=ROVER)
