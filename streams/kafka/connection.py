"""Connects clients to the broker, with errors that say what to do, and reads whole topics."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    IncompatibleBrokerVersion,
    KafkaConfigurationError,
    KafkaError,
    MetadataEmptyBrokerList,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

TIMEOUT = 3.0  # seconds for one server to answer
ALERT = 0.5  # seconds after the handshake in which a server may demand a certificate
C = TypeVar("C")
CONNECT_TIMEOUT = 10.0  # seconds until an unresponsive broker is an error
REFUSED_TIMEOUT = 3.0  # seconds until it is an error that nobody listens; a broker may be starting
# seconds until a missing topic is an error; a busy broker takes a while to tell of a new one
TOPIC_TIMEOUT = 10.0
HANDSHAKE_GRACE = 1.0  # further seconds until a hanging connection is abandoned
PATIENCE = 1.0  # seconds without a connection until we check whether it is refused
POLL_TIMEOUT = 0.2  # seconds between checks of a deadline
# `fetch_max_wait_ms` for the embedded broker, which sees new records only after a part of this time. Apache Kafka sees
# them at once, whatever the wait.
EMBEDDED_FETCH_MS = 20


def refusal(servers: str | list[str], options: Mapping[str, Any]) -> str | None:
    """Return one line about a fault in the connection's security settings, or None if there is none.

    May take some seconds; call it after a client could not connect.

    kafka-python retries until its timeout, and then only reports that it could not bootstrap. One test connection
    distinguishes a wrong certificate, a port without TLS and a missing broker.

    Args:
        servers: `host:port`, or several in a list or separated by commas.
        options: of the client, such as `security_protocol`, `sasl_*` and `ssl_*`.
    """
    for server in _each(servers):
        with suppress(OSError, ValueError, KafkaError):  # nobody answers: the client's own error says so
            if (problem := _problem(_address(server), options)) is not None:
                return problem
    return None


def _each(servers: str | list[str]) -> list[str]:
    return servers.split(",") if isinstance(servers, str) else servers


def _address(server: str) -> tuple[str, int]:
    """Host and port of `host:port`, or of a host alone; raises ValueError."""
    host, colon, port = server.strip().rpartition(":")
    return (host.strip("[]"), int(port)) if colon else (port, 9092)


def _problem(address: tuple[str, int], options: Mapping[str, Any]) -> str | None:
    protocol = options.get("security_protocol", "PLAINTEXT")
    with socket.create_connection(address, TIMEOUT) as connection:
        if protocol in ("SSL", "SASL_SSL"):
            # without a context kafka-python creates one from other options
            context = options.get("ssl_context") or ssl.create_default_context(
                cafile=options.get("ssl_cafile")
            )
            return _tls_problem(connection, address[0], context, protocol, options)
        if _uses_tls(address):
            wanted = "SASL_SSL" if protocol == "SASL_PLAINTEXT" else "SSL or SASL_SSL"
            return f"the broker expects TLS (security protocol {wanted}), but the client uses {protocol}"
        return _login_problem(connection, options) if protocol == "SASL_PLAINTEXT" else None


def _uses_tls(address: tuple[str, int]) -> bool:
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address, TIMEOUT) as connection:
        try:
            anyone.wrap_socket(connection).close()
        except OSError:
            return False
    return True


def _tls_problem(
    connection: socket.socket, host: str, context: ssl.SSLContext, protocol: str, options: Mapping[str, Any]
) -> str | None:
    try:
        with context.wrap_socket(connection, server_hostname=host) as encrypted:
            if protocol == "SASL_SSL":
                return _login_problem(encrypted, options)
            encrypted.settimeout(ALERT)
            encrypted.recv(1)  # a broker that demands a certificate says so only after the handshake
    except ssl.SSLCertVerificationError as error:
        return f"the broker's certificate is not trusted: {error.verify_message}"
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        if "ALERT" in reason and "CERTIFICATE" in reason:
            return f"the broker requires a client certificate that it trusts ({reason})"
        return f"no TLS connection ({protocol}): {reason}; is this a port for TLS?"
    except ConnectionError:
        return f"no TLS connection ({protocol}): the server closed it; is this a port for TLS?"
    except TimeoutError:  # the broker waits for a request, as it should
        if protocol == "SSL":
            return "TLS works, but the client cannot connect: does the broker need a user (security protocol SASL_SSL)?"
    return None


def _login_problem(connection: socket.socket, options: Mapping[str, Any]) -> str | None:
    """Log in like a client; kafka-python may lose the broker's answer if the connection ends right after it."""
    name, user = options.get("sasl_mechanism"), options.get("sasl_plain_username")
    parser = KafkaProtocol(client_id="beliefstream")

    def ask(request: Any) -> Any:
        parser.send_request(request)
        connection.sendall(parser.send_bytes())
        while not (answers := parser.receive_bytes(received := connection.recv(65536))):
            if not received:
                raise ConnectionError
        return answers[0][1]

    handshake = ask(SaslHandshakeRequest(mechanism=name, version=1))
    if handshake.error_code:
        offered = ", ".join(handshake.mechanisms) or "none"
        return f"the broker does not accept SASL mechanism {name} here; it offers {offered}"
    mechanism = get_sasl_mechanism(name)(host="", **options)
    while not mechanism.is_done():
        answer = ask(SaslAuthenticateRequest(mechanism.auth_bytes(), version=0))
        if answer.error_code:
            return f"the broker does not accept the password of user {user!r} ({name})"
        mechanism.receive(answer.auth_bytes)
    return None


