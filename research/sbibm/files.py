"""Observations and reference posteriors of sbibm, from the folder `tasks` of a clone."""

from __future__ import annotations

import bz2
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from research.recordings.parts import data_file

Array = NDArray[np.float64]


def observation(task: str, number: int, data: Path | None) -> Array:
    """Return the data of an observation, numbered from 1, ``(q,)``; raises RecordingUnavailable."""
    return np.asarray(_rows(task, number, "observation.csv", data)[0])


def reference(task: str, number: int, data: Path | None) -> Array:
    """Return the 10 000 samples of its reference posterior ``(N, n)``; raises RecordingUnavailable."""
    return _rows(task, number, "reference_posterior_samples.csv.bz2", data)


def _rows(task: str, number: int, name: str, data: Path | None) -> Array:
    file = data_file("sbibm", f"sbibm/{task}/files/num_observation_{number}/{name}", data)
    content = file.read_bytes()
    text = (bz2.decompress(content) if file.suffix == ".bz2" else content).decode()
    return np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, ndmin=2)
