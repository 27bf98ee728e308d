"""Closed-form update for observations that are nearly linear over the prior.

A network has an error floor that does not fall with an observation's information; over many weak observations it adds
up, always in one direction. A linearised update has no such floor: its error is of third order in the spread of a
component. So where even the second order is small, every component takes its own Kalman update. There is one for each
hypothesis, outlier or inlier with each component of its noise, of each observation in turn; it is exact for linear
ones. The result is reduced: a Gaussian sum filter (D. L. Alspach and H. W. Sorenson, "Nonlinear Bayesian Estimation
using Gaussian Sum Approximations", IEEE Trans. Automatic Control 17(4), 1972).

The nonlinearity of an observation over a component ``N(m, L Lᵀ)``, in units of its noise σ, is the larger of two
numbers. One is ``|Lᵀ H L|_F / 2``, with H the Hessian of h at m. The other is a quarter of the root mean square error
of a linear h over the points ``m ± 2 L_i``. It is multiplied by the residual where that is above one: by that at m or,
if no observation may be an outlier and that is less, by what the joint linear update leaves of it, and by the square of
how many standard deviations the update moves m. The resulting divergence is about its square. No expansion at a mean
sees that a distance turns back at its sensor, as on a line that leads to it: `turns_back`. Errors of sensors are hidden
coordinates that enter linearly. They are the last ones, so that in the frame of a component the state is given by the
others, and what is left of an error is noise. All numbers above are in units of the noise and that rest. Against grids,
for ranges at 5 to 40 times a position's spread, it was just over half the square on average, and at most twice it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_functions import TABULATED
from beliefstream.inference.likelihood.native_observations import tabulated
from beliefstream.inference.likelihood.native_terms import (
    FAR,
    INDEPENDENT,
    LOG_WIDE,
    WIDE_OUTLIER,
    Seen,
    Space,
    linearise_at,
    new_space,
    scalar_residual,
)
from beliefstream.inference.likelihood.observation_data import FUNCTION, LIKELIHOOD, LINEAR, RANGE
from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.likelihood.predicted_observations import Predicted
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    TINY,
    factorise,
    invert_product,
    put_matrix,
    put_vector,
)
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT
from beliefstream.inference.update.closed.reduction_cost import condense

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Components = tuple[Array, Array, Array]  # log weights, means, covariances

MOST_ANGLE, MOST_TURNED = 0.4, 2.0  # rad; a less certain direction, or one farther off, may wrap
MOST_HYPOTHESES = 64  # between observations that disagree
MOST_BEYOND = 1e-4  # nats that may be lost where a distance has turned back: a twentieth of `linear_below`


class Shapes(NamedTuple):
    """Fields of a `Linearisation`, and of the residuals in it, of each component and observation."""

    gradient: Array  # (B, K, N, D)
    information: Array  # (B, K, N, D, D), as the next
    curvature: Array
    slope: Array  # (B, K, N, D)
    signed: Array  # (B, K, N), as all below
    squared: Array
    log_odds: Array
    log_likelihood: Array
    deviation: Array


class Batch(NamedTuple):
    """Problems, with their observations linearised at the prior's means, in the frames of its factors."""

    prior: Components
    predicted: Predicted
    seen: Seen
    linear: Shapes


class Gaussian(NamedTuple):
    """One component."""

    mean: Array  # (D,)
    covariance: Array  # (D, D)


class Probe(NamedTuple):
    """Space to look at one observation over one component."""

    space: Space
    point: Array  # (D,), as the next
    move: Array


class ComponentSpace(NamedTuple):
    """Space for one update of one component."""

    space: Space
    gradient: Array  # (D,), as the next two
    slope: Array
    pull: Array
    information: Array  # (D, D), as all below
    curvature: Array
    factor: Array
    total: Array
    grown: Array
    gain: Array
    lower: Array


