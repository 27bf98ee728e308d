"""`beliefstream worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.settings import Settings


def worker(
    brokers: Brokers = None,
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="create missing topics first, with one replica")
    ] = False,
) -> None:
    """Run a worker until SIGTERM: read observations, update beliefs, send posteriors.

    Environment variables configure it; `beliefstream settings` lists them.

    Example: BELIEFSTREAM_BROKERS=kafka:9092 BELIEFSTREAM_DEVICE=auto beliefstream worker
    """
    from beliefstream.streams.cli.remedies import remedy_for_topics
    from beliefstream.streams.kafka import topics
    from beliefstream.streams.kafka.topics import missing_rights
    from beliefstream.streams.monitoring import logs

    _check_installed()
    settings = settings_for(brokers)
    options = settings.client_options
    if create_topics:
        topics.create(settings.brokers, settings.names, partitions=settings.partitions, **options)
    if settings.security_protocol != "PLAINTEXT" and (
        lacking := missing_rights(settings.brokers, settings.names, settings.application, **options)
    ):
        raise CommandError(f"rights: {' '.join(lacking)} (deploy/SECURITY.md lists the rights of a worker)")
    problems = topics.check(settings.brokers, settings.names, partitions=settings.partitions, **options)
    if problems:
        raise CommandError(f"topics: {' '.join(problems)} ({remedy_for_topics(problems)})")
    _check_port(settings)
    lock = _claim_directory(settings)  # locked as long as this variable exists  # noqa: F841
    logs.configure(settings.logs, settings.log_level)
    _run(settings)


def _check_installed() -> None:
    """Raise ModuleNotFoundError if the extra is missing; imports nothing, because that takes seconds."""
    import sys
    from importlib.util import find_spec

    for module in ("faust", "torch"):
        # an imported module needs no search, and an imported Faust has no spec
        if module not in sys.modules and find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _check_port(settings: Settings) -> None:
    """Raise CommandError if the web port is in use; Faust would notice late, and print a traceback."""
    import socket

    place = settings.web_address
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((place.host, place.port))
        except OSError as error:
            raise CommandError(
                f"{place}: {error.strerror}; BELIEFSTREAM_WEB_ADDRESS sets another place"
            ) from None


def _claim_directory(settings: Settings) -> object:
    """Lock the directory with beliefs on disk, if the store is on disk."""
    if settings.store != "rocksdb://":
        return None
    try:
        from beliefstream.streams.state.disk import DirectoryInUse, claim
    except ImportError as error:
        raise CommandError(
            f"store: rocksdb:// needs {error.name} (pip install 'beliefstream[rocksdb]')"
        ) from None
    try:
        return claim(settings.belief_directory)
    except (DirectoryInUse, OSError) as error:
        raise CommandError(f"data_directory: {error}") from None


def _run(settings: Settings) -> None:
    # torch and Faust take seconds to import: everything that can fail before is already checked
    import sys

    import structlog

    structlog.get_logger().info("the worker starts", brokers=settings.brokers)
    # uvloop 0.23 often waits 30 s for a TLS connection to end if it is closed during a fetch
    if sys.platform != "win32" and not settings.security.encrypted:
        import mode.loop

        mode.loop.use("uvloop")
    from beliefstream.streams.kafka.reachability import Reachability
    from beliefstream.streams.worker import process
    from beliefstream.streams.worker.app import create_app
    from beliefstream.streams.worker.process import Runner
    from beliefstream.streams.worker.updater import make_updater

    reachability = Reachability(settings.names)
    app = create_app(settings, make_updater(settings), reachability)
    runner = Runner(app, reachability)
    runner.spinner = None  # it would write control characters into the log
    process.prepare()
    try:
        runner.execute_from_commandline()
    except SystemExit as ended:
        if ended.code:
            raise CommandError("the worker crashed; its log above says why") from None
