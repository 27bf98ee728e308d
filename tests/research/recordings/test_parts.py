"""Recordings without the calibration that was fitted to them."""

from __future__ import annotations

from pathlib import Path

from beliefstream.schemas import Channel, OwnSensor, RangeRelativeBearingSensor
from research.recordings.parts import without_calibration
from research.recordings.readers import read


def test_without_calibration_distances_are_as_reported_and_nothing_else_changes(data: Path) -> None:
    for name in ("uwb_planar", "mrclam_robot1"):
        recording = read(name, data=data)
        for plain, fitted in zip(without_calibration(recording).sensors, recording.sensors, strict=True):
            if isinstance(fitted, RangeRelativeBearingSensor):
                assert isinstance(plain, RangeRelativeBearingSensor)
                pair: tuple[Channel, Channel] = plain.range, fitted.range
                assert plain.bearing == fitted.bearing
            elif isinstance(fitted, OwnSensor):
                assert isinstance(plain, OwnSensor)
                pair = plain, fitted
            else:
                assert plain == fitted
                continue
            check(*pair)


def check(plain: Channel, fitted: Channel) -> None:
    assert (plain.scale, plain.bias) == (1.0, 0.0)
    assert (fitted.scale, fitted.bias) != (1.0, 0.0)
    assert plain.standard_deviation == fitted.standard_deviation
