"""`beliefstream topics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.settings import Settings

topics = typer.Typer(name="topics", help="Create the topics, or check them.")

Partitions = Annotated[
    int | None,
    typer.Option(
        min=1, help="of all topics except sensors and models", show_default="of BELIEFSTREAM_PARTITIONS"
    ),
]


@topics.command()
def create(
    brokers: Brokers = None,
    partitions: Partitions = None,
    replication: Annotated[int, typer.Option(min=1, help="copies of each partition")] = 1,
) -> None:
    """Create the missing topics; existing topics are not changed.

    Example: beliefstream topics create --partitions 8 --replication 3
    """
    from beliefstream.streams.kafka.topics import create as create_topics

    settings = settings_for(brokers, partitions=partitions)
    made = create_topics(
        settings.brokers,
        settings.names,
        partitions=settings.partitions,
        replication=replication,
        **settings.client_options,
    )
    for name in made:
        print(f"created {name}")
    if not made:
        print("all topics exist")
    _complain(settings)


@topics.command()
def check(brokers: Brokers = None, partitions: Partitions = None) -> None:
    """Check the topics, and list their problems; exits with 1 if there are any.

    Example: beliefstream topics check --brokers kafka:9092
    """
    settings = settings_for(brokers, partitions=partitions)
    _complain(settings)
    print("all topics are correct")


def _complain(settings: Settings) -> None:
    from beliefstream.streams.cli.remedies import remedy_for_topics
    from beliefstream.streams.kafka.topics import check as check_topics

    problems = check_topics(
        settings.brokers, settings.names, partitions=settings.partitions, **settings.client_options
    )
    for problem in problems:
        print(problem)
    if problems:
        raise CommandError(f"topics: {counted(len(problems), 'problem')}; {remedy_for_topics(problems)}")