def divergence(
    prior: Components,
    seen: Seen,
    linear: Shapes,
    predicted: Predicted,
    below: float,
    observations: Callable[[], Observations] | None,
) -> Array:
    """Approximate divergence in nats from the exact posterior to that of linearised observations, ``(B,)``.

    Values not under `below` may be too large: there, curvature alone is enough. Infinite where noise has no closed form
    (`has_closed_noise`), a direction may wrap, a distance may turn back or a function is undefined at a mean: those
    need the network, which is checked.

    Args:
        prior: the priors.
        seen: their observations.
        linear: the linearisation at the prior's means, in the frames of its factors.
        predicted: the prediction of all of them.
        below: nats.
        observations: gives the observations where they have functions of the user, which PyTorch evaluates.
    """
    found, unknown = np.empty(len(prior[1])), np.empty((0, 0, 0))
    limit = below if observations is None else -math.inf
    divergence_all(prior, predicted, seen, linear, limit, unknown, found)
    if observations is not None and (found < below).any():
        mixture = GaussianMixture(*map(torch.from_numpy, prior))
        deviation, slope = torch.from_numpy(linear.deviation), torch.from_numpy(linear.slope)
        known = array(missed(mixture, observations(), deviation, slope))
        divergence_all(prior, predicted, seen, linear, below, known, found)
    return found


def missed(prior: GaussianMixture, observations: Observations, deviation: Tensor, slope: Tensor) -> Tensor:
    """Mean square error of a linear h at two standard deviations of the state, over sixteen, ``(B, K, N)``.

    `deviation` and `slope` are those of the linearisation at the prior's means. The error is in units of `deviation`:
    noise of several parts has another at each point.
    """
    points = around(prior, observations)
    state = points.shape[2] // 2
    off = observations.difference(points.flatten(1, 2))
    off = off.view(*points.shape[:3], -1) / deviation[:, :, None]
    along = 2 * slope.mT[:, :, :state]  # the difference falls by it
    expected = torch.cat([-along, along], 2) + off[:, :, -1:]
    found = (off[:, :, :-1] - expected).square().mean(2) / 16
    return torch.where((observations.kind == LINEAR)[:, None], 0.0, found)


def around(prior: GaussianMixture, observations: Observations) -> Tensor:
    """Two standard deviations from the means along each factor of the state, and the means, ``(B, K, 2 s + 1, D)``."""
    state = prior.dimension - (0 if observations.hidden is None else int(observations.hidden.max()))
    steps = 2 * prior.factors().mT[:, :, :state]  # rows: the columns of the factor
    centre = prior.means[:, :, None]
    return torch.cat([centre + steps, centre - steps, centre], 2)


