"""`beliefstream entity`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.cli.options import Brokers, moment
from beliefstream.streams.cli.sending import SOURCE, Entity, When, report
from beliefstream.streams.cli.setup import opened, settings_for

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
        typer.Option(help="your identifier; a reset sent again with the same one has no further effect"),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Forget an entity: its belief, its history, waiting priors, and observations that no worker has read yet.

    The next observation starts from the model's prior, whatever its time is. So this also helps an entity that
    refuses observations as late after a time stamp in the future. Prints topic and partition:offset of the reset.
    The worker then emits a posterior that is the model's prior, at --time.

    Example: beliefstream entity reset mower
    """
    from beliefstream.streams.client import PriorPublisher

    settings = settings_for(brokers)
    with opened(
        PriorPublisher,
        settings,
        settings.names.priors,
        observations=settings.names.observations,
        source=SOURCE,
    ) as publisher:
        report(publisher.reset(entity, moment(time), id))
