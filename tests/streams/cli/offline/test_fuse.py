from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from beliefstream.inference.tracking.events import Event
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.update.devices import choose_device
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Posterior, parse
from beliefstream.streams.definitions.models import state_model
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.local.simulated_fleet import Simulation, simulate
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from tests.streams.cli.conftest import Result, Run, assert_one_line
from tests.streams.cli.examples import BEACON, GPS, WALKER


@pytest.fixture(autouse=True)
def weights(small_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))


def replayed(simulation: Simulation, updater: Updater) -> dict[str, list[Outcome]]:
    names = simulation.model.coordinate_names
    sensors = {sensor.sensor: sensor_over(sensor, names) for sensor in simulation.sensors}
    model = state_model(simulation.model)
    events = [
        Event(each.entity, each.time, reading=reading_of(each, sensors[each.sensor]))
        for each in simulation.observations
    ]
    outcomes: dict[str, list[Outcome]] = {}
    for entity, outcome in replay(events, lambda _: model, updater):
        outcomes.setdefault(entity, []).append(outcome)
    return outcomes


def test_the_posteriors_are_those_of_a_replay_whatever_the_order_of_lines(run: Run, tmp_path: Path) -> None:
    simulation = simulate(entities=3, duration=4.0, rate=3.0, seed=5)
    (tmp_path / "sensors.jsonl").write_bytes(b"\n".join(each.to_json() for each in simulation.sensors))
    (tmp_path / "models.json").write_bytes(simulation.model.to_json())
    lines = [each.to_json() for each in simulation.observations]
    random.Random(1).shuffle(lines)
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    result = run(
        *("fuse", "log.jsonl", "--sensors", "sensors.jsonl", "--models", "models.json", "--out", "out.jsonl")
    )
    assert result.status == 0, result.err
    assert f"{len(lines)} observations, 0 priors, 0 unusable lines" in result.err
    fused: dict[str, list[Posterior]] = {}
    for line in (tmp_path / "out.jsonl").read_bytes().splitlines():
        posterior = parse(Posterior, line)
        fused.setdefault(posterior.entity, []).append(posterior)
    expected = replayed(simulation, make_updater(Settings()))
    assert fused.keys() == expected.keys()
    for entity, outcomes in expected.items():
        assert [posterior.sequence for posterior in fused[entity]] == list(range(1, len(outcomes) + 1))
        for posterior, outcome in zip(fused[entity], outcomes, strict=True):
            assert posterior.time == outcome.belief.time
            np.testing.assert_allclose(posterior.mixture.weights, outcome.belief.weights, atol=1e-9)
            np.testing.assert_allclose(posterior.mixture.means, outcome.belief.means, rtol=1e-7)
            np.testing.assert_allclose(posterior.mixture.covariances, outcome.belief.covariances, atol=1e-7)


LOG = f"""
{{"entity": "a", "sensor": "beacon-1", "time": 10, "value": 4.5, "id": "mine"}}
nonsense
{{"entity": "a", "sensor": "beacon-2", "time": 10, "value": 4.5}}
{{"entity": "a", "mixture": {{"weights": [1], "means": [[1, 2]], "covariances": [[[9, 0], [0, 9]]]}}, "time": 5}}
{{"entity": "a", "sensor": "beacon-1", "time": 11, "value": NaN}}
{{"entity": "a", "sensor": "beacon-1", "time": 12, "value": 4.6}}
{BEACON}
{WALKER}
"""


def test_bad_lines_are_told_and_left_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(LOG)
    result = run("fuse", "log.jsonl")
    assert result.status == 0
    prior, first, second = (parse(Posterior, line) for line in result.out.encode().splitlines())
    assert (prior.quality.method, prior.prior_sequence, prior.applied) == ("prior", 1, ())
    assert (first.sequence, first.applied) == (2, ("mine",))
    assert second.applied == ("line:7",)
    told = result.err.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in told[:-1]] == [
        "not_json",
        "unknown_sensor",
        "not_finite",
    ]
    assert [line.split(":")[0] for line in told[:-1]] == ["line 3", "line 4", "line 6"]
    assert "2 observations, 1 prior, 3 unusable lines; 3 posteriors" in told[-1]


def test_after_too_long_a_gap_an_entity_starts_from_the_prior(run: Run, tmp_path: Path) -> None:
    walker = json.dumps({**json.loads(WALKER), "expires_after": 60})

    def fused(*times: float) -> list[Posterior]:
        seen = [{"entity": "a", "sensor": "gps", "time": time, "value": [time / 10, 1]} for time in times]
        lines = [GPS, walker, *map(json.dumps, seen)]
        (tmp_path / "log.jsonl").write_text("\n".join(lines))
        return [parse(Posterior, line) for line in run("fuse", "log.jsonl").out.encode().splitlines()]

    after_gap, alone, within = fused(0, 61)[-1], fused(61)[-1], fused(0, 60)[-1]
    assert after_gap.mixture == alone.mixture
    assert after_gap.sequence == 2
    assert within.mixture.covariances != fused(60)[-1].mixture.covariances


