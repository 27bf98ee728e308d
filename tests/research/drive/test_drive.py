"""Simulated drives, and the filters that the service is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
import typer
from typer.testing import CliRunner

from research.drive import filters
from research.drive.__main__ import main
from research.drive.simulation import PARTS, SATELLITES, SPREAD, Epoch, drive, origin, path
from tests import satellites


def test_the_simulation_follows_the_light() -> None:
    place, axes = origin()
    assert np.abs(place - satellites.on_earth(50.11, 8.68, 110.0)).max() < 1e-6
    assert np.abs(axes - satellites.axes(50.11, 8.68)).max() < 1e-12
    sky, _ = satellites.sky(place, axes, 5, 1)
    for each in sky:
        assert abs(path(place, each) - satellites.path(place, each)) < 1e-6


def test_the_filters_expect_what_the_light_does() -> None:
    centre, axes = origin()
    sky, _ = satellites.sky(centre, axes, 5, 2)
    local = np.array([300.0, -200.0, 20.0])
    ranges, slopes = filters.expected(local[None], Epoch(sky, np.zeros(5), np.ones(5)))
    for number, each in enumerate(sky):
        exact = [satellites.path(centre + (local + step) @ axes, each) for step in (0, *np.eye(3))]
        assert abs(ranges[0, number] - exact[0]) < 1e-3
        assert np.abs(slopes[0, number] - (np.array(exact[1:]) - exact[0])).max() < 1e-3


def test_a_drive_has_the_reflections_that_it_says() -> None:
    given = drive(3, 200)
    off = []
    for state, epoch in zip(given.states, given.epochs, strict=True):
        assert 10 <= len(epoch.values) <= SATELLITES
        ranges, _ = filters.expected(state[None, :3], epoch)
        off.extend((epoch.values - ranges[0] - state[6]) / epoch.deviations)
    far = np.mean(np.abs(off) > 3)
    assert 0.15 < far < PARTS[1:, 0].sum()  # some of the reflected are close to direct ones
    assert abs(np.median(off)) < 1.0


def test_particles_and_kalman_filter_agree_where_noise_is_one_gaussian(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the parts are alike, both are exact; a few particles have an error of their own."""
    one = np.array([[0.4, 0.0, 1.0], [0.3, 0.0, 1.0], [0.3, 0.0, 1.0]])
    for module in ("simulation", "filters"):
        monkeypatch.setattr(f"research.drive.{module}.PARTS", one)
    given = drive(5, 8)
    exact = list(filters.kalman(given, filters.Tuning()))
    found = list(filters.particles(given, 5000, 1))
    mean, covariance = exact[-1]
    deviations = np.sqrt(np.diag(covariance))[[0, 1, 2, 6]]
    assert np.abs((found[-1].mean(0) - mean)[[0, 1, 2, 6]] / deviations).max() < 0.5
    assert np.abs((mean - given.states[-1]) / np.sqrt(np.diag(covariance))).max() < 4
    assert (np.sqrt(np.diag(covariance)) < SPREAD).all()


def test_the_command_compares_four_methods(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    saved = tmp_path / "drive.json"
    options = ["--drives", "1", "--seconds", "2", "--particles", "2000", "--json", str(saved)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    rows = orjson.loads(saved.read_bytes())
    assert len(rows) == 4
    assert all(0 <= row["90%"] <= 1 and row["nll"] < 30 for row in rows)
