"""Messages of ROS 2 bags as observations."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcap.writer import CompressionType

from beliefstream.schemas import Observation, Unusable
from beliefstream.streams.bridges.mapping import Found, mapping_of, observations
from beliefstream.streams.bridges.tables import format_of, open_table
from tests.streams.bridges.bags import (
    START,
    Sent,
    covariance,
    distance,
    fix,
    header,
    imu,
    odometry,
    write_bag,
)

FIX, IMU, RANGE = "sensor_msgs/msg/NavSatFix", "sensor_msgs/msg/Imu", "sensor_msgs/msg/Range"
ODOMETRY, POSE = "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseWithCovarianceStamped"


def read(path: Path, *topics: dict[str, Any], constants: tuple[str, ...] = ()) -> list[Found]:
    mapping = mapping_of({"topics": list(topics)}, [], constants, None)
    with closing(open_table(str(path), format_of(str(path)), mapping.bag)) as table:
        return list(observations(table, mapping))


def good(found: list[Found]) -> list[Observation]:
    bad = [each for each in found if isinstance(each.observation, Unusable)]
    assert not bad, bad
    return [each.observation for each in found if isinstance(each.observation, Observation)]


def faults(found: list[Found]) -> list[str]:
    return [f"{each.place}: {each.observation}" for each in found if isinstance(each.observation, Unusable)]


def observed(sensor: str, value: Any, after: float = 0.0, **fields: Any) -> Observation:
    return Observation(entity="rover", sensor=sensor, time=START + after, value=value, **fields)


def test_every_type_has_a_value_and_its_covariance_without_a_mapping(tmp_path: Path) -> None:
    fixed = covariance(3, v00=4.0, v01=1.0, v11=9.0, v22=25.0)
    bag = write_bag(
        tmp_path / "drive.mcap",
        [
            Sent("/gps/fix", FIX, fix(0.5, (50.75, -1.25, 12.0), fixed, kind=3), 0.5),
            Sent("/imu", IMU, imu(1.0), 1.0),
            Sent("/sonar", RANGE, distance(1.5, 2.5, variance=0.0625), 1.5),
            Sent("/odom", ODOMETRY, odometry(2.0, 3.0, 4.0), 2.0),
            Sent("/amcl_pose", POSE, {key: odometry(2.5, 5.0, 6.0)[key] for key in ("header", "pose")}, 2.5),
            Sent("/chatter", "std_msgs/msg/String", {"data": "hello"}, 3.0),
        ],
    )
    pose = ((0.04, 0.01), (0.01, 0.09))
    assert good(read(bag, constants=("entity=rover",))) == [
        observed("gps/fix", (50.75, -1.25), 0.5, covariance=((4.0, 1.0), (1.0, 9.0))),
        observed("imu", 0.125, 1.0, covariance=((0.0004,),)),
        observed("sonar", 2.5, 1.5, covariance=((0.0625,),)),
        observed("odom", (3.0, 4.0), 2.0, covariance=pose),
        observed("amcl_pose", (5.0, 6.0), 2.5, covariance=pose),
    ]


def test_one_message_makes_several_observations(tmp_path: Path) -> None:
    yaw = 2.5
    bag = write_bag(tmp_path / "drive.mcap", [Sent("/rover/odom", ODOMETRY, odometry(1.25, 3, 4, yaw))])
    topics: list[dict[str, Any]] = [
        {"topic": "/{entity}/odom", "sensor": name, "quantity": name} for name in ("position", "yaw", "twist")
    ]
    topics.append({"topic": "/{entity}/odom", "sensor": "velocity", "quantity": "velocity", "dimensions": 3})
    found = read(bag, *topics)
    assert len({each.place for each in found}) == 4  # fuse knows an observation again by its place
    position, heading, twist, velocity = good(found)
    assert position == observed("position", (3.0, 4.0), 1.25, covariance=((0.04, 0.01), (0.01, 0.09)))
    assert heading.value == pytest.approx(yaw)
    assert heading.covariance == ((0.0025,),)
    assert twist == observed("twist", (1.5, 0.2), 1.25, covariance=((0.04, 0.0), (0.0, 0.0025)))
    assert velocity.value == (1.5, 0.1, 0.0)
    assert velocity.covariance == ((0.04, 0.01, 0.0), (0.01, 0.09, 0.0), (0.0, 0.0, 1.0))


def test_levels_of_a_topic_name_entity_and_sensor(tmp_path: Path) -> None:
    messages = [
        Sent(f"/{robot}/{sensor}/range", RANGE, distance(0, 1.0))
        for robot in "ab"
        for sensor in ("left", "right")
    ]
    bag = write_bag(tmp_path / "drive.mcap", messages)
    found = good(read(bag, {"topic": "/{entity}/{sensor}/range"}))
    assert [(each.entity, each.sensor) for each in found] == [
        ("a", "left"),
        ("a", "right"),
        ("b", "left"),
        ("b", "right"),
    ]
    tagged = good(read(bag, {"topic": "/{robot}/left/range", "entity": "tag-{robot}", "sensor": "sonar"}))
    assert [(each.entity, each.sensor) for each in tagged] == [("tag-a", "sonar"), ("tag-b", "sonar")]


def test_an_unknown_covariance_leaves_that_of_the_sensor(tmp_path: Path) -> None:
    bag = write_bag(
        tmp_path / "drive.mcap",
        [
            Sent("/fix", FIX, fix(0, (1, 2, 3), covariance(3, v00=4.0, v11=4.0, v22=4.0), kind=0)),
            Sent("/imu", IMU, imu(1)),
            Sent("/sonar", RANGE, distance(2, 1.0)),
        ],
    )
    rover = {"entity": "rover"}
    found = good(
        read(
            bag,
            {"topic": "/fix", "dimensions": 3, **rover},
            {"topic": "/imu", "quantity": "acceleration", **rover},
            {"topic": "/imu", "quantity": "yaw", "covariance": "sensor", **rover},
            {"topic": "/sonar", **rover},
        )
    )
    assert [each.covariance for each in found] == [None] * 4
    assert [each.value for each in found] == [(1.0, 2.0, 3.0), (1.0, 2.0), pytest.approx(0.5), 1.0]


def test_a_reading_that_is_none_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    no_orientation = imu(0) | {"orientation_covariance": covariance(3, v00=-1.0)}
    turned = odometry(0, 1, 1)
    turned["pose"]["pose"]["orientation"] = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 0.0}
    bag = write_bag(
        tmp_path / "drive.mcap",
        [
            Sent("/fix", FIX, fix(0, (1, 2, 3), status=-1)),
            Sent("/fix", FIX, fix(0, (1, 2, 3))),
            Sent("/imu", IMU, no_orientation),
            Sent("/sonar", RANGE, distance(0, math.inf)),
            Sent("/sonar", RANGE, distance(0, 0.125)),
            Sent("/sonar", RANGE, distance(0, 1.0) | {"header": header(sec=0, nanosec=0)}),
            Sent("/odom", ODOMETRY, turned),
        ],
    )
    topics = [{"topic": f"/{name}", "entity": "rover"} for name in ("fix", "sonar")]
    topics += [{"topic": f"/{name}", "entity": "rover", "quantity": "yaw"} for name in ("imu", "odom")]
    found = read(bag, *topics)
    assert len(found) == 7
    assert faults(found) == [
        "message 1 of /fix: invalid: status.status: no fix (-1)",
        "message 1 of /imu: invalid: orientation: the message says that it has none (orientation_covariance[0] is -1)",
        "message 1 of /sonar: invalid: range: inf is not between min_range and max_range, 0.25 and 10",
        "message 2 of /sonar: invalid: range: 0.125 is not between min_range and max_range, 0.25 and 10",
        "message 3 of /sonar: invalid_time: header.stamp: it is 0; time: log in the mapping is the time of recording",
        "message 1 of /odom: invalid: pose.pose.orientation: expected a quaternion of length 1, got (0, 0, 0, 0)",
    ]


def test_the_time_of_recording_is_taken_if_asked_for(tmp_path: Path) -> None:
    unset = distance(0, 1.0) | {"header": header(sec=0, nanosec=0)}
    bag = write_bag(tmp_path / "drive.mcap", [Sent("/sonar", RANGE, unset, 7.5)])
    assert good(read(bag, {"topic": "/sonar", "entity": "rover", "time": "log"})) == [
        observed("sonar", 1.0, 7.5)
    ]


def test_a_folder_is_read_in_order_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for number in (1, 0):
        write_bag(folder / f"drive_{number}.mcap", [Sent("/sonar", RANGE, distance(number, 1.0 + number))])
    found = read(folder, {"topic": "/sonar", "entity": "rover"})
    assert good(found) == [observed("sonar", 1.0, 0), observed("sonar", 2.0, 1)]
    assert found[1].place == "message 1 of /sonar in drive_1.mcap"


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD])
def test_what_was_recorded_before_a_crash_is_read(compression: CompressionType, tmp_path: Path) -> None:
    messages = [Sent("/sonar", RANGE, distance(number, 1.0), number) for number in range(100)]
    bag = write_bag(tmp_path / "drive.mcap", messages, compression=compression)
    assert len(good(read(bag, constants=("entity=rover",)))) == 100
    whole = bag.read_bytes()
    bag.write_bytes(whole[: len(whole) // 3])
    found = read(bag, constants=("entity=rover",))
    kept = [each.observation for each in found[:-1]]
    assert 5 < len(kept) < 100
    assert kept == [observed("sonar", 1.0, number) for number in range(len(kept))]
    assert faults(found) == [f"{found[-1].place}: {found[-1].observation}"]
    assert f"after message {len(kept)}: invalid: message: the bag is damaged" in faults(found)[0]


@pytest.mark.parametrize(
    ("topics", "constants", "part"),
    [
        ([], (), "whose is /sonar? Name the entity: --set entity=NAME"),
        (
            [{"topic": "/radar"}],
            ("entity=a",),
            "no topic of it is used; there are /chatter (std_msgs/String), /sonar",
        ),
        (
            [{"topic": "/chatter"}],
            ("entity=a",),
            "/chatter is of type std_msgs/String (cdr), which is not read",
        ),
        (
            [{"topic": "/sonar", "quantity": "yaw"}],
            ("entity=a",),
            "/sonar of type sensor_msgs/Range has range, not 'yaw'",
        ),
        (
            [{"topic": "/sonar", "entity": "{robot}"}],
            (),
            "topics[0]: message: entity: {robot} is not in the topic '/sonar'",
        ),
        ([{"topic": "/sonar", "colour": 1}], (), "topics[0]: colour: Extra inputs are not permitted (1)"),
    ],
)
def test_a_mapping_that_does_not_fit_is_named(
    topics: list[dict[str, Any]], constants: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    messages = [
        Sent("/sonar", RANGE, distance(0, 1.0)),
        Sent("/chatter", "std_msgs/msg/String", {"data": "hello"}),
    ]
    bag = write_bag(tmp_path / "drive.mcap", messages)
    with pytest.raises(ValueError) as caught:
        read(bag, *topics, constants=constants)
    assert part in str(caught.value)


def test_what_is_no_bag_is_named(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    path.write_bytes(b"time,value\n")
    with pytest.raises(ValueError, match=r"drive\.mcap: not MCAP"):
        read(path)
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match=r"no file \*\.mcap or \*\.db3 in this folder"):
        read(tmp_path / "old")
    with pytest.raises(ValueError, match="times of a bag are in seconds, got 'ms'"):
        open_table(str(path), format_of(str(path)), mapping_of({}, [], [], "ms").bag)
