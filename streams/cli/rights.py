"""Whether the user of a command may do at the broker what it is about to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from beliefstream.streams.settings import Settings


def require_rights(settings: Settings, needed: Mapping[str, Sequence[str]], command: str) -> None:
    """Raise CommandError that names the rights which this user lacks; without encryption and users, all have all.

    Args:
        settings: broker and security.
        needed: Kafka's operations, such as `WRITE`, by topic.
        command: who needs them.
    """
    from beliefstream.streams.kafka.rights import missing_topic_rights

    if settings.security_protocol == "PLAINTEXT":
        return
    if lacking := missing_topic_rights(settings.brokers, needed, **settings.client_options):
        raise CommandError(f"rights: {' '.join(lacking)} (deploy/SECURITY.md lists the rights of {command})")
