"""Hypothesis strategies for messages."""

from __future__ import annotations

import string

import numpy as np
from hypothesis import settings, strategies as st

from beliefstream.schemas import (
    BearingSensor,
    ConstantVelocity,
    Coordinate,
    LinearSensor,
    LogPosition,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    Prior,
    Quality,
    RandomWalk,
    RangeSensor,
    Reset,
    Sensor,
)
from beliefstream.schemas.time import EARLIEST, LATEST

relaxed = settings(deadline=None, max_examples=50)  # the machine may be busy

names = st.text(string.ascii_letters + string.digits + "._:/@+-", min_size=1, max_size=128)
identifiers = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=128)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-100, max_value=1e100)
shares = st.floats(0, 1)
times = st.floats(EARLIEST, LATEST)


def covariances(size: int) -> st.SearchStrategy[tuple[tuple[float, ...], ...]]:
    """Well-conditioned covariances, (size, size)."""

    def build(entries: list[float]) -> tuple[tuple[float, ...], ...]:
        factor = np.array(entries).reshape(size, size)
        return tuple(map(tuple, (factor @ factor.T + np.eye(size)).tolist()))

    return st.lists(st.floats(-10, 10), min_size=size**2, max_size=size**2).map(build)


@st.composite
def mixtures(draw: st.DrawFn, size: int | None = None) -> Mixture:
    """Mixtures of one to four components."""
    size = size or draw(st.integers(1, 4))
    raw = draw(st.lists(st.floats(0.01, 1), min_size=1, max_size=4))
    return Mixture(
        weights=tuple(weight / sum(raw) for weight in raw),
        means=tuple(tuple(draw(st.lists(numbers, min_size=size, max_size=size))) for _ in raw),
        covariances=tuple(draw(covariances(size)) for _ in raw),
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Observations with every way to give the noise."""
    values = draw(st.lists(numbers, min_size=1, max_size=4))
    noise = draw(st.sampled_from(["none", "standard_deviation", "covariance"]))
    return Observation(
        entity=draw(names),
        sensor=draw(names),
        time=draw(times),
        value=values[0] if len(values) == 1 and draw(st.booleans()) else tuple(values),
        standard_deviation=draw(positive) if noise == "standard_deviation" else None,
        covariance=draw(covariances(len(values))) if noise == "covariance" else None,
        id=draw(st.none() | identifiers),
    )


@st.composite
def sensors(draw: st.DrawFn) -> Sensor:
    """Sensors of every kind."""
    name, bias, probability = draw(names), draw(numbers), draw(st.floats(0, 0.9))
    scale = draw(numbers.filter(lambda number: number != 0))
    place = (draw(numbers), draw(numbers))
    kind = draw(st.sampled_from(["position", "linear", "range", "bearing"]))
    if kind == "range":
        return RangeSensor(
            sensor=name,
            bias=bias,
            scale=scale,
            outlier_probability=probability,
            position=place,
            standard_deviation=draw(positive),
            maximum_range=draw(positive),
        )
    if kind == "bearing":
        return BearingSensor(
            sensor=name, bias=bias, scale=scale, position=place, standard_deviation=draw(positive)
        )
    if kind == "position":
        return PositionSensor(sensor=name, coordinates=("x", "y", "z"), covariance=draw(covariances(3)))
    rows = draw(st.lists(st.dictionaries(names, numbers, min_size=1, max_size=3), min_size=1, max_size=3))
    return LinearSensor(sensor=name, scale=scale, rows=tuple(rows), standard_deviation=draw(positive))


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Models with both kinds of motion."""
    walk = draw(st.booleans())
    return Model(
        entity=draw(st.just("*") | names),
        name=draw(names),
        version=draw(st.integers(1, 10**6)),
        coordinates=tuple(Coordinate(name=name, unit="m") for name in ("x", "v")),
        motion=RandomWalk(spectral_density=(draw(positive), draw(positive)))
        if walk
        else ConstantVelocity(positions=("x",), velocities=("v",), spectral_density=draw(positive)),
        prior=draw(mixtures(size=2)),
        components=draw(st.integers(1, 64)),
        lateness_window=draw(positive),
        expires_after=draw(st.none() | positive),
        live_time=draw(st.booleans()),
    )


@st.composite
def priors(draw: st.DrawFn) -> Prior:
    """Priors over all coordinates or some."""
    return Prior(
        entity=draw(names),
        mixture=draw(mixtures(size=2)),
        time=draw(times),
        mode=draw(st.sampled_from(["replace", "product"])),
        coordinates=draw(st.none() | st.just(("x", "y"))),
        id=draw(st.none() | identifiers),
    )


@st.composite
def resets(draw: st.DrawFn) -> Reset:
    """Resets, with and without a place in the log of observations."""
    places = st.builds(
        LogPosition, topic_id=identifiers, partition=st.integers(0, 100), offset=st.integers(0, 2**53)
    )
    return Reset(
        entity=draw(names),
        reset=True,
        time=draw(times),
        observations_before=draw(st.none() | places),
        id=draw(st.none() | identifiers),
    )


@st.composite
def posteriors(draw: st.DrawFn) -> Posterior:
    """Posteriors over two coordinates."""
    return Posterior(
        entity=draw(names),
        time=draw(times),
        sequence=draw(st.integers(1, 2**53)),
        revision=draw(st.integers(0, 10)),
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        mixture=draw(mixtures(size=2)),
        quality=Quality(
            sample_efficiency=draw(shares),
            log_evidence=draw(numbers),
            p_value=draw(shares),
            method=draw(
                st.sampled_from(
                    ["transformer", "refined", "kalman", "linearised", "quadrature", "fallback", "prior"]
                )
            ),
            accumulated_error=draw(st.none() | st.floats(0, 1e6)),
        ),
        applied=tuple(draw(st.lists(identifiers, max_size=3))),
        prior_sequence=draw(st.integers(0, 10)),
        model=draw(names),
        model_version=draw(st.integers(1, 10)),
    )
