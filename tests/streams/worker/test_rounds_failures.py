"""An update that fails leaves the entity's belief and the other entities alone."""

from __future__ import annotations

from typing import Any

import pytest

from beliefstream.inference.tracking.events import PriorChange
from beliefstream.inference.update.devices import OutOfMemory
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Mixture, Posterior, Reason, parse
from beliefstream.streams.definitions.models import belief_from_mixture
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.worker.rounds import run_rounds
from tests.streams.entity_batches import batch, reasons, run, seen, stated
from tests.streams.oracle import updater as shared_updater


@pytest.fixture(scope="module")
def updater() -> Updater:
    return shared_updater()


def test_an_update_that_is_not_finite_leaves_the_belief_and_the_others_alone(updater: Updater) -> None:
    bad, good = (
        batch(seen(1.0), seen(2.0, 1e300), seen(3.0), key=b"bad"),
        batch(seen(1.0), seen(2.0), key=b"good"),
    )
    posteriors = run(updater, bad, good)
    assert reasons(bad) == [(101, Reason.numerical)]
    assert {(each.entity, each.sequence, each.applied) for each in posteriors} == {
        ("bad", 1, ("0",)),
        ("bad", 2, ("2",)),
        ("good", 1, ("0",)),
        ("good", 2, ("1",)),
    }
    assert reasons(good) == []


def test_an_update_that_raises_leaves_the_others_alone(updater: Updater) -> None:
    class Unhappy(Updater):
        """Fails for whole batches, and for one entity alone."""

        def update(self, prior: Any, observations: Any, *, simulated: bool = True) -> Any:
            if prior.batch > 1 or float(observations.value.abs().max()) > 1e5:
                raise RuntimeError("cannot")
            return super().update(prior, observations, simulated=simulated)

    unhappy = Unhappy(updater.network, updater.device, updater.settings)
    bad, good = batch(seen(1.0, 1e6), key=b"bad"), batch(seen(1.0), key=b"good")
    assert [each.entity for each in run(unhappy, bad, good)] == ["good"]
    assert reasons(bad) == [(100, Reason.numerical)]


def test_a_machine_without_memory_is_no_fault_of_the_messages(updater: Updater) -> None:
    class Full(Updater):
        """On a machine without memory."""

        def update(self, prior: Any, observations: Any, *, simulated: bool = True) -> Any:
            raise OutOfMemory("no memory")

    entity = batch(seen(1.0))
    with pytest.raises(OutOfMemory):
        run(Full(updater.network, updater.device, updater.settings), entity)
    assert reasons(entity) == []


def test_a_prior_that_cannot_be_applied_is_lost_with_its_place(updater: Updater) -> None:
    first = batch(stated(5.0), seen(1.0))
    run(updater, first)
    far = PriorChange(belief_from_mixture(Mixture.gaussian((1e200, 0.0, 0.0, 0.0), 1.0), 0.0), "product")
    entity = batch(seen(6.0), record=first.record)
    entity.plan(lambda key, kept: (stated(5.0, far), ""), 256)
    posteriors = [
        parse(Posterior, record.value) for record in run_rounds([entity], updater, TopicNames(), "tests")
    ]
    assert reasons(entity) == [(100, Reason.numerical)]
    assert [each.applied for each in posteriors] == [("0",)]
    assert posteriors[-1].prior_sequence == 0
