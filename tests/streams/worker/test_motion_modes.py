"""Modes of the motion noise, through an entity's record: late messages, batches, priors and resets change nothing."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from beliefstream.schemas import Mixture, Model, Observation, Posterior, Prior, Reset, parse, parse_sensor
from beliefstream.streams.local.offline_log import Log
from tests.streams.definitions.test_errors import MODEL
from tests.streams.one_entity import OneEntity
from tests.streams.oracle import updater

MODES = {"modes": [0.1, 1, 20], "mode_time": 4, "lateness_window": 100, "components": 4}
WALKER = parse(Model, json.dumps(MODEL | MODES).encode())
MASTS = [
    parse_sensor(
        json.dumps(
            {"sensor": f"mast-{n}", "kind": "range", "position": place, "standard_deviation": 0.2}
            | {"outlier_probability": 0.05}
            | ({"persistent_deviation": 0.4, "correlation_time": 5} if n == 2 else {})
        ).encode()
    )
    for n, place in enumerate(((0.0, 0.0), (8.0, 0.0), (0.0, 8.0)))
]
PLACES = np.array([(0.0, 0.0), (8.0, 0.0), (0.0, 8.0)])


def messages() -> list[Observation | Prior]:
    random, found = np.random.default_rng(3), list[Observation | Prior]()
    for number in range(18):
        place = np.array([3.0, 4.0]) + max(0.0, number - 9) * np.array([0.8, 0.1])
        value = float(np.linalg.norm(place - PLACES[number % 3]) + random.normal(0, 0.2))
        names = {"entity": "e", "sensor": f"mast-{number % 3}", "id": f"report-{number}"}
        found.append(Observation(**names, time=0.7 * number, value=value))
    stated = Mixture.gaussian((4.0, 4.0), (3.0, 3.0))
    found.append(Prior(entity="e", time=5.0, mixture=stated, mode="product", id="stated"))
    return found


@pytest.fixture(scope="module")
def expected() -> Posterior:
    log = Log()
    for mast in MASTS:
        log.define_sensor(mast)
    log.define_model(WALKER)
    for number, message in enumerate(messages()):
        log.add(message.to_json(), f"line:{number}")
    return [parse(Posterior, fused.to_json()) for fused in log.fuse(updater())][-1]


def same(found: Posterior, expected: Posterior) -> None:
    assert found.mixture.components > 1
    assert found.quality.accumulated_error == pytest.approx(expected.quality.accumulated_error, abs=1e-9)
    for part in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(found.mixture, part), getattr(expected.mixture, part), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_in_any_batches_ends_as_the_replay_does(seed: int, expected: Posterior) -> None:
    random, sent = np.random.default_rng(seed), messages()
    order = random.permutation(len(sent)) if seed else np.argsort([each.time for each in sent])
    cuts = [0, *sorted(random.choice(np.arange(1, len(sent)), 5, False).tolist()), len(sent)]
    entity = OneEntity(WALKER, MASTS, updater())
    for start, end in pairwise(cuts):
        entity.apply([sent[place] for place in order[start:end]])
    assert entity.rejected == []
    same(entity.posteriors[-1], expected)


def test_a_reset_forgets_modes(expected: Posterior) -> None:
    entity = OneEntity(WALKER, MASTS, updater())
    entity.apply([Observation(entity="e", sensor="mast-0", time=0.0, value=9.0, id="first")])
    entity.apply([Observation(entity="e", sensor="mast-0", time=3.0, value=2.0, id="second")])
    entity.apply([Reset(entity="e", reset=True, time=0.0)])
    entity.apply(messages())
    same(entity.posteriors[-1], expected)