def update(
    prior: GaussianMixture,
    observations: Observations,
    components: int,
    threshold: float,
    linear: Linearisation | None = None,
    disagree: bool = False,
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Posterior of at most `components`, log evidence ``(B,)`` and the cost of reduction, as `reduction_cost.condense`.

    `linear` is the linearisation at the prior's means, in the frames of its factors, if it is known. If observations
    `disagree`, a hypothesis that is light after some of them may be what the others confirm. It is kept as long as they
    can do so: twice what it gains if they all fit exactly and are outliers to the heaviest one.
    """
    linear = linear or observations.linearise(prior.means, prior.factors())
    total = torch.zeros(prior.batch, dtype=prior.means.dtype)
    lost, belief = torch.zeros_like(total), prior
    places = order(prior, observations, linear)
    left = least_weights(observations, linear).gather(1, places).flip(1).cumsum(1).flip(1)
    for number in range(places.shape[1]):
        joint = hypotheses(belief, observations, places[:, number])
        total = total + torch.logsumexp(joint.log_weights, 1)
        if disagree and number + 1 < places.shape[1]:
            power = 1 / (1 + 2 * float(left[:, number + 1].min()) / math.log(NEGLIGIBLE_WEIGHT))
            belief, more = condense(joint, MOST_HYPOTHESES, threshold, power)
        else:
            belief, more = condense(joint, components, threshold)
        lost = lost + more
    return belief, total, lost


def least_weights(observations: Observations, linear: Linearisation) -> Tensor:
    """Log weight ``(B, N)`` of the hypothesis that an observation is an outlier; 0 if none can be.

    It fits another hypothesis exactly. A linear one may be twice as far from this one as from the prior's mean.
    """
    seen = observations.numbers
    misfit = 2 * array(linear.residuals.squared).max(1) / WIDE_OUTLIER**2
    outlier = np.where(seen.kind == LINEAR, -seen.rows * LOG_WIDE - misfit, seen.outlier + seen.constant)
    odds = seen.log_outlier + outlier - seen.log_inlier
    return torch.from_numpy(np.where(seen.mask & np.isfinite(odds), np.minimum(odds, 0.0), 0.0))


def order(prior: GaussianMixture, observations: Observations, linear: Linearisation) -> Tensor:
    """Places ``(B, N)`` of the observations, most informative first, so that their given order does not matter.

    N is the most that one entity has.
    """
    mask = observations.numbers.mask
    places = np.empty(mask.shape, np.int64)
    numbers = array(prior.log_weights), array(linear.residuals.squared), array(linear.information)
    most = order_all(mask, numbers, places)
    return torch.from_numpy(places[:, :most])


def hypotheses(prior: GaussianMixture, observations: Observations, places: Tensor) -> GaussianMixture:
    """Every component after the observation at `places` ``(B,)``, by each of its hypotheses; not normalised."""
    seen, (batch, count, size) = observations.numbers, prior.means.shape
    log_weights, means, covariances = prior.numbers
    at = places.contiguous().numpy()
    if observations.has_own_functions:
        # each component as an entity of its own, with the one function at its mean
        seen = tabulated(observations.one_each(places), prior.means)
        at = np.zeros(batch * count, np.int64)
        batch, count = batch * count, 1
        given = log_weights.reshape(-1, 1), means.reshape(-1, 1, size), covariances.reshape(-1, 1, size, size)
    else:
        given = log_weights, means, covariances
    both = count * (max(seen.noise.shape[2], 1) + bool((seen.log_outlier > -math.inf).any()))
    found = np.empty((batch, both)), np.empty((batch, both, size)), np.empty((batch, both, size, size))
    hypotheses_of(given, seen, at, found)
    parts = (torch.from_numpy(part) for part in found)
    if batch > prior.batch:  # all inliers first
        shape = (prior.batch, prior.components, both)
        parts = (part.view(*shape, *part.shape[2:]).transpose(1, 2).flatten(1, 2) for part in parts)
    return GaussianMixture(*parts)


@native
def divergence_all(
    prior: Components,
    predicted: Predicted,
    seen: Seen,
    linear: Shapes,
    below: float,
    known: Array,
    found: Array,
) -> None:
    """Fill the divergence of each entity ``(B,)``.

    `known` ``(B, K, N)`` is what `missed` finds; empty if it is not known, which matters for functions of the user.
    """
    point, move = np.empty((2, predicted.factors.shape[2]))
    batch, probe = Batch(prior, predicted, seen, linear), Probe(new_space(seen), point, move)
    for b in range(len(found)):
        found[b] = math.inf
        if has_closed_noise(seen, b):
            products = _of_products(seen, b)
            found[b] = products + _total(batch, b, False, known, probe)
            if found[b] < below:
                found[b] = products + _total(batch, b, True, known, probe)
                if _turns_back(batch, b, probe):
                    found[b] = math.inf


@borrowing
def _of_products(seen: Seen, b: int) -> float:
    """What is lost at most where the product of two deviations counts as noise: what this noise hides."""
    total = 0.0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            total -= 0.5 * math.log(seen.product[b, n, INDEPENDENT])
    return total


@borrowing
def is_plain(seen: Seen, b: int) -> bool:
    """Whether all noise is Gaussian with a constant deviation, and no observation is a problem's."""
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n] and (seen.kind[b, n] == LIKELIHOOD or seen.slope[b, n] != 0):
            return False
        if seen.mask[b, n] and seen.noise.shape[2] > 0 and not has_one_gaussian(seen, b, n):
            return False
    return True


