"""What the benchmarks of the stream send: observations in order, or with late ones and priors among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beliefstream.schemas import Mixture, Observation, Prior
from beliefstream.streams.client import ObservationProducer, PriorPublisher
from beliefstream.streams.local.simulated_fleet import Simulation, simulate
from beliefstream.streams.settings import Settings

RATE = 2.0  # reports of an entity a second
LATE_SHARE, PRIOR_SHARE = 0.1, 0.01
LATE_SECONDS = (0.5, 1.8)  # within the model's lateness window of 2 s
PRIOR_DEVIATIONS = (3.0, 3.0, 1.0, 1.0)  # m and m/s, of a prior about the true state


@dataclass(frozen=True, eq=False)
class Workload:
    """Messages to send.

    Attributes:
        name: in the tables and in the JSON.
        observations: in the order in which they are sent.
        priors: sent before all observations; each waits for its time.
    """

    name: str
    simulation: Simulation
    observations: Sequence[Observation]
    priors: Sequence[Prior] = ()


def in_order(entities: int, reports: int) -> Workload:
    """About `reports` observations of each entity, in order of time."""
    simulation = simulate(entities=entities, duration=reports / RATE, rate=RATE)
    return Workload(str(reports), simulation, simulation.observations)


def mixed(entities: int, reports: int, seed: int = 0) -> Workload:
    """The same, a tenth of them late by up to 1.8 s, and a prior for a hundredth of them."""
    simulation = simulate(entities=entities, duration=reports / RATE, rate=RATE)
    random = np.random.default_rng(seed)
    count = len(simulation.observations)
    times = np.array([observation.time for observation in simulation.observations])
    delays = np.where(random.random(count) < LATE_SHARE, random.uniform(*LATE_SECONDS, count), 0.0)
    order = np.argsort(times + delays, kind="stable")
    observations = [simulation.observations[index] for index in order]
    stated = np.flatnonzero(random.random(count) < PRIOR_SHARE)
    priors = [_prior(simulation, observations[place], random) for place in stated.tolist()]
    return Workload(f"{reports}, a tenth late, a hundredth priors", simulation, observations, priors)


def _prior(simulation: Simulation, observation: Observation, random: np.random.Generator) -> Prior:
    """A prior about the entity's true state when it was observed, to be multiplied in."""
    spread = np.array(PRIOR_DEVIATIONS)
    truth = simulation.truth_at(observation.entity, observation.time)[0]
    mean = truth + spread * random.normal(size=4)
    mixture = Mixture(
        weights=(1.0,), means=(tuple(mean.tolist()),), covariances=(np.diag(spread**2).tolist(),)
    )
    return Prior(entity=observation.entity, time=observation.time, mixture=mixture, mode="product")


def send(settings: Settings, workload: Workload) -> None:
    """Send all messages, each topic in its order, and wait until the broker has them."""
    if workload.priors:
        with PriorPublisher(
            settings.brokers, settings.names.priors, observations=settings.names.observations
        ) as priors:
            for prior in workload.priors:
                priors.send_message(prior)
            priors.flush(60)
    with ObservationProducer(
        settings.brokers, settings.names.observations, linger_ms=20, batch_size=262144
    ) as producer:
        for observation in workload.observations:
            producer.send_message(observation)
        producer.flush(60)
