"""Addresses of services, as settings state them: `host:port`, and the URL of an MQTT broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883}  # by scheme; mqtts is TLS


@dataclass(frozen=True)
class Address:
    """A host and a port on which a service listens; port 0 is any that is free."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str | Self) -> Self:
        """Parse `host:port`, or `[host]:port` for IPv6; raises ValueError that shows the text."""
        if not isinstance(text, str):
            return text
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not colon or not bare or (":" in bare) != (host != bare) or not _is_port(port):
            raise ValueError(f"expected host:port, such as 127.0.0.1:8080, got {text!r}")
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class MqttUrl:
    """An MQTT broker: where it is, whether it is reached by TLS, and the user name there, if any."""

    host: str
    port: int
    username: str = ""
    tls: bool = False

    @classmethod
    def of(cls, text: str | Self) -> Self:
        """Parse `mqtt://user@host:port`, or `mqtts://...` for TLS.

        Raises ValueError that shows the text, unless there is a password in it.
        """
        if not isinstance(text, str):
            return text
        expected = "expected mqtt://user@host:port, or mqtts:// for TLS"
        try:
            url = urlsplit(text)
            if url.password is not None:
                raise ValueError("a password has a variable of its own, BELIEFSTREAM_MQTT_PASSWORD")
            port = url.port
        except ValueError as error:
            raise ValueError(f"{expected}: {error}") from None
        if url.scheme not in MQTT_PORTS or not url.hostname or _more(url):
            raise ValueError(f"{expected}, got {text!r}")
        return cls(
            url.hostname, port or MQTT_PORTS[url.scheme], unquote(url.username or ""), url.scheme == "mqtts"
        )

    @property
    def place(self) -> str:
        """The broker's `host:port`."""
        return str(Address(self.host, self.port))

    def __str__(self) -> str:
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{self.place}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 65535


def _more(url: SplitResult) -> bool:
    """Whether the URL has parts that say nothing about a broker."""
    return bool(url.path.strip("/") or url.query or url.fragment)
