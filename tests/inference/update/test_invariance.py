"""What must not matter to an update: the order of components and observations, the origin, the units, the axes.

In float64, so that no sum is rounded otherwise and tips a decision to merge or refine. Answers are compared as
densities, at points drawn from them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, LINEAR, RANGE, Observations, wrap
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.training.families import Problems
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.answers import stacked
from research.evaluation.adversarial.families import FAMILIES, problems
from research.evaluation.exact.reference import Reference
from research.evaluation.problems import held_out_problems, rows
from tests.inference.plain_models import generator

BATCH, POINTS = 12, 64
dimensions = st.integers(1, 4)
seeds = st.integers(0, 99)
few = settings(max_examples=6, deadline=None)


@functools.cache
def updater(plain: bool = False) -> Updater:
    """The shipped network, refined once; plain: as it answers, without quadrature, neither searched nor refined nor
    merged.

    Each stage of a refinement makes a rounded digit some tens of times larger.
    """
    once = UpdateSettings(repeat_points=())
    chosen = (
        replace(
            once,
            refine_below=0.0,
            merge_below=0.0,
            search=False,
            quadrature_below=0.0,
        )
        if plain
        else once
    )
    return Updater(weights.load(), settings=chosen, dtype=torch.float64)


@functools.cache
def answered(dimension: int, seed: int) -> tuple[Problems, Answer]:
    problems = held_out_problems("mixed", dimension, BATCH, seed)
    return problems, updater().update(problems.prior, problems.observations)


def moved(
    prior: GaussianMixture, observations: Observations, matrix: Tensor, scale: float, shift: Tensor
) -> tuple[GaussianMixture, Observations]:
    """The same problem in coordinates ``y = scale · matrix x + shift``, matrix orthogonal; ranges in units of y."""
    whole = scale * matrix
    there = GaussianMixture(
        prior.log_weights, prior.means @ whole.mT + shift, whole @ prior.covariances @ whole.mT
    )
    linear = observations.kind == LINEAR
    ranged, angle = observations.kind == RANGE, observations.kind == ANGLE
    turned = observations.matrix @ matrix.mT
    turned = torch.where(linear[..., None, None], turned / scale, turned)
    heading = observations.heading @ matrix.mT / scale
    offset = la.times(turned, shift.expand(*turned.shape[:-2], -1))
    value = torch.where(linear[..., None], observations.value + offset, observations.value)
    value = torch.where(ranged[..., None], value * scale, value)
    first = torch.where(angle, wrap(value[..., 0] - (heading * shift).sum(-1)), value[..., 0])
    unit = torch.where(ranged, scale, 1.0).double()
    return there, replace(
        observations,
        value=torch.cat([first[..., None], value[..., 1:]], -1),
        matrix=turned,
        origin=torch.where(linear[..., None], observations.origin, offset + scale * observations.origin),
        heading=heading,
        standard_deviation=observations.standard_deviation * unit,
        log_scale=observations.log_scale + unit.log(),
        outlier_log_density=observations.outlier_log_density - unit.log(),
    )


def differences(here: Answer, there: Answer, matrix: Tensor, scale: float, shift: Tensor) -> Tensor:
    """Log density of one answer at its own points less that of the other, moved back; ``(B, P)``."""
    size = here.posterior.dimension
    points = here.posterior.normalised().sample(POINTS, generator(1))
    image = scale * points @ matrix.mT + shift
    return here.posterior.log_density(points) - there.posterior.log_density(image) - size * math.log(scale)


def assert_near(
    here: Answer, there: Answer, matrix: Tensor, scale: float, shift: Tensor, tolerance: float
) -> None:
    """To `tolerance`, but a hundred times that where a refinement has made rounded digits larger."""
    found = differences(here, there, matrix, scale, shift).abs().amax(1)
    refined = here.method == int(Method.REFINED)
    assert bool((found < tolerance * torch.where(refined, 100.0, 1.0)).all()), found


def assert_same(here: Answer, there: Answer) -> None:
    eye = torch.eye(here.posterior.dimension, dtype=torch.float64)
    assert_near(here, there, eye, 1.0, torch.zeros(len(eye)).double(), 1e-5)
    for name in ("log_evidence", "sample_efficiency", "p_value"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), rtol=1e-4, atol=1e-4)
    assert there.method.tolist() == here.method.tolist()


@few
@given(dimensions, seeds, st.randoms(use_true_random=False), st.integers(0, 3))
def test_components_in_any_order_and_with_gaps_are_the_same_prior(
    dimension: int, seed: int, random: object, gaps: int
) -> None:
    problems, here = answered(dimension, seed)
    prior = problems.prior.padded(problems.prior.components + gaps)
    order = list(range(prior.components))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = prior.places(torch.tensor(order).expand(BATCH, -1))
    assert_same(here, updater().update(shuffled, problems.observations))


@few
@given(dimensions, seeds, st.randoms(use_true_random=False))
def test_observations_in_any_order_are_the_same_observations(
    dimension: int, seed: int, random: object
) -> None:
    problems, here = answered(dimension, seed)
    order = list(range(problems.observations.kind.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = problems.observations.map(lambda tensor: tensor[:, order])
    assert_same(here, updater().update(problems.prior, shuffled))


@few
@given(dimensions, seeds, st.floats(-3, 6), st.lists(st.floats(-1000, 1000), min_size=4, max_size=4))
def test_the_answer_moves_with_origin_and_units(
    dimension: int, seed: int, magnitude: float, offset: list[float]
) -> None:
    problems, here = answered(dimension, seed)
    scale = 10**magnitude
    matrix, shift = torch.eye(dimension).double(), scale * torch.tensor(offset[:dimension]).double()
    there = updater().update(*moved(problems.prior, problems.observations, matrix, scale, shift))
    assert_near(here, there, matrix, scale, shift, 1e-3)
    ranges = ((problems.observations.kind == RANGE) & problems.observations.mask).sum(1)
    expected = here.log_evidence - ranges * math.log(scale)
    torch.testing.assert_close(there.log_evidence, expected, rtol=0, atol=1e-4)


def rotation(dimension: int, seed: int) -> Tensor:
    """A random orthogonal matrix, reflections too."""
    normal = torch.randn(dimension, dimension, generator=generator(seed), dtype=torch.float64)
    orthogonal: Tensor = torch.linalg.qr(normal)[0]
    return orthogonal


@functools.cache
def without_duplicates(dimension: int) -> tuple[Problems, Answer]:
    """Priors whose eight components fill all tokens: duplicates are spread by offsets that a rotation does not turn."""
    problems = held_out_problems("mixed", dimension, 128)
    chosen = rows(problems, torch.nonzero(problems.prior.present.all(1))[:BATCH, 0])
    return chosen, updater(plain=True).update(chosen.prior, chosen.observations)


@few
@given(st.integers(2, 4), st.integers(0, 1000), st.floats(0.1, 10), st.floats(-10, 10))
def test_without_duplicates_the_network_moves_with_every_rotation_and_reflection(
    dimension: int, turn: int, scale: float, along: float
) -> None:
    problems, here = without_duplicates(dimension)
    assert len(problems.state) >= 6
    matrix, shift = rotation(dimension, turn), torch.full((dimension,), along, dtype=torch.float64)
    there = updater(plain=True).update(*moved(problems.prior, problems.observations, matrix, scale, shift))
    found = differences(here, there, matrix, scale, shift)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-3)


@functools.cache
def exact(dimension: int) -> tuple[Problems, Reference]:
    problems = held_out_problems("mixed", dimension, BATCH)
    return problems, Reference.of(problems)


@few
@given(st.integers(2, 3), st.integers(0, 1000))
def test_with_default_settings_a_rotated_answer_is_as_near_as_answers_are_to_the_posterior(
    dimension: int, turn: int
) -> None:
    problems, reference = exact(dimension)
    matrix, none = rotation(dimension, turn), torch.zeros(dimension, dtype=torch.float64)
    there = Updater(weights.load(), dtype=torch.float64).update(
        *moved(problems.prior, problems.observations, matrix, 1.0, none)
    )
    back = there.posterior.affine(matrix.mT.expand(BATCH, -1, -1))
    divergence = reference.divergence(back.log_density, back.components)
    assert float(divergence.median()) < 0.05
    assert float(divergence.mean()) < 0.15
    assert float((there.log_evidence - reference.log_evidence).abs().mean()) < 0.1


def test_an_answer_is_the_same_whatever_else_is_in_its_batch() -> None:
    """Kinds of sensor and of noise, numbers of components and of observations: each family beside all others."""
    drawn = [problem for name in FAMILIES for problem in problems(name, 1, 5) if problem.dimension == 2]
    priors = stacked([problem.prior for problem in drawn])
    together = updater().update(priors, encode([problem.readings for problem in drawn], 2))
    for row, problem in enumerate(drawn):
        alone = updater().update(stacked([problem.prior]), encode([problem.readings], 2))
        there = together.rows(torch.tensor([row]))
        assert int(alone.method) == int(there.method), problem.family
        assert float(alone.sample_efficiency) == pytest.approx(float(there.sample_efficiency), abs=5e-3), (
            problem.family
        )
        points = alone.posterior.normalised().sample(POINTS, generator(1))
        torch.testing.assert_close(
            there.posterior.log_density(points),
            alone.posterior.log_density(points),
            rtol=1e-4,
            atol=0.05,
            msg=problem.family,
        )
