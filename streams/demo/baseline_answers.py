"""Beliefs of one method about a group of entities, compared with the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.coverage import inside

Array = NDArray[np.float64]


class Summary(NamedTuple):
    """Averages over all cases, in the units of the coordinates and in nats; NaN if there are none."""

    cases: int
    rmse: float  # root mean square distance of the mean from the truth
    median: float  # median of that distance
    negative_log_likelihood: float  # mean negative log density at the truth
    coverage90: float  # share of truths inside the 90 % highest-density region


@dataclass(frozen=True, eq=False)
class Answers:
    """N beliefs about positions, each after all observations of one instant of an entity.

    Attributes:
        entities: names of the entities, (N,).
        times: times, (N,), s since the epoch.
        means, truths: mean and true positions, (N, 2), m.
        log_densities: log density of the belief at the true position, (N,), nats, lengths in m.
        levels: probability mass of the points with a higher density than the truth, (N,).
    """

    entities: NDArray[np.str_]
    times: Array
    means: Array
    truths: Array
    log_densities: Array
    levels: Array

    def __len__(self) -> int:
        return len(self.times)

    @property
    def instants(self) -> list[tuple[str, float]]:
        return list(zip(self.entities.tolist(), self.times.tolist(), strict=True))

    def at(self, instants: Iterable[tuple[str, float]]) -> Answers:
        """Return the answers at the given instants, in that order.

        Raises:
            KeyError: an instant has no answer.
        """
        place = {instant: number for number, instant in enumerate(self.instants)}
        chosen = [place[instant] for instant in instants]
        return Answers(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def summary(self) -> Summary:
        """Compute the scores over all answers."""
        if not len(self):
            return Summary(0, math.nan, math.nan, math.nan, math.nan)
        distance = np.linalg.norm(self.means - self.truths, axis=1)
        return Summary(
            cases=len(self),
            rmse=math.sqrt(float(np.square(distance).mean())),
            median=float(np.median(distance)),
            negative_log_likelihood=-float(self.log_densities.mean()),
            coverage90=float(inside(torch.from_numpy(self.levels), 0.9).mean()),
        )


def save(path: Path, answers: Mapping[str, Answers]) -> None:
    """Write the answers of several methods, by name, to a numpy file."""
    arrays = {
        f"{method}|{name}": getattr(each, name)
        for method, each in answers.items()
        for name in Answers.__dataclass_fields__
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, Answers]:
    """Read the answers written by `save`."""
    with np.load(path) as file:
        methods = dict.fromkeys(key.split("|")[0] for key in file.files)
        return {
            method: Answers(*(file[f"{method}|{name}"] for name in Answers.__dataclass_fields__))
            for method in methods
        }
