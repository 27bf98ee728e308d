"""Errors of sensors that last, through an entity's record: late messages, batches and resets change nothing."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from beliefstream.schemas import Model, Observation, Posterior, Reset, Sensor, parse, parse_sensor
from beliefstream.streams.local.offline_log import Log
from tests.streams.definitions.test_errors import MODEL
from tests.streams.one_entity import OneEntity
from tests.streams.oracle import updater

WALKER = parse(Model, json.dumps(MODEL | {"include_errors": True, "lateness_window": 100}).encode())
PLACES = ((0.0, 0.0), (8.0, 0.0), (0.0, 8.0))


def masts() -> list[Sensor]:
    """The first two are of one device."""
    fields = {"kind": "range", "standard_deviation": 0.1, "persistent_deviation": 0.4, "correlation_time": 5}
    return [
        parse_sensor(
            json.dumps(
                {"sensor": f"mast-{n}", "position": place, **fields} | ({"device": "hub"} if n < 2 else {})
            ).encode()
        )
        for n, place in enumerate(PLACES)
    ]


def observations() -> list[Observation]:
    random = np.random.default_rng(3)
    found = []
    for number in range(18):
        away = np.linalg.norm(np.array([3.0, 4.0]) - PLACES[number % 3]) + 0.3
        # of the last mast nothing for longer than its error is remembered
        time = 0.7 * number + 25.0 * (number > 12)
        value = float(away + random.normal(0, 0.1))
        found.append(
            Observation(
                entity="e", sensor=f"mast-{number % 3}", time=time, value=value, id=f"report-{number}"
            )
        )
    return found


@pytest.fixture(scope="module")
def expected() -> Posterior:
    log = Log()
    for mast in masts():
        log.define_sensor(mast)
    log.define_model(WALKER)
    for observation in observations():
        log.add(observation.to_json())
    return [parse(Posterior, fused.to_json()) for fused in log.fuse(updater())][-1]


def same(found: Posterior, expected: Posterior) -> None:
    assert [error.name for error in found.errors] == ["hub/range", "mast-2/range"]
    for part in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(found.mixture, part), getattr(expected.mixture, part), atol=1e-9)
    for mine, other in zip(found.errors, expected.errors, strict=True):
        assert (mine.mean, mine.standard_deviation) == pytest.approx((other.mean, other.standard_deviation))


@pytest.mark.parametrize("seed", range(3))
def test_any_order_in_any_batches_ends_as_the_replay_does(seed: int, expected: Posterior) -> None:
    random, messages = np.random.default_rng(seed), observations()
    order = random.permutation(len(messages)) if seed else np.arange(len(messages))
    cuts = [0, *sorted(random.choice(np.arange(1, len(messages)), 5, False).tolist()), len(messages)]
    entity = OneEntity(WALKER, masts(), updater())
    for start, end in pairwise(cuts):
        entity.apply([messages[place] for place in order[start:end]])
    assert entity.rejected == []
    same(entity.posteriors[-1], expected)


def test_a_reset_forgets_errors(expected: Posterior) -> None:
    entity = OneEntity(WALKER, masts(), updater())
    entity.apply([Observation(entity="e", sensor="mast-0", time=0.0, value=9.0, id="first")])
    entity.apply([Reset(entity="e", reset=True, time=0.0)])
    entity.apply(observations())
    same(entity.posteriors[-1], expected)