@borrowing
def has_closed_noise(seen: Seen, b: int) -> bool:
    """Whether all noise is plain, or a mixture of Gaussians of a function beyond the plane, where quadrature ends."""
    if is_plain(seen, b):
        return True
    touched = _touched(seen, b)
    for n in range(seen.kind.shape[1]):
        mixed = seen.noise.shape[2] > 0 and not has_one_gaussian(seen, b, n)
        known = seen.kind[b, n] == FUNCTION and not seen.wraps[b, n] and touched > 2
        if seen.mask[b, n] and (
            seen.kind[b, n] == LIKELIHOOD or seen.slope[b, n] != 0 or (mixed and not known)
        ):
            return False
    return True


@borrowing
def _touched(seen: Seen, b: int) -> int:
    """Number of coordinates that the observations touch."""
    count = 0
    for i in range(seen.matrix.shape[3]):
        touched = False
        for n in range(seen.kind.shape[1]):
            for r in range(seen.matrix.shape[2]):
                touched |= seen.mask[b, n] and seen.matrix[b, n, r, i] != 0
        count += touched
    return count


@borrowing
def _narrowest(seen: Seen, b: int, n: int) -> float:
    """The smallest ratio of a component of the noise to its deviation."""
    least = math.inf if seen.noise.shape[2] > 0 else 1.0
    for c in range(seen.noise.shape[2]):
        if seen.noise[b, n, c, 0] > -math.inf:
            least = min(least, seen.noise[b, n, c, 2])
    return least


@borrowing
def has_one_gaussian(seen: Seen, b: int, n: int) -> bool:
    """Whether a mixture of noise is one Gaussian of the standard deviation."""
    for c in range(1, seen.noise.shape[2]):
        if seen.noise[b, n, c, 0] > -math.inf:
            return False
    plain: bool = seen.noise[b, n, 0, 1] == 0.0 and seen.noise[b, n, 0, 2] == 1.0
    return plain


@borrowing
def is_closed(seen: Seen, b: int) -> bool:
    """Whether all observations are linear, none may be an outlier, and no error of a sensor multiplies."""
    for n in range(seen.kind.shape[1]):
        certain = seen.kind[b, n] == LINEAR and seen.log_outlier[b, n] == -math.inf
        certain &= seen.product[b, n, INDEPENDENT] == 1
        if seen.mask[b, n] and not certain:
            return False
    return True


@borrowing
def _total(batch: Batch, b: int, beyond: bool, known: Array, probe: Probe) -> float:
    """Sum over observations and components; `beyond` looks at two standard deviations too."""
    (prior, predicted, seen, linear), move = batch, probe.move
    total, factors, certain = 0.0, predicted.factors, True
    for n in range(seen.kind.shape[1]):
        certain &= not seen.mask[b, n] or seen.log_outlier[b, n] == -math.inf
    for k in range(factors.shape[1]):
        share, defects = math.exp(prior[0][b, k]), 0.0
        if share == 0:
            continue
        if certain:
            _fill_move(predicted.gain[b, k], predicted.gradient[b, k], move)
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n] and seen.kind[b, n] != LINEAR:
                # in units of the narrowest component of the noise
                narrow = _narrowest(seen, b, n) * seen.deviation[b, n] / linear.deviation[b, k, n]
                rest = _rest(linear.slope[b, k, n], seen.hidden[b, n])
                narrow *= math.sqrt(rest)
                bent = _bent(linear.curvature[b, k, n]) / (narrow * narrow)
                if beyond:
                    other = 0.0
                    if seen.kind[b, n] == FUNCTION and seen.function[b, n] == TABULATED:
                        other = known[b, k, n] / rest if len(known) > 0 else math.inf
                    else:
                        other = _missed(batch, b, k, n, probe)
                        other /= narrow * narrow
                    if other > bent or other != other:
                        bent = other
                state = len(move) - seen.hidden[b, n]
                factor = _residual(linear.signed[b, k, n], linear.slope[b, k, n], move, certain, state, rest)
                defects += _defect(seen, linear, b, k, n, bent * factor)
        total += share * defects
    return total


