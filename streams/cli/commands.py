"""The typer application with all commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from beliefstream.streams.cli.bridge import bridge
from beliefstream.streams.cli.broker import broker
from beliefstream.streams.cli.contract import contract
from beliefstream.streams.cli.dead_letters import dead_letters
from beliefstream.streams.cli.demo import demo
from beliefstream.streams.cli.doctor.command import doctor
from beliefstream.streams.cli.entity import entity
from beliefstream.streams.cli.fuse import fuse
from beliefstream.streams.cli.gateway import gateway
from beliefstream.streams.cli.live import live
from beliefstream.streams.cli.models import models
from beliefstream.streams.cli.observe import observe
from beliefstream.streams.cli.posteriors import posteriors
from beliefstream.streams.cli.prior import prior
from beliefstream.streams.cli.replay import replay
from beliefstream.streams.cli.send import send
from beliefstream.streams.cli.sensors import sensors
from beliefstream.streams.cli.settings import settings
from beliefstream.streams.cli.simulate import simulate
from beliefstream.streams.cli.topics import topics
from beliefstream.streams.cli.train import train
from beliefstream.streams.cli.watch import watch
from beliefstream.streams.cli.worker import worker

# An unexpected exception is a bug, for which a plain traceback is best; main() explains errors that users can fix.
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(broker, worker, gateway, simulate, replay, posteriors, dead_letters, watch, live, fuse, send),
    *(demo, train, contract, doctor, settings),
)
for command in _COMMANDS:
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(observe)  # allows -1.5 as a value
for group in (topics, sensors, models, prior, entity, bridge):
    app.add_typer(group)


@app.callback()
def root() -> None:
    """Streaming sensor fusion over Kafka: reads observations, and sends checked posteriors.

    Example: beliefstream doctor says what is missing here and how to fix it.
    """