def _named(servers: str | list[str]) -> str:
    return servers if isinstance(servers, str) else ",".join(servers)


class BrokerUnavailable(ConnectionError):
    """No broker answers at the given servers, or not in time."""

    def __init__(self, servers: str | list[str], cause: object) -> None:
        self.servers = _named(servers)
        super().__init__(f"no Kafka broker answers at {self.servers}: {cause}")


class BrokerRefused(BrokerUnavailable):
    """A broker answers, but refuses the user, the password or the certificates."""

    def __init__(self, servers: str | list[str], cause: str) -> None:
        self.servers = _named(servers)
        ConnectionError.__init__(self, f"the Kafka broker at {self.servers} cannot be used: {cause}")


class TopicMissing(LookupError):
    """The broker has no such topic; clients never create topics."""

    def __init__(self, topic: str, servers: str | list[str]) -> None:
        super().__init__(
            f"there is no topic {topic!r} at {_named(servers)}, or this user may not see it; "
            "`beliefstream topics create` creates all topics"
        )
        self.topic = topic


class Closing:
    """Base of what is closed at the end of a `with` block."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Span(NamedTuple):
    """The offsets of a partition's first record and of its next one."""

    begin: int
    end: int


def connect(client: Any, servers: str | list[str], options: dict[str, Any]) -> Any:
    """Return a kafka-python client that has reached a broker.

    Args:
        client: `KafkaProducer`, `KafkaConsumer` or `KafkaAdminClient`.
        servers: `host:port`, or several in a list or separated by commas.
        options: further options of the class, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: none of the servers answers within 10 s (option `bootstrap_timeout_ms`), or after 3 s all
            still refuse a connection or have no known name.
        BrokerRefused: the broker refuses user, password or certificates; raised after a second or two.
        ValueError: kafka-python does not know an option, or two contradict each other.
    """
    opened: list[Any] = []

    def network(**configuration: Any) -> Any:
        opened.append(KafkaNetClient(**configuration))
        return opened[-1]

    timeout = connect_timeout(options)
    defaults = {"bootstrap_timeout_ms": timeout * 1000, "allow_auto_create_topics": False}
    known = {name: value for name, value in defaults.items() if name in client.DEFAULT_CONFIG}
    merged = {"bootstrap_servers": servers, **known, "kafka_client": network, **options}
    try:
        outcome = _begun(lambda: client(**merged))
        if not wait([outcome], min(timeout, PATIENCE)).done and (complaint := refusal(servers, options)):
            raise BrokerRefused(servers, complaint)
        if not wait([outcome], min(timeout, REFUSED_TIMEOUT - PATIENCE)).done and (cause := _cause(servers)):
            raise BrokerUnavailable(servers, cause)
        return _within(timeout + HANDSHAKE_GRACE, outcome)
    except BaseException as error:
        for connection in opened:  # otherwise its thread keeps trying to connect
            with suppress(RuntimeError):  # another thread cannot close a hanging producer
                connection.close()
        if isinstance(error, KafkaConfigurationError):
            raise ValueError(str(error)) from error
        if isinstance(error, (AuthorizationError, IncompatibleBrokerVersion, BrokerUnavailable)):
            raise  # it says what is wrong
        if isinstance(error, (KafkaError, OSError)):
            raise BrokerUnavailable(servers, error) from error
        raise