@borrowing
def _bent(curvature: Array) -> float:
    total = 0.0
    for i in range(len(curvature)):
        for j in range(len(curvature)):
            total += curvature[i, j] * curvature[i, j]
    return total / 4


@borrowing
def _fill_move(gain: Array, gradient: Array, move: Array) -> None:
    """How far the joint linear update moves a component, in its own frame."""
    for i in range(len(move)):
        move[i] = 0.0
        for j in range(len(move)):
            move[i] += gain[i, j] * gradient[j]


@borrowing
def _rest(slope: Array, hidden: int) -> float:
    """Variance of the noise and of what the state leaves of errors, in units of the noise."""
    total, size = 1.0, len(slope)
    for i in range(size - hidden, size):
        total += slope[i] * slope[i]
    return total


@borrowing
def _residual(signed: float, slope: Array, move: Array, certain: bool, state: int, rest: float) -> float:
    """The squared residual that counts, at least one; `certain` if none of the observations may be an outlier."""
    before = signed * signed / rest
    if before < 1.0:
        before = 1.0
    if certain:
        left, far = signed, 0.0
        for i in range(state):
            left -= slope[i] * move[i]
            far += move[i] * move[i]
        far = max(far, 1.0)
        after = max(left * left / rest, 1.0) * far * far
        if after < before:
            return after
    return before


@borrowing
def _defect(seen: Seen, linear: Shapes, b: int, k: int, n: int, bent: float) -> float:
    """What is `bent`; infinite where a direction may wrap, or a function is undefined."""
    signed, deviation = linear.signed[b, k, n], seen.deviation[b, n]
    # a function without a value has the residual `FAR`, but for rounding
    if seen.kind[b, n] == FUNCTION and not abs(signed) <= 0.99 * FAR:
        return math.inf
    if seen.wraps[b, n]:
        variance = 0.0
        for i in range(linear.slope.shape[3]):
            variance += linear.information[b, k, n, i, i]
        if may_wrap(math.sqrt(variance) * deviation, signed * deviation):
            return math.inf
    return bent


@borrowing
def may_wrap(spread: float, off: float) -> bool:
    """Whether a direction is so uncertain, or so far off, that it may wrap; both in radians."""
    return spread > MOST_ANGLE or abs(off) > MOST_TURNED


@borrowing
def _missed(batch: Batch, b: int, k: int, n: int, probe: Probe) -> float:
    """As `missed`, of one component and observation, in units of the noise that linearisation takes."""
    seen, linear, (space, point, _) = batch.seen, batch.linear, probe
    mean, factor = batch.prior[1][b, k], batch.predicted.factors[b, k]
    total, size = 0.0, len(mean) - seen.hidden[b, n]
    units = seen.deviation[b, n] / linear.deviation[b, k, n]
    start = linear.signed[b, k, n]
    if seen.noise.shape[2] > 0 and not has_one_gaussian(seen, b, n):
        start = units * scalar_residual(seen, b, n, mean, space)
    for column in range(size):
        for side in range(2):
            way = 4.0 * side - 2.0
            for i in range(len(mean)):
                point[i] = mean[i] + way * factor[i, column]
            expected = start - way * linear.slope[b, k, n, column]
            signed = units * scalar_residual(seen, b, n, point, space)
            total += (signed - expected) * (signed - expected)
    mean_square: float = total / (2 * size) / 16
    return mean_square


