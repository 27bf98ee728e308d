"""Finds out why a connection failed, and says what to change.

kafka-python retries until its timeout, and then only reports that it could not bootstrap. One test connection
distinguishes a wrong certificate, a port without TLS and a missing broker.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kafka.errors import KafkaError
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

TIMEOUT = 3.0  # seconds for one server to answer
ALERT = 0.5  # seconds after the handshake in which a server may demand a certificate


def refusal(servers: str | list[str], options: Mapping[str, Any]) -> str | None:
    """Return one line about a fault in the connection's security settings, or None if there is none.

    May take some seconds; call it after a client could not connect.

    Args:
        servers: `host:port`, or several in a list or separated by commas.
        options: of the client, such as `security_protocol`, `sasl_*` and `ssl_*`.
    """
    for server in servers.split(",") if isinstance(servers, str) else servers:
        with suppress(OSError, ValueError, KafkaError):  # nobody answers: the client's own error says so
            if (problem := _problem(server.strip(), options)) is not None:
                return problem
    return None


def _problem(server: str, options: Mapping[str, Any]) -> str | None:
    host, _, port = server.rpartition(":")
    address, protocol = (host.strip("[]"), int(port)), options.get("security_protocol", "PLAINTEXT")
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
