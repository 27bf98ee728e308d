"""All commands, by name."""

from __future__ import annotations

from collections.abc import Callable

import typer

from streams.cli.bench import bench
from streams.cli.broker import broker
from streams.cli.compilation import compile
from streams.cli.dead_letters import dead_letters
from streams.cli.definitions import models, sensors
from streams.cli.entities import entity
from streams.cli.evaluate import evaluate
from streams.cli.fuse import fuse
from streams.cli.playback import replay, simulate
from streams.cli.posteriors import posteriors
from streams.cli.sending import observe, prior
from streams.cli.tools import contract, doctor, settings
from streams.cli.topics import topics
from streams.cli.train import train
from streams.cli.watch import watch
from streams.cli.worker import worker
from streams.demo.command import demo

# A broken command is a bug, and a plain traceback is the most useful; main() explains errors that users can fix.
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(broker, worker, simulate, replay, posteriors, dead_letters, watch, fuse),
    *(demo, train, evaluate, compile, bench, contract, doctor, settings),
)
for command in _COMMANDS:
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(observe)  # allows -1.5 as a value
for group in (topics, sensors, models, prior, entity):
    app.add_typer(group)


@app.callback()
def root() -> None:
    """Streaming sensor fusion: observations in, checked posteriors out, over Kafka.

    Example: beliefstream doctor says what is missing here and how to fix it.
    """
