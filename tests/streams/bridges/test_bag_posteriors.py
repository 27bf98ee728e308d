"""Posteriors in MCAP, read back by the libraries of its makers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from beliefstream.schemas import Coordinate, Mixture, Posterior, parse
from beliefstream.streams.bridges.bags.posteriors import DRAWN, WHOLE, ellipsoid, quaternion
from beliefstream.streams.bridges.posterior_tables import open_posteriors
from tests.streams.client.topics import posterior

NOON = 1769860800.25
TWO = Mixture(
    weights=(0.75, 0.25),
    means=((1.0, 2.0), (5.0, -1.0)),
    covariances=(((4.0, 1.5), (1.5, 1.0)), ((0.25, 0.0), (0.0, 9.0))),
)


def written(path: Path, *posteriors: Posterior) -> Path:
    with open_posteriors(path) as file:
        for each in posteriors:
            file.write(each.to_json())
    return path


def drawn(path: Path) -> list[Any]:
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        decoded = reader.iter_decoded_messages(topics=[DRAWN])
        return [(schema.name if schema else "", found) for schema, _, _, found in decoded]


def whole(path: Path) -> list[tuple[int, Posterior]]:
    with path.open("rb") as file:
        found = make_reader(file).iter_messages(topics=[WHOLE])
        return [(message.log_time, parse(Posterior, message.data)) for _, _, message in found]


def turn(q: Any) -> np.ndarray[Any, Any]:
    """The rotation matrix of a quaternion, by the product with its conjugate."""

    def product(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
        (w, x, y, z), (v, i, j, k) = a, b
        return (
            w * v - x * i - y * j - z * k,
            w * i + x * v + y * k - z * j,
            w * j - x * k + y * v + z * i,
            w * k + x * j - y * i + z * v,
        )

    own, back = (q["w"], q["x"], q["y"], q["z"]), (q["w"], -q["x"], -q["y"], -q["z"])
    axes = np.eye(3)
    return np.array([product(product(own, (0.0, *axis)), back)[1:] for axis in axes]).T


def test_the_posteriors_themselves_are_there(tmp_path: Path) -> None:
    sent = [posterior(1, time=NOON, mixture=TWO), posterior(1, "other", time=NOON + 1)]
    path = written(tmp_path / "out.mcap", *sent)
    assert whole(path) == [(1769860800_250_000_000, sent[0]), (1769860801_250_000_000, sent[1])]


def test_each_component_is_drawn_as_the_ellipse_that_holds_90_percent(tmp_path: Path) -> None:
    ((name, update),) = drawn(written(tmp_path / "out.mcap", posterior(1, time=NOON, mixture=TWO)))
    assert name == "foxglove.SceneUpdate"
    (entity,) = update.entities
    assert (entity.id, entity.texts[0].text, entity.timestamp.seconds) == ("mower", "mower", int(NOON))
    assert entity.timestamp.nanos == 250_000_000
    generator = np.random.default_rng(1)
    for sphere, mean, covariance in zip(entity.spheres, TWO.means, TWO.covariances, strict=True):
        points = generator.multivariate_normal(mean, covariance, 40_000)
        place = np.array([sphere.pose.position.x, sphere.pose.position.y])
        np.testing.assert_allclose(place, mean)
        q = {axis: getattr(sphere.pose.orientation, axis) for axis in "xyzw"}
        local = (turn(q).T @ np.column_stack([points - place, np.zeros(len(points))]).T).T
        size = np.array([sphere.size.x, sphere.size.y, sphere.size.z])
        inside = ((2 * local / size) ** 2).sum(1) <= 1
        assert inside.mean() == pytest.approx(0.9, abs=0.01)
    assert entity.spheres[0].color.a > entity.spheres[1].color.a > 0


@pytest.mark.parametrize(
    ("coordinates", "place"),
    [
        ("heading:rad vx:m/s y:m x:m", (4.0, 3.0, 0.0)),
        ("east:m north:m vx:m/s up:m", (1.0, 2.0, 4.0)),
        ("x:m vx:m/s", (1.0, 0.0, 0.0)),
        ("level:m", (1.0, 0.0, 0.0)),
    ],
)
def test_the_coordinates_of_the_position_are_drawn(
    coordinates: str, place: tuple[float, float, float], tmp_path: Path
) -> None:
    named = [each.split(":") for each in coordinates.split()]
    mixture = Mixture.gaussian([1.0, 2.0, 3.0, 4.0][: len(named)], 0.5)
    message = posterior(
        1, time=NOON, mixture=mixture, coordinates=tuple(Coordinate(name=n, unit=u) for n, u in named)
    )
    ((_, update),) = drawn(written(tmp_path / "out.mcap", message))
    found = update.entities[0].spheres[0].pose.position
    assert (found.x, found.y, found.z) == place


@given(st.integers(1, 3), st.integers(0, 10_000))
def test_an_ellipsoid_has_the_covariance_it_was_made_of(size: int, seed: int) -> None:
    root = np.random.default_rng(seed).normal(size=(size, size))
    covariance = root @ root.T + 0.01 * np.eye(size)
    diameters, orientation = ellipsoid(covariance)
    rotation = turn(orientation)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    radius = {1: 2.7055, 2: 4.6052, 3: 6.2514}[size]
    again = rotation @ np.diag(np.square(diameters) / (4 * radius)) @ rotation.T
    np.testing.assert_allclose(again[:size, :size], covariance, rtol=1e-3, atol=1e-6)


def test_a_half_turn_has_a_quaternion() -> None:
    half = np.diag([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(turn(quaternion(half)), half, atol=1e-12)


def test_a_time_before_1970_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"time: -1\.0 is before 1970"):
        written(tmp_path / "out.mcap", posterior(1, time=-1.0))