@borrowing
def _turns_back(batch: Batch, b: int, probe: Probe) -> bool:
    """Whether the posterior may have mass where a distance has turned back.

    Along the line of its slope, a distance is shortest at a plane. Of a component t deviations away from it, less than
    ``exp(−t²/2)`` lies beyond, compared with the evidence. There, a linear residual r that falls by s per deviation is
    off by about 2 s, so that the log likelihood is off by some ``2 s √(1 + r²)``. The loss is the square of that.
    """
    prior, predicted, seen, linear = batch
    factors = predicted.factors
    for n in range(seen.kind.shape[1]):
        if not seen.mask[b, n] or seen.kind[b, n] != RANGE:
            continue
        odds = seen.log_inlier[b, n] - seen.constant[b, n] - seen.log_outlier[b, n] - seen.outlier[b, n]
        least = -math.inf
        for k in range(factors.shape[1]):
            spread, signed = _beside_rest(linear, b, k, n, seen.hidden[b, n])
            unlikely = 0.5 * signed * signed / (1 + spread) + 0.5 * math.log1p(spread)
            least = max(least, prior[0][b, k] - min(unlikely, max(odds, 0.0)))
        for k in range(factors.shape[1]):
            if prior[0][b, k] > -math.inf:
                foot = _foot(prior[1][b, k], factors[b, k], seen, b, n, probe)
                spread, signed = _beside_rest(linear, b, k, n, seen.hidden[b, n])
                off = math.log(4 * spread * (1 + signed * signed))
                if not prior[0][b, k] - 0.5 * foot * foot + off < least + math.log(MOST_BEYOND):
                    return True
    return False


@borrowing
def _beside_rest(linear: Shapes, b: int, k: int, n: int, hidden: int) -> tuple[float, float]:
    """Variance over the state, and residual, beside the noise and what the state leaves of errors."""
    slope = linear.slope[b, k, n]
    rest, spread = _rest(slope, hidden), 0.0
    for i in range(len(slope) - hidden):
        spread += slope[i] * slope[i]
    signed: float = linear.signed[b, k, n] / math.sqrt(rest)
    return spread / rest, signed


@borrowing
def _foot(mean: Array, factor: Array, seen: Seen, b: int, n: int, probe: Probe) -> float:
    """Deviations to the plane where a distance turns back."""
    (space, along, _), rows, size = probe, seen.matrix.shape[2], len(mean)
    for i in range(size):
        along[i] = 0.0
    for r in range(rows):
        space.relative[r] = -seen.origin[b, n, r]
        for i in range(size):
            space.relative[r] += seen.matrix[b, n, r, i] * mean[i]
            space.matrix[r, i] = 0.0
            for j in range(size):
                space.matrix[r, i] += seen.matrix[b, n, r, j] * factor[j, i]
        for i in range(size):
            along[i] += space.matrix[r, i] * space.relative[r]
    first = second = 0.0
    for i in range(size):
        first += along[i] * along[i]
    for i in range(size):
        total = 0.0
        for r in range(rows):
            for j in range(size):
                total += space.matrix[r, i] * space.matrix[r, j] * along[j]
        second += total * total
    return first / math.sqrt(second)


@native
def order_all(mask: NDArray[np.bool_], numbers: tuple[Array, Array, Array], places: Places) -> int:
    """Fill the places; the most observations that one entity has."""
    log_weights, squared, information = numbers
    said, most = np.empty(mask.shape[1]), 0
    for b in range(len(mask)):
        count = 0
        for n in range(len(said)):
            said[n] = -1.0
            if mask[b, n]:
                count += 1
                said[n] = _information(log_weights[b], squared[b], information[b], n)
            at = n
            while at > 0 and said[places[b, at - 1]] < said[n]:
                places[b, at] = places[b, at - 1]
                at -= 1
            places[b, at] = n
        most = max(most, count)
    return most


@borrowing
def _information(log_weights: Array, squared: Array, information: Array, n: int) -> float:
    """What an observation says: infinite if that is not a number, so that it is not left out."""
    said = 0.0
    for k in range(len(log_weights)):
        total = squared[k, n]
        for i in range(information.shape[2]):
            total += information[k, n, i, i]
        said += math.exp(log_weights[k]) * total
    return math.inf if math.isnan(said) else said


