"""Every motion on the topic of models is the motion of `inference.motion` that it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Control
from beliefstream.schemas import Model
from beliefstream.streams.definitions.models import state_model
from tests.schemas.kinds import MOTIONS, MOVED, model


def test_every_motion_is_compared() -> None:
    assert set(MOVED) == set(MOTIONS)


@pytest.mark.parametrize("name", MOTIONS)
def test_a_motion_predicts_as_the_one_that_its_definition_says(name: str) -> None:
    message, expected = Model.model_validate(model(name)), MOVED[name]
    state = state_model(message)
    assert len(message.motion.input_names) == state.motion.inputs == expected.inputs
    size = state.motion.dimension
    assert size == len(message.coordinates) == expected.dimension
    rng = np.random.default_rng(5)
    means = torch.from_numpy(rng.standard_normal((1, 2, size)))
    prior = GaussianMixture.from_weights(
        torch.tensor([[0.4, 0.6]], dtype=torch.float64),
        means,
        0.1 * torch.eye(size).double().expand(1, 2, -1, -1),
    )
    control = None
    if expected.inputs:
        value = torch.from_numpy(rng.standard_normal((1, expected.inputs)))
        control = Control(value, 0.01 * torch.eye(expected.inputs, dtype=torch.float64)[None])
    interval = torch.tensor([1.5], dtype=torch.float64)
    found, wanted = state.motion.predict(prior, interval, control), expected.predict(prior, interval, control)
    assert not torch.equal(found.means, prior.means) or name == "walk"
    torch.testing.assert_close(found.means, wanted.means)
    torch.testing.assert_close(found.covariances, wanted.covariances)


def test_a_belief_off_the_raster_counts_as_at_the_nearest_step() -> None:
    motion = state_model(Model.model_validate(model("steps"))).motion
    state = GaussianMixture.gaussian(torch.ones(1, 2).double(), torch.eye(2).double()[None])
    exact, near = (
        motion.predict(state, torch.tensor([interval], dtype=torch.float64)) for interval in (1.0, 1.2)
    )
    torch.testing.assert_close(near.means, exact.means)
    torch.testing.assert_close(near.covariances, exact.covariances)
