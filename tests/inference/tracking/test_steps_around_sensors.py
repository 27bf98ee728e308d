"""Steps that end by quadrature around a sensor, or by a fit to its lines, beside updates of the same predictions."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from msgspec import structs

from beliefstream.inference import sensors
from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking import closed_steps, filtering
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.update.plane.single_observation import SEARCHED
from beliefstream.inference.update.settings import FAST, UpdateSettings
from beliefstream.inference.update.updater import Updater
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater
from tests.inference.tracking.test_closed_steps import MOTIONS, SIZE, assert_alike, none_solved

AXES = [1, 0]
SENSORS = [
    sensors.range_to(AXES, SIZE, [40.0, -25.0], 0.5),
    sensors.range_to(AXES, SIZE, [-30.0, 10.0], 2.0, 0.1, 600.0, scale=1.1, bias=0.2),
    sensors.bearing(AXES, SIZE, [-60.0, 10.0], 0.01),
    sensors.bearing(AXES, SIZE, [20.0, 70.0], 0.05, 0.1),
    sensors.range_to(AXES, SIZE, [5.0, 5.0], 30.0),  # weak beside the prior
    sensors.range_to(AXES, SIZE, [5.0, 5.0], 100.0),
]
VALUES = (50.0, 45.0, 0.2, -1.7, 40.0, 450.0)


def wide(seed: int, count: int, error: AccumulatedError) -> Belief:
    """Some tens of metres wide."""
    found = random_mixture(seed, 1, count, SIZE)
    weights, means = found.log_weights[0].exp().numpy(), 20 * found.means[0].numpy()
    return Belief(1.0, weights, means, 400 * found.covariances[0].numpy(), error=error)


def step_of(seed: int, count: int, number: int) -> Step:
    error = [NO_ERROR, AccumulatedError(0.02, 0.0, 0.1), AccumulatedError(0.05, 0.3, 0.2)][seed % 3]
    before = wide(seed, count, error)
    model = StateModel(MOTIONS[0], before, components=8)
    value = np.array([VALUES[number] + 0.01 * (seed % 100)])
    return Step(before, model, Instant(1.5, (Reading(SENSORS[number], value),)))


def belief_of(step: Step) -> Belief:
    assert step.belief is not None
    return step.belief


def updated(steps: list[Step], chosen: Updater) -> list[Outcome]:
    """Without native steps."""
    with mock.patch.object(filtering, "solved", side_effect=none_solved):
        return advance(steps, chosen, with_fits=True)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(
        st.tuples(st.sampled_from([1, 2, 5, 9]), st.integers(0, len(SENSORS) - 1)), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_a_step_equals_the_update_of_its_prediction(
    seed: int, kinds: list[tuple[int, int]], fast: bool
) -> None:
    steps = [step_of(seed + i, count, number) for i, (count, number) in enumerate(kinds)]
    chosen = Updater(updater().network, settings=FAST) if fast else updater()
    solved = closed_steps.solved(steps, chosen.settings, with_fits=True)
    for step, found, other in zip(steps, solved, updated(steps, chosen), strict=True):
        if found is None:
            continue
        if found.method == "refined" and len(belief_of(step).weights) > 1:
            # lines of all components are divided along the longest axis, which the scale of an update turns
            assert found.sample_efficiency > SEARCHED
        elif found.method == "refined":
            # a fit of many steps makes rounded digits larger
            assert other.method == "refined"
            assert found.log_evidence == pytest.approx(other.log_evidence, abs=1e-9)
            assert found.p_value == pytest.approx(other.p_value, abs=1e-9)
            assert found.accumulated_error == pytest.approx(other.accumulated_error, rel=0.05, abs=0.01)
            assert found.sample_efficiency == pytest.approx(other.sample_efficiency, abs=0.02)
        else:
            assert_alike(found, other, 1e-6)


@pytest.mark.parametrize(("chosen", "least"), [(UpdateSettings(), 15), (FAST, 8)])
def test_wide_beliefs_of_one_component_end_in_native_steps_whether_quadrature_or_a_fit_is_needed(
    chosen: UpdateSettings, least: int
) -> None:
    steps = [step_of(seed, 1, seed % 4) for seed in range(40)]
    solved = closed_steps.solved(steps, chosen)
    methods = [outcome.method for outcome in solved if outcome is not None]
    assert len(methods) >= 38
    assert methods.count("refined") >= least


@pytest.mark.parametrize(("repeat_below", "least"), [(0.9999, SEARCHED), (SEARCHED, 0.0)])
def test_poor_fits_to_several_components_are_left_open_where_an_answer_must_be_better(
    repeat_below: float, least: float
) -> None:
    steps = [step_of(seed, 9, 0) for seed in range(24)]
    solved = closed_steps.solved(steps, replace(updater().settings, repeat_below=repeat_below))
    sizes = [outcome.sample_efficiency for outcome in solved if outcome is not None]
    assert min(sizes) > least
    assert (min(sizes) < SEARCHED) == (least == 0.0)


def test_a_step_does_not_depend_on_others_of_its_batch() -> None:
    steps = [step_of(seed, (1, 9, 2, 5)[seed % 4], seed % len(SENSORS)) for seed in range(12)]
    together = closed_steps.solved(steps, updater().settings)
    for step, found in zip(steps, together, strict=True):
        alone = closed_steps.solved([step], updater().settings)
        (one,) = alone
        assert (one is None) == (found is None)
        if one is not None and found is not None:
            assert one.sample_efficiency == found.sample_efficiency
            assert np.array_equal(one.belief.means, found.belief.means)


def test_what_is_no_number_is_left_open() -> None:
    step = step_of(3, 1, 0)
    assert step.belief is not None
    bad = structs.replace(step.belief, means=np.full_like(step.belief.means, math.nan))
    solved = closed_steps.solved([structs.replace(step, belief=bad), step], updater().settings)
    assert solved[0] is None and solved[1] is not None
