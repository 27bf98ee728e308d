"""Built-in measurement functions as PyTorch's, which it differentiates: an oracle for the compiled ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_functions import SOFT


def _length(vector: Tensor) -> Tensor:
    return (vector.square().sum() + SOFT).sqrt()


def projection(state: Tensor) -> Tensor:
    """``u₁``: one row of a linear sensor, for non-Gaussian noise."""
    return state[0]


def elevation(state: Tensor) -> Tensor:
    """``atan2(u₃, √(u₁² + u₂²))``, radians above the plane of the first two coordinates."""
    return torch.atan2(state[2], _length(state[:2]))


def depth(state: Tensor) -> Tensor:
    """``−(u₁ cos θ + u₂ sin θ)`` of ``u = (u₁, u₂, θ)``: how far a landmark is ahead of a heading θ."""
    return -(state[0] * state[2].cos() + state[1] * state[2].sin())


def range_rate(state: Tensor) -> Tensor:
    """``pᵀv / |p| + b`` of ``u = (p, v)`` or ``(p, v, b)``: the rate at which the distance grows (Doppler)."""
    size = state.shape[0] // 2
    place, velocity, offset = state[:size], state[size : 2 * size], state[2 * size :]
    return place.dot(velocity) / _length(place) + offset.sum()


def pseudorange(state: Tensor, satellite: Tensor) -> Tensor:
    """``|p − s| − |s| + b`` of ``u = (p, b)``: how much farther than the origin p is from a satellite s, and a clock.

    The difference is ``(|p|² − 2 pᵀs) / (|p − s| + |s|)``, which does not cancel in single precision.
    """
    place, offset = state[:-1], state[-1]
    farther = place.square().sum() - 2 * place.dot(satellite)
    return farther / (_length(place - satellite) + _length(satellite)) + offset


def polynomial(state: Tensor, gradient: Tensor, hessian: Tensor, origin: Tensor, value: Tensor) -> Tensor:
    """``v + gᵀd + ½ dᵀHd``, ``d = u − origin``; it stands for a function of the user, who cannot name it."""
    beside = state - origin
    return value + beside.dot(gradient) + 0.5 * beside.dot(hessian @ beside)


def signal_strength(
    state: Tensor, reference_power: Tensor, exponent: Tensor, reference_distance: Tensor
) -> Tensor:
    """``P₀ − 10 n log₁₀(|u| / d₀)``, decibels: the log-distance law (T. S. Rappaport, "Wireless Communications",
    2nd edition, 2002, eq. 4.69a)."""
    decades = (_length(state) / reference_distance).log() / math.log(10)
    return reference_power - 10 * exponent * decades


def time_difference(state: Tensor, propagation_speed: Tensor) -> Tensor:
    """``(|u₁| − |u₂|) / c`` of ``u = (u₁, u₂)``, relative to two receivers: the delay of the first receiver."""
    size = state.shape[0] // 2
    return (_length(state[:size]) - _length(state[size:])) / propagation_speed


def time_differences(state: Tensor, propagation_speed: Tensor, weights: Tensor) -> Tensor:
    """``Σⱼ wⱼ (|uⱼ| − |u₀|) / c`` of ``u = (u₀, u₁, …)``, relative to receivers: delays after the first, combined."""
    places = state.reshape(weights.shape[0] + 1, -1)
    lengths = (places.square().sum(1) + SOFT).sqrt()
    return weights.dot(lengths[1:] - lengths[0]) / propagation_speed


LAWS: dict[str, Callable[..., Tensor]] = {
    "projection": projection,
    "elevation": elevation,
    "landmark_depth": depth,
    "range_rate": range_rate,
    "pseudorange": pseudorange,
    "signal_strength": signal_strength,
    "time_difference": time_difference,
    "time_differences": time_differences,
    "polynomial": polynomial,
}
"""By the name of the built-in function."""
