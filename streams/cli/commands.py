"""The typer application with all commands."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from beliefstream.streams.cli.definitions.contract import contract
from beliefstream.streams.cli.definitions.models import models
from beliefstream.streams.cli.definitions.sensors import sensors
from beliefstream.streams.cli.definitions.settings import settings
from beliefstream.streams.cli.definitions.topics import topics
from beliefstream.streams.cli.doctor.command import doctor
from beliefstream.streams.cli.messages.dead_letters import dead_letters
from beliefstream.streams.cli.messages.entity import entity
from beliefstream.streams.cli.messages.observe import observe
from beliefstream.streams.cli.messages.posteriors import posteriors
from beliefstream.streams.cli.messages.prior import prior
from beliefstream.streams.cli.messages.send import send
from beliefstream.streams.cli.offline.fuse import fuse
from beliefstream.streams.cli.offline.replay import replay
from beliefstream.streams.cli.offline.simulate import simulate
from beliefstream.streams.cli.services.bridge import bridge
from beliefstream.streams.cli.services.broker import broker
from beliefstream.streams.cli.services.demo import demo
from beliefstream.streams.cli.services.gateway import gateway
from beliefstream.streams.cli.services.live import live
from beliefstream.streams.cli.services.watch import watch
from beliefstream.streams.cli.services.worker import worker
from beliefstream.streams.cli.training.problem_commands import train_likelihood, train_posterior
from beliefstream.streams.cli.training.train import train

# An unexpected exception is a bug, for which a plain traceback is best; main() explains errors that users can fix.
app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(broker, worker, gateway, simulate, replay, posteriors, dead_letters, watch, live, fuse, send),
    *(demo, train, train_likelihood, train_posterior, contract, doctor, settings),
)
for command in _COMMANDS:
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(observe)  # allows -1.5 as a value
for group in (topics, sensors, models, prior, entity, bridge):
    app.add_typer(group)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"beliefstream {version('beliefstream')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="show the version")
    ] = False,
) -> None:
    """Streaming sensor fusion over Kafka: reads observations, and sends checked posteriors.

    Example: beliefstream doctor says what is missing here and how to fix it.
    """
