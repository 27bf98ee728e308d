"""What compiling native code costs: `NUMBA_CACHE_DIR=$(mktemp -d) python -m tests.compile_time [MODULE ...]`.

It prints processor seconds by module and by function, and functions that are compiled for several kinds of arguments:
each costs as much again as the first. What differs between these is printed: most often an array that is known to be
contiguous to one caller (C) and not to another (A), as a slice of it is.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from numba.core import config, event
from numba.core.types.containers import BaseTuple

from beliefstream.inference import native_code

PREFIX = "beliefstream.inference."
MOST = 40  # functions that are printed


class Compiled(event.Listener):  # type: ignore[misc]
    """Arguments and seconds of every function that is compiled, without those that it calls."""

    def __init__(self) -> None:
        self.arguments = defaultdict[str, list[tuple[Any, ...]]](list)
        self.seconds = defaultdict[str, float](float)
        self._running = list[list[float]]()

    def on_start(self, _: event.Event) -> None:
        self._running.append([time.process_time(), 0.0])

    def on_end(self, ended: event.Event) -> None:
        began, others = self._running.pop()
        spent = time.process_time() - began
        if self._running:
            self._running[-1][1] += spent
        function = ended.data["dispatcher"].py_func
        name = f"{function.__module__.removeprefix(PREFIX)}.{function.__qualname__}"
        self.arguments[name].append(ended.data["args"])
        self.seconds[name] += spent - others


def leaves(kind: Any, name: str) -> Iterator[tuple[str, str]]:
    """The parts of an argument's type that are no tuples, by name."""
    if isinstance(kind, BaseTuple):
        fields = getattr(kind, "fields", range(len(kind)))
        for field, part in zip(fields, kind, strict=True):
            yield from leaves(part, f"{name}.{field}")
    else:
        yield name, str(kind)


def differences(several: list[tuple[Any, ...]]) -> Iterator[str]:
    """What differs between the arguments of a function."""
    parts = [
        {name: kind for at, argument in enumerate(one) for name, kind in leaves(argument, str(at))}
        for one in several
    ]
    for name in sorted(set().union(*parts)):
        kinds = [part.get(name, "none") for part in parts]
        if len(set(kinds)) > 1:
            yield f"      argument {name}: {' | '.join(dict.fromkeys(kinds))}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("modules", nargs="*", help="such as update.native_scaling; all if none is named")
    wanted = parser.parse_args().modules
    compiled = Compiled()
    event.register("numba:compile", compiled)
    if not config.CACHE_DIR:
        parser.error("NUMBA_CACHE_DIR must name an empty folder: else code of an earlier start is loaded")
    print_modules(wanted)
    total = sum(compiled.seconds.values())
    print(f"{total:.1f} s, {sum(map(len, compiled.arguments.values()))} compilations\n")
    longest = sorted(compiled.seconds.items(), key=lambda item: -item[1])
    for name, seconds in longest[:MOST]:
        print(f"{seconds:6.2f} s  {len(compiled.arguments[name])} x  {name}")
    print()
    again = 0.0
    for name, seconds in longest:
        several = compiled.arguments[name]
        if len(several) > 1 and not name.startswith("numba."):
            again += seconds * (1 - 1 / len(several))
            print(f"{seconds:6.2f} s  {len(several)} x  {name}", *differences(several), sep="\n")
    print(f"{again:.1f} s for the second and later ones")


def print_modules(wanted: list[str]) -> None:
    for module in native_code.MODULES:
        name = module.__name__.removeprefix(PREFIX)
        if not wanted or name in wanted:
            before = time.process_time()
            module.prepare()
            print(f"{time.process_time() - before:6.2f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
