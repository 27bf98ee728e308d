from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream import (
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    RandomWalk,
    fuse,
)
from beliefstream.streams.settings import Settings
from tests.streams.cli.conftest import small_weights as small_weights  # the fixture

GPS = PositionSensor(sensor="gps", standard_deviation=2.0)
WALKER = Model(
    entity="*",
    name="walker",
    motion=RandomWalk(spectral_density=0.1),
    coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
    prior=Mixture.gaussian((0, 0), standard_deviations=10),
)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ROWS: dict[str, list[Any]] = {
    "t": [NOON, NOON.replace(second=1), NOON],
    "id": [7, 7, 8],
    "x": [3.0, 4.0, 0.5],
    "y": [4.0, 4.5, 1.0],
}
COLUMNS = {"time": "t", "entity": "id", "value": ["x", "y"]}
OBSERVATIONS = [
    Observation(entity=str(entity), sensor="gps", time=time.timestamp(), value=(x, y))
    for time, entity, x, y in zip(*ROWS.values(), strict=True)
]


@pytest.fixture(autouse=True)
def weights(small_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))


def test_a_list_of_observations_gives_posteriors_whatever_its_order() -> None:
    found = fuse(OBSERVATIONS, GPS, WALKER)
    assert all(isinstance(each, Posterior) for each in found)
    first = next(each for each in found if each.entity == "7")
    gain = 100 / (100 + 4)  # of a prior of 10 m and a report of 2 m
    np.testing.assert_allclose(first.mixture.mean(), [3 * gain, 4 * gain], rtol=1e-6)
    assert first.applied == ("observations[0]",)
    backwards = fuse(OBSERVATIONS[::-1], [GPS], [WALKER])
    key = lambda each: (each.entity, each.time)  # noqa: E731
    for one, other in zip(sorted(found, key=key), sorted(backwards, key=key), strict=True):
        np.testing.assert_allclose(one.mixture.means, other.mixture.means, atol=1e-9)


def test_dictionaries_are_observations_too() -> None:
    fields = {"entity": "7", "sensor": "gps", "time": NOON, "value": np.array([3.0, 4.0])}
    (only,) = fuse([fields], GPS, WALKER)
    assert only.time == NOON.timestamp()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_gives_a_frame(library: str) -> None:
    frames = pytest.importorskip(library, exc_type=ImportError)
    found = fuse(frames.DataFrame(ROWS), GPS, WALKER, columns=COLUMNS, constants={"sensor": "gps"})
    assert isinstance(found, frames.DataFrame)
    expected = fuse(OBSERVATIONS, GPS, WALKER)
    assert list(found["entity"]) == [each.entity for each in expected]
    np.testing.assert_allclose(list(found["x_mean"]), [each.mixture.mean()[0] for each in expected])
    np.testing.assert_allclose(
        list(found["y_standard_deviation"]), [each.mixture.standard_deviations()[1] for each in expected]
    )
    assert "sample_efficiency" in found.columns


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_an_empty_cell_and_a_time_without_a_zone_are_told(library: str) -> None:
    frames = pytest.importorskip(library, exc_type=ImportError)
    options: dict[str, Any] = {"columns": COLUMNS, "constants": {"sensor": "gps"}}
    empty = frames.DataFrame({**ROWS, "x": [3.0, None, 0.5]})
    with pytest.raises(ValueError, match=r"^row 1: invalid: value\[0\]|^row 1: wrong_length: value\[0\]"):
        fuse(empty, GPS, WALKER, **options)
    naive = frames.DataFrame({**ROWS, "t": [each.replace(tzinfo=None) for each in ROWS["t"]]})
    with pytest.raises(ValueError, match=r"^row 0: invalid_time: time: .*'2026-01-31T12:00:00'"):
        fuse(naive, GPS, WALKER, **options)
    with pytest.raises(ValueError, match=r"no column 'when' for time; there are t, id, x, y"):
        fuse(
            frames.DataFrame(ROWS),
            GPS,
            WALKER,
            columns=COLUMNS | {"time": "when"},
            constants={"sensor": "gps"},
        )


def test_an_observation_that_does_not_fit_is_told_and_nothing_is_fused() -> None:
    unknown = OBSERVATIONS[0].model_copy(update={"sensor": "radar"})
    with pytest.raises(ValueError, match=r"^observations\[1\]: unknown_sensor: .*radar"):
        fuse([OBSERVATIONS[0], unknown], GPS, WALKER)
    with pytest.raises(ValueError, match=r"^observations\[0\]: invalid_time: time: looks like milliseconds"):
        fuse([{"entity": "a", "sensor": "gps", "time": 1_769_860_800_000, "value": [1, 2]}], GPS, WALKER)


def test_no_observation_gives_no_posterior() -> None:
    assert fuse([], GPS, WALKER) == []


def test_a_variable_that_is_almost_a_setting_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meant = "BELIEFSTREAM_FUTURE_TOLERENCE: there is no such setting; is it BELIEFSTREAM_FUTURE_TOLERANCE?"
    monkeypatch.setenv("BELIEFSTREAM_FUTURE_TOLERENCE", "5")
    with pytest.raises(ValueError, match=re.escape(meant)):
        fuse(OBSERVATIONS, GPS, WALKER)
    monkeypatch.delenv("BELIEFSTREAM_FUTURE_TOLERENCE")
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("BELIEFSTREAM_FUTURE_TOLERENCE=5\n")
    with pytest.raises(ValueError, match=re.escape(meant)):
        Settings()
    assert Settings(_env_file=None).future_tolerance == 60
