"""TLS and SASL settings for kafka-python, aiokafka and Faust.

Passwords stay in `SecretStr`s until a connection is made, and print as stars. This module logs nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

if TYPE_CHECKING:
    from faust.auth import Credentials

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
PREFIX = "BELIEFSTREAM_"


class Password(str):
    """A password for clients; in a printed configuration it shows as stars."""

    def __repr__(self) -> str:
        return "'**********'"


class SecurityError(ValueError):
    """A certificate, a key or a secret cannot be used; the message names the variable, never the secret."""


@dataclass(frozen=True)
class Security:
    """Security settings of a connection to a broker.

    Attributes:
        protocol: Kafka's `security.protocol`.
        mechanism: the SASL mechanism.
        username, password: for SASL, which needs both.
        ca_file: certificates (PEM) of the authorities that signed the brokers'; if absent, those of the system.
        certificate_file, key_file: client certificate and key (PEM), for brokers that require one; one file may have
            both.
        key_password: the password of the key, if it is encrypted.
    """

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def authenticated(self) -> bool:
        """Whether user name and password are sent."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def options(self) -> dict[str, Any]:
        """Return the options for clients of kafka-python and aiokafka, which use the same names.

        Raises:
            SecurityError: a file cannot be used, or user or password are missing.
        """
        chosen: dict[str, Any] = {"security_protocol": self.protocol}
        if self.encrypted:
            chosen["ssl_context"] = self._context()
        if self.authenticated:
            chosen["sasl_mechanism"] = self.mechanism
            chosen["sasl_plain_username"], chosen["sasl_plain_password"] = self._user()
        return chosen

    def credentials(self) -> Credentials | None:
        """Return the same for Faust; None for plain connections. Raises as `options`."""
        from faust.auth import SASLCredentials, SSLCredentials

        context = self._context() if self.encrypted else None
        if self.authenticated:
            name, password = self._user()
            return SASLCredentials(
                username=name, password=password, ssl_context=context, mechanism=self.mechanism
            )
        return None if context is None else SSLCredentials(context)

    def _user(self) -> tuple[str, str]:
        if not self.username:
            raise SecurityError(f"{PREFIX}SASL_USERNAME: {self.protocol} needs a user name")
        if self.password is None:
            names = f"{PREFIX}SASL_PASSWORD or {PREFIX}SASL_PASSWORD_FILE"
            raise SecurityError(f"{names}: {self.protocol} needs a password")
        return self.username, Password(self.password.get_secret_value())

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.ca_file is not None:
            # trusts this file only, not the system's certificates
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load(f"{PREFIX}SSL_CA_FILE", self.ca_file, lambda path: context.load_verify_locations(path))
        if self.certificate_file is not None:
            readable(f"{PREFIX}SSL_KEY_FILE", self.key_file or self.certificate_file)
            _load(
                f"{PREFIX}SSL_CERTIFICATE_FILE",
                self.certificate_file,
                lambda path: context.load_cert_chain(path, self.key_file, self._key_password),
            )
        return context

    def _key_password(self) -> str:
        # Without a callback OpenSSL asks at the terminal, and a worker would wait for an answer.
        return "" if self.key_password is None else self.key_password.get_secret_value()


def readable(variable: str, file: Path) -> bytes:
    """Return the content of the file that a variable names; raises SecurityError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SecurityError(f"{variable}: {file}: {error.strerror}") from None


def _load(variable: str, file: Path, load: Callable[[Path], object]) -> None:
    readable(variable, file)
    try:
        load(file)
    except (ssl.SSLError, ValueError) as error:  # ValueError: a password of more than 1024 bytes
        reason = getattr(error, "reason", None) or error
        raise SecurityError(f"{variable}: {file} cannot be used: {reason}") from None
