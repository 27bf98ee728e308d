"""`beliefstream compile`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from beliefstream.streams.cli.command_settings import settings_for
from beliefstream.streams.cli.errors import CommandError
from beliefstream.streams.cli.options import whole_numbers


def compile(  # the command's name
    dimensions: Annotated[
        str, typer.Option(metavar="D,...", help="numbers of coordinates that the sensors of a batch touch")
    ] = "1,2,3,4",
) -> None:
    """Compile the network and its check for this processor, which makes workers about twice as fast.

    Needs a C++ compiler, and takes a minute or two for each dimension. Workers started later load the result in
    milliseconds. Other dimensions run uncompiled.

    Example: beliefstream compile --dimensions 2,3
    """
    from beliefstream.inference.network import weights
    from beliefstream.inference.update.compilation import compile_network

    settings = settings_for()
    for dimension in whole_numbers(dimensions, "--dimensions", 1) or ():
        began = time.monotonic()
        try:
            place = compile_network(
                weights.load(settings.weights), dimension, settings.points, settings.compiled
            )
        except RuntimeError as error:
            raise CommandError(f"compile: is a C++ compiler installed? {error}") from error
        print(f"{dimension} coordinates: {time.monotonic() - began:.0f} s, {place}")
