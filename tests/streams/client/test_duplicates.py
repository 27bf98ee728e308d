"""Which posteriors a reader takes for ones it has seen."""

from __future__ import annotations

import pytest

from beliefstream.schemas import Posterior
from beliefstream.streams.client import posteriors
from beliefstream.streams.client.posteriors import Duplicates


def posterior(
    sequence: int, time: float, *applied: str, revision: int = 0, entity: str = "anna"
) -> Posterior:
    return Posterior.model_validate(
        {
            "entity": entity,
            "time": time,
            "sequence": sequence,
            "revision": revision,
            "coordinates": [{"name": "x", "unit": "m"}],
            "mixture": {"weights": [1], "means": [[0]], "covariances": [[[1]]]},
            "quality": {"sample_efficiency": 1, "log_evidence": 0, "p_value": 1, "method": "kalman"},
            "applied": applied,
            "prior_sequence": 0,
            "model": "walker",
            "model_version": 1,
        }
    )


def test_what_was_sent_again_after_a_crash_is_seen() -> None:
    seen = Duplicates()
    assert seen.is_new(posterior(3, 1.0, "a"))
    assert not seen.is_new(posterior(3, 1.0, "a"))
    assert not seen.is_new(posterior(2, 0.5, "b"))
    assert seen.is_new(posterior(3, 1.0, "a", "b"))  # of more observations than the first time


@pytest.mark.parametrize("sequence", [1, 2])
def test_an_entity_that_was_forgotten_begins_anew(sequence: int) -> None:
    """With the second sequence number, if the first observations of its new life came together."""
    seen = Duplicates()
    for number in range(1, 6):
        assert seen.is_new(posterior(number, float(number), str(number)))
    assert seen.is_new(posterior(sequence, 4000.0, "new"))
    assert not seen.is_new(posterior(sequence, 4000.0, "new"))
    assert seen.is_new(posterior(sequence + 1, 4001.0, "next"))


def test_the_entities_heard_of_last_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posteriors, "MOST_ENTITIES", 2)
    seen = Duplicates()
    for entity, time in (("anna", 1.0), ("berta", 1.0), ("anna", 2.0), ("clara", 1.0)):
        assert seen.is_new(posterior(int(time), time, "a", entity=entity))
    assert not seen.is_new(posterior(2, 2.0, "a", entity="anna"))
    assert seen.is_new(posterior(1, 1.0, "a", entity="berta"))  # longest silent, and forgotten
    assert len(seen._last) == 2
