"""`beliefstream sensors fit --apply`: publishes fitted definitions, and says how to undo it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from beliefstream.streams.cli.definitions.registry import open_registry, require_accepted
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.setup import CommandError

if TYPE_CHECKING:
    from beliefstream.schemas import Message, Model, Sensor
    from beliefstream.streams.fitting.evidence import Definitions


class _Change(NamedTuple):
    """Definitions of one kind by name: those of the topic, those that the fit started from, and fitted ones."""

    command: str
    what: str
    present: Mapping[str, Message]
    stated: Mapping[str, Message]
    fitted: Mapping[str, Message]

    def others(self) -> list[str]:
        """The definitions that would be replaced, and are not those that the fit started from."""
        names = [name for name in self.fitted if name in self.present]
        return [f"{self.what} {name}" for name in names if self.present[name] != self.stated[name]]

    def undo(self, brokers: str | None) -> Iterator[str]:
        """Yield the commands that undo it."""
        changed = [name for name, each in self.fitted.items() if self.present.get(name) != each]
        before = [self.present[name].to_json().decode() for name in changed if name in self.present]
        options = () if brokers is None else ("--brokers", brokers)
        if before:
            yield shlex.join(["beliefstream", self.command, "set", f"[{', '.join(before)}]", *options])
        if new := [name for name in changed if name not in self.present]:
            yield shlex.join(["beliefstream", self.command, "remove", *new, *options])


def publish(
    stated: Definitions, fitted: Definitions, against: Sequence[str], *, force: bool, brokers: str | None
) -> None:
    """Set fitted sensors and models as `sensors set` and `models set` do; before, print the commands that undo it.

    Args:
        stated: definitions that the fit started from.
        fitted: definitions to set; those that are equal to the present ones are not sent.
        against: why they should not be set.
        force: whether to set them all the same, also where the present definitions are not the stated ones.
        brokers: of the topics; None as the environment says.

    Raises:
        CommandError: something is against it; nothing is set.
        Unusable: workers would refuse a sensor, as others of its device state other numbers; nothing is set.
    """
    with open_registry(brokers) as registry:
        sensors, models = registry.sensors(), registry.models()
        changes = (
            _Change("sensors", "sensor", sensors, _by_name(stated.sensors), _by_name(fitted.sensors)),
            _Change("models", "model of", models, _by_entity(stated.models), _by_entity(fitted.models)),
        )
        others = [name for each in changes for name in each.others()]
        reasons = [*against, *([f"now defined otherwise: {', '.join(others[:5])}"] if others else [])]
        if reasons and not force:
            raise CommandError(f"not applied: {'; '.join(reasons)}; --apply-anyway applies it all the same")
        require_accepted(sensors.values(), fitted.sensors)
        undo = [line for each in changes for line in each.undo(brokers)]
        print("this undoes it:", *undo, sep="\n", file=sys.stderr)
        registry.define(fitted.sensors, fitted.models, replace=True)
    print(
        f"set {counted(len(fitted.sensors), 'sensor')} and {counted(len(fitted.models), 'model')}",
        file=sys.stderr,
    )


def _by_name(sensors: Iterable[Sensor]) -> dict[str, Message]:
    return {each.sensor: each for each in sensors}


def _by_entity(models: Iterable[Model]) -> dict[str, Message]:
    return {each.entity: each for each in models}
