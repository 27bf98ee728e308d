"""Compares our filter on Bluetooth recordings with many particles, which share no code with it.

    BELIEFSTREAM_DATA=<folder> python -m research.recordings.bluetooth ble_straight --particles 100000 --seeds 2

The particles are a bootstrap filter in NumPy (N. J. Gordon, D. J. Salmond and A. F. M. Smith, "Novel approach to
nonlinear/non-Gaussian Bayesian state estimation", IEE Proceedings F 140(2), 1993) with its own motion and likelihood.
Both give the truth a density after each instant. A negative log-likelihood (NLL) is minus its logarithm, in nats,
averaged over the scored cases.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from beliefstream.schemas import ConstantVelocity
from beliefstream.streams.scores import score
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from research.recordings.ble_rssi import FILES, ble_rssi
from research.resampling import systematic

Array = NDArray[np.float64]
BANDWIDTH = 0.5  # of the kernels, as a share of Silverman's rule
RESAMPLE = 0.5  # effective share of the particles below which they are resampled


def particles(recording: Recording, count: int, seed: int) -> list[float]:
    """Return the NLL of `count` particles at each scored truth; states are x, y (m), vx, vy (m/s)."""
    draws, found = np.random.default_rng(seed), []
    wanted = {float(time) for time in recording.truth_times if time >= recording.scored_from}
    sensors: dict[str, Any] = {sensor.sensor: sensor for sensor in recording.sensors}
    mixture, motion = recording.model.prior, recording.model.motion
    assert isinstance(motion, ConstantVelocity)
    density, prior = motion.spectral_density, np.sqrt(np.diag(mixture.covariances[0]))
    states = np.asarray(mixture.means[0])[:, None] + prior[:, None] * draws.standard_normal((4, count))
    logs, before = np.zeros(count), recording.observations[0].time
    for time, group in groupby(recording.observations, lambda each: each.time):
        if time > before:
            weights = _weights(logs)
            if 1 / np.square(weights).sum() < RESAMPLE * count:
                states = states[:, systematic(weights, count, draws)]
                logs = np.zeros(count)
            states = _moved(states, time - before, density, draws)
            before = time
        for observation in group:
            sensor = sensors[observation.sensor]
            distance = np.hypot(states[0] - sensor.position[0], states[1] - sensor.position[1])
            power = sensor.reference_power - 10 * sensor.exponent * np.log10(distance)
            logs -= 0.5 * np.square(
                (float(np.asarray(observation.value)) - power) / sensor.standard_deviation
            )
        if time in wanted:
            found.append(-_log_density(states[:2], _weights(logs), recording.truth_at([time])[0]))
    return found


def _weights(logs: Array) -> Array:
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _moved(states: Array, interval: float, density: float, draws: np.random.Generator) -> Array:
    """Move by a constant velocity, with white noise of acceleration of this spectral density (m²/s³)."""
    spread = density * np.array([[interval**3 / 3, interval**2 / 2], [interval**2 / 2, interval]])
    factor = np.linalg.cholesky(spread)
    noise = np.einsum("ij,jdn->idn", factor, draws.standard_normal((2, 2, states.shape[1])))
    return np.concatenate([states[:2] + interval * states[2:] + noise[0], states[2:] + noise[1]])


def _log_density(places: Array, weights: Array, at: Array) -> float:
    """Return the log density at a place, by Gaussian kernels with the particles' own covariance."""
    kernels = gaussian_kde(places, lambda own: BANDWIDTH * own.neff ** (-1 / 6), weights)
    return float(kernels.logpdf(at)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description="NLL of our filter and of many particles on a Bluetooth recording"
    )
    parser.add_argument("recording", choices=sorted(FILES))
    parser.add_argument("--particles", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=1, help="runs of the particles")
    parser.add_argument("--data", type=Path, help="folder of the recordings; BELIEFSTREAM_DATA by default")
    chosen = parser.parse_args()
    recording = ble_rssi(chosen.recording, data=chosen.data)
    (ours,) = score(recording, make_updater(Settings()), methods=())
    own = ours.negative_log_likelihood
    print(f"{chosen.recording}: ours {own:.3f} nats, {ours.cases} cases")
    for seed in range(chosen.seeds):
        mean = float(np.mean(particles(recording, chosen.particles, seed)))
        print(
            f"{chosen.particles} particles, seed {seed}: {mean:.3f} nats; ours is {own - mean:+.3f} from it"
        )


if __name__ == "__main__":
    main()