@native
def hypotheses_of(prior: Components, seen: Seen, places: Places, found: Components) -> None:
    """Fill every component after the observation at `places` ``(B,)``: as each inlier, then as a possible outlier."""
    size, count = prior[1].shape[2], prior[0].shape[1]
    work, last = _new_component_space(seen, size), count * max(seen.noise.shape[2], 1)
    for b in range(len(places)):
        n = places[b]
        for k in range(count):
            given = Gaussian(prior[1][b, k], prior[2][b, k])
            for start in range(0, found[0].shape[1], count):
                found[0][b, start + k] = -math.inf
                put_vector(found[1][b, start + k], given.mean)
                put_matrix(found[2][b, start + k], given.covariance)
            weight = prior[0][b, k]
            if not seen.mask[b, n]:
                found[0][b, k] = weight
            elif weight > -math.inf:
                into = Gaussian(found[1][b, k], found[2][b, k])
                if seen.noise.shape[2] == 0 or has_one_gaussian(seen, b, n):
                    inlier = _inlier(seen, b, n, given, work, into)
                    found[0][b, k] = weight + inlier + seen.log_inlier[b, n]
                else:
                    row = (found[0][b], found[1][b], found[2][b])
                    _inliers(seen, b, n, given, work, row, range(k, last, count))
                    for start in range(0, last, count):
                        found[0][b, start + k] += weight + seen.log_inlier[b, n]
                if seen.log_outlier[b, n] > -math.inf:
                    into = Gaussian(found[1][b, last + k], found[2][b, last + k])
                    density = _outlier(seen, b, n, given.mean, work, into)
                    found[0][b, last + k] = weight + density + seen.log_outlier[b, n]


@inner
def _new_component_space(seen: Seen, size: int) -> ComponentSpace:
    vectors, matrices = np.empty((3, size)), np.empty((7, size, size))
    return ComponentSpace(
        new_space(seen), vectors[0], vectors[1], vectors[2],
        matrices[0], matrices[1], matrices[2], matrices[3], matrices[4], matrices[5], matrices[6],
    )  # fmt: skip


@borrowing
def _inlier(seen: Seen, b: int, n: int, given: Gaussian, work: ComponentSpace, into: Gaussian) -> float:
    """Update a component with an inlier; the log evidence. It leaves the linearisation in `work`."""
    factorise(given.covariance, TINY, ROUNDING, work.factor)
    shapes = (work.gradient, work.information, work.curvature, work.slope)
    numbers, _ = linearise_at(seen, b, n, given.mean, work.factor, work.space, shapes)
    if seen.kind[b, n] == LINEAR:
        return _kalman(given.mean, numbers[1], seen.constant[b, n], work, into)
    return _second_order(given, numbers[0], seen.constant[b, n], work, into)


@borrowing
def _inliers(
    seen: Seen, b: int, n: int, given: Gaussian, work: ComponentSpace, found: Components, places: range
) -> None:
    """Update a component with an inlier of each component of the noise, into `places`; fills the log evidences."""
    factorise(given.covariance, TINY, ROUNDING, work.factor)
    shapes = (work.gradient, work.information, work.curvature, work.slope)
    _, unit = linearise_at(seen, b, n, given.mean, work.factor, work.space, shapes)
    off = seen.deviation[b, n] * scalar_residual(seen, b, n, given.mean, work.space)
    for c, place in enumerate(places):
        log_weight, bias, ratio = seen.noise[b, n, c, 0], seen.noise[b, n, c, 1], seen.noise[b, n, c, 2]
        if log_weight == -math.inf:
            continue
        deviation = ratio * seen.deviation[b, n]
        for i in range(len(given.mean)):
            work.slope[i] *= unit / deviation
            for j in range(len(given.mean)):
                work.curvature[i, j] *= unit / deviation
        unit = deviation
        constant, into = seen.constant[b, n] + math.log(ratio), Gaussian(found[1][place], found[2][place])
        found[0][place] = log_weight + _second_order(given, (off - bias) / deviation, constant, work, into)