def test_a_reset_forgets_what_stands_above_it_of_its_entity(run: Run, tmp_path: Path) -> None:
    def seen(entity: str, time: float) -> str:
        return json.dumps({"entity": entity, "sensor": "gps", "time": time, "value": [time, 1]})

    def fused(*lines: str) -> list[Posterior]:
        (tmp_path / "log.jsonl").write_text("\n".join([GPS, WALKER, *lines]))
        result = run("fuse", "log.jsonl")
        assert result.status == 0, result.err
        return [parse(Posterior, line) for line in result.out.encode().splitlines()]

    reset = json.dumps({"entity": "a", "reset": True, "time": 9, "id": "r"})
    lines = (
        seen("a", 50),
        seen("b", 1),
        seen("a", 60),
        reset,
        reset,
        seen("a", 2),
        seen("b", 3),
        seen("a", 4),
    )
    found = fused(*lines)
    own = [each for each in found if each.entity == "a"]
    assert [(each.time, each.sequence) for each in own] == [(50, 1), (60, 2), (9, 3), (2, 4), (4, 5)]
    assert (own[2].quality.method, own[2].mixture.covariances[0][0][0]) == ("prior", 100.0)
    anew = fused(seen("a", 2), seen("a", 4))
    assert [each.mixture for each in own[3:]] == [each.mixture for each in anew]
    others = fused(seen("b", 1), seen("b", 3))
    assert [each.mixture for each in found if each.entity == "b"] == [each.mixture for each in others]


def test_a_time_in_the_future_is_refused_unless_times_are_not_live(run: Run, tmp_path: Path) -> None:
    """The time of a line that cannot be used is told, and how far ahead it is."""
    line = json.dumps({"entity": "a", "sensor": "gps", "time": time.time() + 1e9, "value": [1, 1]})
    (tmp_path / "log.jsonl").write_text("\n".join([GPS, WALKER, line]))
    result = run("fuse", "log.jsonl")
    assert "line 3: future: time: " in result.err
    assert "1e+09 s ahead of the worker's clock" in result.err
    simulated = json.dumps({**json.loads(WALKER), "live_time": False})
    (tmp_path / "log.jsonl").write_text("\n".join([GPS, simulated, line]))
    assert len(run("fuse", "log.jsonl").out.splitlines()) == 1


def test_strict_fuses_nothing_of_a_log_with_bad_lines(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(LOG)
    result = run("fuse", "log.jsonl", "--strict", "--out", "out.jsonl")
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("beliefstream: 2 observations")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_table_is_refused_in_one_line_that_says_what_is_wanted(run: Run, tmp_path: Path) -> None:
    """The name of a file says that it is a table, or else an option."""
    (tmp_path / "log.txt").write_text("entity,sensor,time,value\na,gps,1,3\na,gps,2,4\n")
    result = run("fuse", "log.txt", "--out", "out.jsonl")
    assert_one_line(
        result, "log.txt: no line is a JSON object; expected JSON lines", '"entity": "boat"', "csv"
    )
    assert not (tmp_path / "out.jsonl").exists()


def test_a_log_of_which_no_line_can_be_used_is_a_failure(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(f'{GPS}\n{WALKER}\n{{"entity": "a", "sensor": "gps"}}\n')
    result = run("fuse", "log.jsonl")
    assert result.status == 1
    assert result.err.splitlines()[0].startswith("line 3: invalid: ")
    assert "beliefstream: 0 observations, 0 priors, 1 unusable line; nothing" in result.err
    (tmp_path / "log.jsonl").write_text(f"{GPS}\n{WALKER}\n")
    assert run("fuse", "log.jsonl").status == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    line = json.dumps({"entity": "a", "sensor": "gps", "time": 1, "value": [1, 1]})
    (tmp_path / "log.jsonl").write_text("\n".join([GPS, WALKER, line]))
    assert_one_line(run("fuse", "log.jsonl", "--out", "/dev/full"), "No space left on device")
    command = [sys.executable, "-m", "beliefstream.streams.cli", "fuse", "log.jsonl"]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert_one_line(Result(ended.returncode, "", ended.stderr), "No space left on device")


def test_a_file_that_is_not_there_is_told(run: Run) -> None:
    assert_one_line(run("fuse", "nowhere.jsonl"), "nowhere.jsonl")


def test_weights_that_are_not_there_are_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.jsonl").write_text(f"{BEACON}\n{WALKER}\n")
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", "no-such-weights")
    assert_one_line(run("fuse", "log.jsonl"), "no-such-weights")


def test_a_device_that_is_not_there_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if choose_device().type == "cuda":
        pytest.skip("there is a CUDA device here")
    (tmp_path / "log.jsonl").write_text(f"{BEACON}\n{WALKER}\n")
    monkeypatch.setenv("BELIEFSTREAM_DEVICE", "cuda")
    assert_one_line(run("fuse", "log.jsonl"), "cuda")


def test_an_observation_that_comes_twice_counts_once_as_at_a_worker(run: Run, tmp_path: Path) -> None:
    once = {"entity": "a", "sensor": "beacon-1", "time": 10, "value": 4.5, "id": "mine"}
    kept = [once, {**once, "time": 11}, {**once, "id": "other"}, {**once, "entity": "b"}]
    for name, log in (("plain", kept), ("repeated", [*kept, once, {**once, "value": 4.6}])):
        (tmp_path / name).write_text("\n".join([BEACON, WALKER, *map(json.dumps, log)]))
    plain, repeated = run("fuse", "plain"), run("fuse", "repeated")
    assert repeated.out == plain.out
    assert [parse(Posterior, line.encode()).applied for line in plain.out.splitlines()].count(("mine",)) == 2
    assert repeated.err.startswith("4 observations, 0 priors, 2 repeated, 0 unusable lines")


def test_an_observation_may_come_again_after_a_reset(run: Run, tmp_path: Path) -> None:
    seen = json.dumps({"entity": "a", "sensor": "beacon-1", "time": 10, "value": 4.5, "id": "mine"})
    reset = json.dumps({"entity": "a", "reset": True, "time": 9})
    (tmp_path / "log").write_text("\n".join([BEACON, WALKER, seen, reset, seen]))
    result = run("fuse", "log")
    assert "2 observations, 0 priors, 1 reset, 0 unusable lines" in result.err
    assert [parse(Posterior, line.encode()).applied for line in result.out.splitlines()][1:] == [
        (),
        ("mine",),
    ]
