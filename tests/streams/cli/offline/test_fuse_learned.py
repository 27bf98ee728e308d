"""`fuse` with likelihoods that were learned from their simulators: the posterior is the exact likelihood's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.definitions import own_code
from tests.learned import (
    MODEL,
    SENSORS,
    LogLikelihood,
    WeightsOf,
    counted,
    divergence,
    lagging,
    level,
    module_in,
    shared,
    weights_of as weights_of,  # the fixture
)
from tests.streams.cli.conftest import Result, Run

POSITION = {
    "sensor": "fix",
    "kind": "position",
    "coordinates": ["x"],
    "standard_deviation": 1.5,
}


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(own_code.SETTING, "simulators")
    with module_in(tmp_path):
        yield tmp_path


def observed(sensor: str, value: Any, time: float = 1.0) -> dict[str, Any]:
    return {"entity": "source", "sensor": sensor, "time": time, "value": value}


def fused(run: Run, folder: Path, *lines: dict[str, Any]) -> Result:
    (folder / "log.jsonl").write_text("\n".join(json.dumps(line) for line in (MODEL, *lines)))
    return run("fuse", "log.jsonl", "--strict")


def posteriors(result: Result) -> list[Posterior]:
    assert result.status == 0, result.err
    return [parse(Posterior, line.encode()) for line in result.out.splitlines()]


def check(posterior: Posterior, terms: list[LogLikelihood]) -> None:
    """The mixture is as near to the exact posterior as its quality says, and near."""
    error = posterior.quality.accumulated_error
    assert error is not None
    assert -0.001 < divergence(posterior, terms) < min(0.3, error + 0.1)


def place(value: float) -> LogLikelihood:
    return lambda states: np.asarray(scipy.stats.norm(states[:, 0], 1.5).logpdf(value))


def test_counts_known_by_their_simulator_alone_have_the_poisson_posterior(
    run: Run, folder: Path, weights_of: WeightsOf
) -> None:
    (folder / "Counter.safetensors").write_bytes(weights_of("Counter"))
    counts = [(24, -1.0), (9, 3.0), (15, -3.0)]
    lines = [observed("counter", list(each), float(time)) for time, each in enumerate(counts)]
    found = posteriors(fused(run, folder, SENSORS["Counter"], *lines))
    for number, posterior in enumerate(found, 1):
        check(posterior, [counted(*each) for each in counts[:number]])
    quality = found[-1].quality
    assert quality.likelihood == "learned" and quality.outside_training == 0
    assert quality.likelihood_error is not None and 0 < quality.likelihood_error < 0.02
    assert quality.accumulated_error is not None and quality.accumulated_error > quality.likelihood_error


def test_levels_with_heavy_tails_and_a_limit_have_the_exact_posterior(
    run: Run, folder: Path, weights_of: WeightsOf
) -> None:
    (folder / "Clipped.safetensors").write_bytes(weights_of("Clipped"))
    levels = [2.0, 1.1, 0.6]  # at the limit, and below it
    lines = [observed("level", value, float(time)) for time, value in enumerate(levels)]
    found = posteriors(fused(run, folder, SENSORS["Clipped"], *lines))
    for number, posterior in enumerate(found, 1):
        check(posterior, [level(value) for value in levels[:number]])


def test_learned_and_other_sensors_multiply_in_one_instant(
    run: Run, folder: Path, weights_of: WeightsOf
) -> None:
    for name in ("Counter", "Clipped"):
        (folder / f"{name}.safetensors").write_bytes(weights_of(name))
    lines = [observed("counter", [31, 1.0]), observed("level", 1.4), observed("fix", 0.4)]
    (found,) = posteriors(fused(run, folder, SENSORS["Counter"], SENSORS["Clipped"], POSITION, *lines))
    assert len(found.applied) == 3
    check(found, [counted(31, 1.0), level(1.4), place(0.4)])


def test_sets_and_sequences_of_several_sizes_multiply_in_one_instant(
    run: Run, folder: Path, weights_of: WeightsOf
) -> None:
    for name in ("Shared", "Lagging"):
        (folder / f"{name}.safetensors").write_bytes(weights_of(name))
    sets, sequence = [(0.8, [0.7]), (1.2, [0.5, 1.1, 0.2, 1.6])], [0.7, 1.5, 0.2, -0.4, 0.9, 1.4]
    lines = [observed("shared", [scale, *levels]) for scale, levels in sets]
    lines += [observed("lagging", sequence), observed("fix", 0.4)]
    (found,) = posteriors(fused(run, folder, SENSORS["Shared"], SENSORS["Lagging"], POSITION, *lines))
    assert len(found.applied) == 4
    check(found, [*(shared(*each) for each in sets), lagging(sequence), place(0.4)])


@pytest.mark.parametrize("value", [[0.8], [0.8, *[1.0] * 7]])
def test_a_set_without_rows_or_with_too_many_is_refused(
    run: Run, folder: Path, weights_of: WeightsOf, value: list[float]
) -> None:
    (folder / "Shared.safetensors").write_bytes(weights_of("Shared"))
    result = fused(run, folder, SENSORS["Shared"], observed("shared", value))
    assert result.status == 1 and not result.out
    assert (
        f"wrong_length: value: shared: 1 numbers, then 1 to 6 rows of 1 data expected, got {len(value)}"
        in (result.err)
    )


@pytest.mark.parametrize(
    ("value", "least"),
    [([24, 9.0], 0.6), ([9000, 1.0], 5.0)],  # a place of the counter, and a count, that were never simulated
)
def test_what_lies_outside_the_training_is_told(
    run: Run, folder: Path, weights_of: WeightsOf, value: list[float], least: float
) -> None:
    (folder / "Counter.safetensors").write_bytes(weights_of("Counter"))
    (found,) = posteriors(fused(run, folder, SENSORS["Counter"], observed("counter", value)))
    assert found.quality.outside_training is not None and found.quality.outside_training >= least


def test_a_posterior_beyond_the_range_of_the_parameters_is_told(
    run: Run, folder: Path, weights_of: WeightsOf
) -> None:
    (folder / "Counter.safetensors").write_bytes(weights_of("Counter"))
    far = {**MODEL, "prior": {"weights": [1], "means": [[15, 2.5]], "covariances": [[[1, 0], [0, 0.25]]]}}
    (folder / "log.jsonl").write_text(
        "\n".join(json.dumps(line) for line in (far, SENSORS["Counter"], observed("counter", [3, 1.0])))
    )
    (found,) = posteriors(run("fuse", "log.jsonl", "--strict"))
    # the 99.5 % quantile of x is 15 + 2.58, that is 8.58 beyond 9, of a range of 18
    assert found.quality.outside_training == pytest.approx(8.58 / 18, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "log_likelihood: simulators:Counter has none, and there are no weights"),
        ({"weights": "other.safetensors"}, "other.safetensors cannot be read: No such file or directory"),
        ({"weights": "Clipped.safetensors"}, "are of another problem: its problem is simulators:Clipped"),
        ({"weights": "Clipped.safetensors", "sha256": "0" * 64}, "sha256: "),
    ],
)
def test_weights_that_do_not_fit_are_told(
    run: Run, folder: Path, weights_of: WeightsOf, changes: dict[str, str], shown: str
) -> None:
    (folder / "Clipped.safetensors").write_bytes(weights_of("Clipped"))
    result = fused(run, folder, {**SENSORS["Counter"], **changes}, observed("counter", [24, 1.0]))
    assert result.status == 1 and not result.out
    assert "invalid_definition: sensor: counter cannot be used" in result.err and shown in result.err


def test_weights_with_the_stated_digest_are_used(run: Run, folder: Path, weights_of: WeightsOf) -> None:
    content = weights_of("Counter")
    (folder / "mine.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    sensor = {**SENSORS["Counter"], "weights": "mine.safetensors", "sha256": digest}
    (found,) = posteriors(fused(run, folder, sensor, observed("counter", [24, 1.0])))
    assert found.quality.likelihood == "learned"