@borrowing
def _outlier(seen: Seen, b: int, n: int, mean: Array, work: ComponentSpace, into: Gaussian) -> float:
    """Update a component with an outlier, after `_inlier`; the log evidence."""
    if seen.kind[b, n] != LINEAR:
        density: float = seen.outlier[b, n]
        return density
    squared = 0.0
    for r in range(len(work.space.relative)):
        off = seen.value[b, n, r] - work.space.relative[r]
        squared += off * off
    for i in range(len(mean)):
        work.gradient[i] /= WIDE_OUTLIER**2
        for j in range(len(mean)):
            work.information[i, j] /= WIDE_OUTLIER**2
    constant = seen.constant[b, n] + seen.rows[b, n] * LOG_WIDE
    return _kalman(mean, squared / WIDE_OUTLIER**2, constant, work, into)


@borrowing
def _kalman(mean: Array, squared: float, constant: float, work: ComponentSpace, into: Gaussian) -> float:
    """Kalman update of a component in its frame, from an observation's gradient and information; the log evidence."""
    evidence = -constant
    for i in range(len(mean)):
        for j in range(len(mean)):
            work.total[i, j] = work.information[i, j]
        work.total[i, i] += 1.0
    factorise(work.total, LEAST_PIVOT, ROUNDING, work.grown)
    invert_product(work.grown, work.lower, work.gain)
    for i in range(len(mean)):
        evidence -= math.log(work.grown[i, i])
        for j in range(len(mean)):
            squared -= work.gradient[i] * work.gain[i, j] * work.gradient[j]
    moved(mean, work.factor, work.gain, work.gradient, work.pull, work.total, (into.mean, into.covariance))
    return evidence - 0.5 * (0.0 if squared < 0 else squared)


@borrowing
def moved(
    mean: Array,
    factor: Array,
    gain: Array,
    gradient: Array,
    pull: Array,
    product: Array,
    into: tuple[Array, Array],
) -> None:
    """Mean ``m + L G g`` and covariance ``L G Lᵀ``, with L the lower factor, G the gain and g the gradient."""
    size = len(mean)
    for i in range(size):
        pull[i] = 0.0
        for j in range(size):
            pull[i] += gain[i, j] * gradient[j]
            product[i, j] = 0.0
            for k in range(i + 1):
                product[i, j] += factor[i, k] * gain[k, j]
    for i in range(size):
        into[0][i] = mean[i]
        for j in range(i + 1):
            into[0][i] += factor[i, j] * pull[j]
            total = 0.0
            for k in range(j + 1):
                total += product[i, k] * factor[j, k]
            into[1][i, j] = into[1][j, i] = total


@borrowing
def _second_order(
    given: Gaussian, signed: float, constant: float, work: ComponentSpace, into: Gaussian
) -> float:
    """Second-order update: a scalar observation with the mean and spread of its second-order expansion.

    The error of a tangent is small too, but has a sign, and adds up over many observations (M. Athans, R. P. Wishner
    and A. Bertolini, "Suboptimal State Estimation for Continuous-Time Nonlinear Systems from Discrete Noisy
    Measurements", IEEE Trans. Automatic Control 13(5), 1968).
    """
    (mean, covariance), off, spread = given, signed, 1.0
    for i in range(len(mean)):
        off -= work.curvature[i, i] / 2
        spread += work.slope[i] * work.slope[i]
        for j in range(len(mean)):
            spread += work.curvature[i, j] * work.curvature[i, j] / 2
    for i in range(len(mean)):
        work.pull[i] = 0.0
        for j in range(i + 1):
            work.pull[i] += work.factor[i, j] * work.slope[j]
        work.pull[i] /= spread
        into[0][i] = mean[i] + work.pull[i] * off
    for i in range(len(mean)):
        for j in range(i + 1):
            value = 0.5 * (covariance[i, j] + covariance[j, i]) - work.pull[i] * work.pull[j] * spread
            into[1][i, j] = into[1][j, i] = value
    return -0.5 * (off * off / spread + math.log(spread)) - constant
