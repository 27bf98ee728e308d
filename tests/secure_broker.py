"""Apache Kafka as in production: TLS and SASL at its doors, and an authoriser that denies what is not allowed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from beliefstream.streams.kafka.security import Security
from beliefstream.streams.local.broker import GuardedProcess, free_port, wait_until_answers
from tests.brokers import START_TIMEOUT, STOP_TIMEOUT, KafkaNode

ADMIN = "admin"
USERS = (ADMIN, "device", "consumer", "gateway", "bridge", "operator", "worker")


@dataclass(frozen=True)
class Certificates:
    """PEM files: of an authority; a broker's and a client's that it has signed; of another authority."""

    authority: Path
    broker: Path  # and its key
    client: Path  # and its key
    stranger: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """New ones, the broker's for 127.0.0.1."""
        made = cls(*(directory / f"{name}.pem" for name in ("authority", "broker", "client", "stranger")))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(made.authority)
        _write(authority.issue_cert("127.0.0.1"), made.broker)
        _write(authority.issue_cert("client@beliefstream.test", common_name="worker"), made.client)
        trustme.CA().cert_pem.write_to_path(made.stranger)
        return made


def _write(issued: trustme.LeafCert, path: Path) -> None:
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # what Java reads
    path.write_bytes(encoded + issued.cert_chain_pems[0].bytes())


class SecureKafkaNode(KafkaNode):
    """A Kafka node that asks for a user's password by TLS, and at another port for a client's certificate.

    Every one of `USERS` has the same password for PLAIN and for SCRAM-SHA-512. The authoriser allows `admin` everything
    and the others nothing.

    Attributes:
        certificate_servers: the port for certificates, as `host:port`.
    """

    def __init__(self) -> None:
        self.certificate_port = free_port()
        self.passwords = {user: f"secret-{uuid4().hex}" for user in USERS}
        super().__init__()

    @property
    def certificate_servers(self) -> str:
        return f"127.0.0.1:{self.certificate_port}"

    def security(self, user: str = ADMIN, **changes: Any) -> Security:
        """What a client of that user connects with, but for the changes."""
        chosen = {
            "protocol": "SASL_SSL",
            "username": user,
            "password": SecretStr(self.passwords[user]),
            "ca_file": self.certificates.authority,
        }
        return Security(**{**chosen, **changes})

    def start(self) -> Self:
        """Starts the node and returns when it answers the administrator."""
        assert self._process is None, "already started"
        output = (self.directory / "server.log").open("a+b")
        command = self._java("kafka.Kafka", str(self._properties))
        self._process = GuardedProcess(command, grace=STOP_TIMEOUT, output=output)
        wait_until_answers(self.bootstrap_servers, START_TIMEOUT, self._process, **self.security().options())
        return self

    def _format_storage(self) -> None:
        scram = [f"SCRAM-SHA-512=[name={user},password={word}]" for user, word in self.passwords.items()]
        added = [part for each in scram for part in ("--add-scram", each)]
        self._format(uuid4().hex[:22], *added)

    def _configuration(self) -> str:
        self.certificates = Certificates.make(self.directory)
        users = " ".join(f'user_{user}="{word}"' for user, word in self.passwords.items())
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        own = f'username="{ADMIN}" password="{self.passwords[ADMIN]}"'
        settings = {
            "listeners": f"SASL_SSL://127.0.0.1:{self.port},SSL://127.0.0.1:{self.certificate_port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"SASL_SSL://127.0.0.1:{self.port},SSL://127.0.0.1:{self.certificate_port}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{plain} required {own} {users};",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{scram} required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.certificates.broker,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.certificates.authority,
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([a-z]+).*$/$1/,DEFAULT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # ANONYMOUS is the broker at its own controller's port, which is open to this machine only
            "super.users": f"User:{ADMIN};User:ANONYMOUS",
        }
        replaced = tuple(f"{name}=" for name in settings)
        kept = [line for line in super()._configuration().splitlines() if not line.startswith(replaced)]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in settings.items())]) + "\n"