def _cause(servers: str | list[str]) -> str | None:
    """Why none of the servers can be reached: each refuses a connection, or its name is unknown; None otherwise."""
    causes = []
    for server in _each(servers):
        try:
            socket.create_connection(_address(server), TIMEOUT).close()
        except ConnectionRefusedError:
            causes.append("the connection is refused")
        except socket.gaierror as error:
            causes.append(f"the host's name cannot be resolved ({error.strerror})")
        except (OSError, ValueError):
            return None
        else:
            return None
    return "; ".join(dict.fromkeys(causes))


def _begun(call: Callable[[], C]) -> Future[C]:
    """Start a call in a separate thread: kafka-python may wait for a TLS handshake for ever."""
    outcome: Future[C] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="beliefstream-connect", daemon=True).start()
    return outcome


def _within(timeout: float, outcome: Future[C]) -> C:
    """Return the result; raises TimeoutError."""
    try:
        return outcome.result(timeout)
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout:g} s") from None


def require_known(options: dict[str, Any], *clients: Any) -> None:
    """Raise ValueError for options that one of the kafka-python classes does not know."""
    for client in clients:
        if unknown := sorted(options.keys() - client.DEFAULT_CONFIG.keys()):
            raise ValueError(f"{client.__name__} has no option {', '.join(unknown)}")


def connect_timeout(options: dict[str, Any]) -> float:
    """The seconds after which no answer is an error: 10, or the option `bootstrap_timeout_ms`."""
    return float(options.get("bootstrap_timeout_ms", CONNECT_TIMEOUT * 1000)) / 1000


def find_partitions(
    consumer: Any, topic: str, servers: str | list[str], timeout: float | None = None
) -> list[int]:
    """Return the partition numbers of a topic; waits for one that was created a moment ago.

    Raises:
        TopicMissing: the topic does not appear within `timeout` seconds, ten by default.
    """
    deadline = time.monotonic() + (TOPIC_TIMEOUT if timeout is None else timeout)
    while True:
        with suppress(MetadataEmptyBrokerList):  # a broker that has just started does not know even itself
            if found := consumer.partitions_for_topic(topic):
                return sorted(found)
        if time.monotonic() > deadline:
            raise TopicMissing(topic, servers)
        time.sleep(POLL_TIMEOUT)


