"""Beliefs of one method about a group of entities, compared with the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.evaluation.scores import Score, Summary

Array = NDArray[np.float64]


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
        score = Score()
        truths, means = torch.as_tensor(self.truths), torch.as_tensor(self.means)
        if len(self):
            score.add(truths, means, torch.as_tensor(self.log_densities), torch.as_tensor(self.levels))
        return score.summary()


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
