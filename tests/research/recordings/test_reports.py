"""The evidence of ships' reports: that of a Kalman filter, and greatest at the noise that made them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm

from research.recordings.report_noise import ReportNoise, Reports, evidence, likeliest


@dataclass(frozen=True)
class Chosen:
    place: float = 10.0
    delay: float = 0.1
    speed: float = 1.0
    course: float = 1.0  # degrees
    density: float = 0.1
    time_constant: float = 300.0
    outliers: float = 0.3  # what is no number of the noise stays


STEPS = 40  # of the motion, from one report to the next


def simulated(ships: int, count: int, seed: int = 1) -> Reports:
    """Of noise 4 m, 1 s, 0.3 m/s, 4°, 0.5 m²/s³ and 120 s, every 5 s on average, moved in small steps."""
    rng = np.random.default_rng(seed)
    intervals = rng.exponential(5.0, (ships, count))
    times = np.cumsum(intervals, 1)
    velocity = 15 * np.stack([np.cos(angle := rng.uniform(0, 6, ships)), np.sin(angle)], -1)
    place, places, velocities = rng.normal(0, 1000, (ships, 2)), [], []
    for report in range(count):
        dt = intervals[:, report, None] / STEPS
        for _ in range(STEPS):
            change = rng.normal(0, 1, (ships, 2)) * np.sqrt(0.5 * dt) - velocity / 120 * dt
            place, velocity = place + (velocity + change / 2) * dt, velocity + change
        places.append(place + rng.normal(0, 4, place.shape) + velocity * rng.normal(0, 1, (ships, 1)))
        velocities.append(velocity)
    true = np.stack(velocities, 1)
    speed = np.linalg.norm(true, axis=-1) + rng.normal(0, 0.3, times.shape)
    # a course is as much the worse as the speed's error turns a velocity
    turned = np.hypot(np.radians(4), 0.3 / np.linalg.norm(true, axis=-1))
    course = np.arctan2(true[..., 1], true[..., 0]) + rng.normal(0, 1, times.shape) * turned
    return Reports(np.full(ships, count), times, np.stack(places, 1), course, speed)


def test_the_likeliest_settings_are_those_that_made_the_reports() -> None:
    found = likeliest(simulated(60, 60), Chosen(), (1.0, 1.0, 1.0, np.pi / 180, 1.0, 1.0), 3.0)
    assert found.place == pytest.approx(4, rel=0.15)
    assert found.delay == pytest.approx(1, rel=0.15)
    assert found.speed == pytest.approx(0.3, rel=0.2)
    assert found.course == pytest.approx(4, rel=0.25)
    assert found.density == pytest.approx(0.5, rel=0.25)
    assert found.time_constant == pytest.approx(120, rel=0.25)
    assert found.outliers == 0.3


def test_the_evidence_of_two_reports_is_the_density_of_the_second_given_the_first() -> None:
    reports = Reports(
        np.array([2]),
        np.array([[0.0, 2.0]]),
        np.array([[[0.0, 0.0], [11.0, 1.0]]]),
        np.array([[0.0, 0.0]]),
        np.array([[5.0, 5.5]]),
    )
    noise = ReportNoise(*(np.array([value]) for value in (2.0, 0.2, 0.5, 0.1, 0.3, 4.0)))
    drift, diffusion = np.kron([[0, 1], [0, -1 / 4]], np.eye(2)), np.kron([[0, 0], [0, 0.3]], np.eye(2))
    # Van Loan, "Computing integrals involving the matrix exponential", IEEE Trans. Automatic Control 23(3), 1978
    block = expm(2.0 * np.block([[-drift, diffusion], [np.zeros((4, 4)), drift.T]]))
    matrix = block[4:, 4:].T
    motion = matrix @ block[:4, 4:]
    # along: 0.2 s at that speed; across: the speed's error, and the course's times the speed
    first = np.diag([4 + 1, 4, 0.25, 0.25 + 0.25])
    second = np.diag([4 + 1.1**2, 4, 0.25, 0.25 + 0.55**2])
    law = stats.multivariate_normal(matrix @ [0, 0, 5, 0], matrix @ first @ matrix.T + motion + second)
    assert evidence(reports, noise, 0.1)[0] == pytest.approx(law.logpdf([11.0, 1.0, 5.5, 0.0]))


def test_ships_count_as_many_reports_as_they_made() -> None:
    whole = simulated(3, 10)
    noise = ReportNoise(*(np.array([value]) for value in (4.0, 1.0, 0.3, 0.03, 0.2, 60.0)))
    short = Reports(np.array([10, 4, 1]), whole.times, whole.places, whole.course, whole.speed)
    parts = []
    for ship, count in enumerate((10, 4, 1)):
        own = (
            part[ship : ship + 1, :count] for part in (whole.times, whole.places, whole.course, whole.speed)
        )
        parts.append(float(evidence(Reports(np.array([count]), *own), noise, 0.3)[0]))
    assert evidence(short, noise, 0.3)[0] == pytest.approx(sum(parts))
    assert parts[2] == 0.0