class TopicReader(Closing):
    """A consumer without a group, which finds the offsets of a topic and reads all of it.

    Args:
        servers: `host:port`, or several in a list or separated by commas.
        topic: the topic.
        options: options of `KafkaConsumer`; others are ignored.

    Raises:
        BrokerUnavailable: none of the servers answers in time.
        TopicMissing: the broker has no such topic.
    """

    def __init__(self, servers: str | list[str], topic: str, options: dict[str, Any]) -> None:
        self._servers = servers
        self._connect_timeout = connect_timeout(options)
        shared = {name: value for name, value in options.items() if name in KafkaConsumer.DEFAULT_CONFIG}
        settings = {**shared, "group_id": None, "auto_offset_reset": "earliest", "enable_auto_commit": False}
        self._consumer: Any = connect(KafkaConsumer, servers, settings)
        try:
            numbers = find_partitions(self._consumer, topic, servers)
        except BaseException:
            self.close()
            raise
        self.partitions = [TopicPartition(topic, number) for number in numbers]
        self._consumer.assign(self.partitions)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def spans(self, timeout: float | None = None) -> dict[int, Span]:
        """Return the first and the end offset of each partition.

        The end is the high watermark sent with fetched records. The end that a broker reports may be within its last
        batch.

        Raises:
            BrokerUnavailable: the broker does not answer in time.
        """
        begins, ends = self._reported(timeout)
        ends |= self._high_watermarks(
            {place: end for place, end in ends.items() if begins[place] < end}, timeout
        )
        return {place.partition: Span(begins[place], ends[place]) for place in self.partitions}

    def end(self, partition: int) -> int:
        """Return the end offset of a partition: the high watermark, as in `spans`.

        Without the right to read, this is the end that the broker reports.

        Raises:
            BrokerUnavailable: the broker does not answer in time.
        """
        (place,) = (each for each in self.partitions if each.partition == partition)
        begins, ends = self._reported()
        if begins[place] == ends[place]:
            return ends[place]
        try:
            return self._high_watermarks({place: ends[place]})[place]
        except AuthorizationError:
            return ends[place]

    def read_all(self, timeout: float) -> list[Any]:
        """Read all records of the topic, at least up to its end at the time of the call.

        Raises:
            BrokerUnavailable: they could not be read in time.
        """
        deadline = time.monotonic() + timeout
        spans = self.spans(timeout)
        return list(self.read(spans, max(deadline - time.monotonic(), 0.0)))

    def read(self, spans: Mapping[int, Span], timeout: float, last: int | None = None) -> Iterator[Any]:
        """Yield the records of each partition up to its end in `spans`, or the `last` ones of each.

        Raises:
            BrokerUnavailable: they could not be read in time.
        """
        ends = {place: spans[place.partition] for place in self.partitions}
        ends = {place: span for place, span in ends.items() if span.end > span.begin}
        self._consumer.assign(list(ends))
        for place, span in ends.items():
            self._consumer.seek(place, span.begin if last is None else max(span.begin, span.end - last))
        deadline = time.monotonic() + timeout
        while any(self._consumer.position(place) < span.end for place, span in ends.items()):
            for found in self._poll(deadline).values():
                yield from found

    def _reported(self, timeout: float | None = None) -> tuple[dict[Any, int], dict[Any, int]]:
        limit = (timeout or self._connect_timeout) * 1000
        try:
            begins = self._consumer.beginning_offsets(self.partitions)
            return begins, self._consumer.end_offsets(self.partitions, timeout_ms=limit)
        except KafkaError as error:
            raise BrokerUnavailable(self._servers, error) from error

    def _high_watermarks(self, ends: Mapping[Any, int], timeout: float | None = None) -> dict[Any, int]:
        """The high watermarks of partitions with these ends; none of them is empty, and only they are fetched."""
        self._consumer.assign(list(ends))
        for place, end in ends.items():
            self._consumer.seek(place, end - 1)
        deadline = time.monotonic() + (timeout or self._connect_timeout)
        marks: dict[Any, int] = {}
        while len(marks) < len(ends):
            self._poll(deadline)
            known = {place: self._consumer.highwater(place) for place in ends}
            marks = {place: max(mark, ends[place]) for place, mark in known.items() if mark is not None}
        return marks

    def _poll(self, deadline: float) -> dict[Any, list[Any]]:
        if time.monotonic() > deadline:
            raise BrokerUnavailable(self._servers, "its records could not be read in time")
        found: dict[Any, list[Any]] = self._consumer.poll(timeout_ms=POLL_TIMEOUT * 1000)
        return found
