"""`beliefstream simulate`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.sending import Force, Speed, define, send
from beliefstream.streams.cli.setup import settings_for


def simulate(
    entities: Annotated[int, typer.Option(min=1, help="number of entities")] = 50,
    duration: Annotated[float, typer.Option(help="seconds of simulated time")] = 60.0,
    rate: Annotated[float, typer.Option(help="observations of each entity per second, on average")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="of the random numbers")] = 0,
    speed: Speed = 1.0,
    force: Force = False,
    brokers: Brokers = None,
) -> None:
    """Simulate a fleet in a plane: define its models and sensors, and send their observations.

    Its sensors are called fleet/..., and each entity has a model of its own: other definitions stay. Simulated time
    begins now.

    Example: beliefstream simulate --entities 50 --duration 60 --rate 2
    """
    from beliefstream.streams.local.simulated_fleet import simulate as simulate_fleet

    settings = settings_for(brokers)
    simulation = simulate_fleet(entities, duration, rate, seed)
    models = [simulation.model.model_copy(update={"entity": entity}) for entity in simulation.entities]
    define(settings, models, simulation.sensors, speed, force)
    send(settings, simulation.observations, speed, "simulate")
