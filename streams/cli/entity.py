"""`beliefstream entity`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.cli.command_settings import settings_for
from beliefstream.streams.cli.options import Brokers, moment
from beliefstream.streams.cli.sending import SOURCE, Entity, When, report

entity = typer.Typer(name="entity", help="Forget an entity.")


@entity.callback()
def group() -> None:
    """Forget an entity."""


@entity.command("reset")
def reset(
    entity: Entity,
    time: When = None,
    id: Annotated[
        str | None,
        typer.Option(help="an identifier of your own; sent again with it, nothing more is forgotten"),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Forget an entity: its belief, its history, priors that wait, observations that no worker has read yet.

    The next observation starts from the model's prior, whatever its time is. So an entity hears again that a time
    stamp in the future has deafened. Prints where the broker put the reset: topic, partition:offset. The posterior
    that tells of it is the model's prior, at --time.

    Example: beliefstream entity reset mower
    """
    from beliefstream.streams.client import PriorPublisher

    settings = settings_for(brokers)
    with PriorPublisher(
        settings.brokers,
        settings.priors,
        observations=settings.observations,
        source=SOURCE,
        **settings.client_options,
    ) as publisher:
        report(publisher.reset(entity, moment(time), id))
