"""Settings of security: what clients get of them, and that secrets show nowhere."""

from __future__ import annotations

import logging
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from pydantic import SecretStr

from beliefstream.streams.kafka.security import Security, SecurityError
from beliefstream.streams.monitoring import logs
from beliefstream.streams.monitoring.bearer import may_read
from beliefstream.streams.settings import PROTECTION, SECRETS, Settings
from beliefstream.streams.settings.addresses import Address, MqttUrl
from tests.secure_broker import Certificates

PASSWORD, TOKEN = "a-password", "0123456789abcdef"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


def test_without_security_clients_and_faust_connect_plainly() -> None:
    assert Settings().client_options == {"security_protocol": "PLAINTEXT"}
    assert Settings().security.credentials() is None


def test_user_and_password_reach_clients_and_faust() -> None:
    settings = Settings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="anna",
        sasl_password=SecretStr(PASSWORD),
    )
    options = settings.client_options
    assert options == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "anna",
        "sasl_plain_password": PASSWORD,
    }
    assert PASSWORD not in f"{options}"
    credentials = settings.security.credentials()
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.username, credentials.password) == ("anna", PASSWORD)
    assert (credentials.protocol.value, credentials.mechanism.value) == ("SASL_PLAINTEXT", "PLAIN")


def test_certificates_make_a_context_that_trusts_the_given_authority_only(certificates: Certificates) -> None:
    security = Security("SSL", ca_file=certificates.authority, certificate_file=certificates.client)
    context = security.options()["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    assert len(context.get_ca_certs()) == 1
    assert isinstance(security.credentials(), SSLCredentials)


def test_an_encrypted_key_does_not_ask_at_the_terminal(certificates: Certificates, tmp_path: Path) -> None:
    key = tmp_path / "encrypted.pem"
    arguments = ("-topk8", "-in", str(certificates.client), "-out", str(key), "-passout", "pass:right")
    command = ["openssl", "pkcs8", *arguments]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no openssl")
    own: dict[str, Any] = {
        "certificate_file": certificates.client,
        "key_file": key,
        "ca_file": certificates.authority,
    }
    for password in (None, SecretStr("wrong")):
        with pytest.raises(SecurityError, match="SSL_CERTIFICATE_FILE"):
            Security("SSL", **own, key_password=password).options()
    assert Security("SSL", **own, key_password=SecretStr("right")).options()["ssl_context"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_comes_from_a_file_without_its_newline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{TOKEN}\n")
    variable = f"BELIEFSTREAM_{name.upper()}"
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    monkeypatch.setenv(variable, "")  # as a compose file passes one that is not set
    assert getattr(Settings(), name) == SecretStr(TOKEN)
    assert getattr(Settings(**{name: SecretStr("own")}), name) == SecretStr("own")  # type: ignore[arg-type]
    for content, complaint in ((b"\n", "is empty"), (b"\xff\xfe", "not text")):
        file.write_bytes(content)
        with pytest.raises(SecurityError, match=f"{variable}_FILE.*{complaint}"):
            Settings()
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SecurityError, match=f"{variable}_FILE: .*No such file"):
        Settings()
    monkeypatch.setenv(variable, TOKEN)
    with pytest.raises(SecurityError, match=f"{variable}: set either this or {variable}_FILE"):
        Settings()


def test_a_secret_comes_from_a_file_that_the_file_of_variables_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(TOKEN)
    (tmp_path / ".env").write_text(f"BELIEFSTREAM_WEB_TOKEN_FILE={tmp_path}/secret\n")
    monkeypatch.chdir(tmp_path)
    assert Settings().token == SecretStr(TOKEN)
    monkeypatch.setenv("BELIEFSTREAM_WEB_TOKEN_FILE", "")
    assert Settings().token is None


def test_secrets_show_nowhere_but_in_the_environment_of_a_child() -> None:
    secrets = {name: SecretStr(f"{name}-0123456789") for name in SECRETS}
    settings = Settings(**secrets)  # type: ignore[arg-type]
    shown = (
        f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()} {settings.security}"
    )
    assert not any(secret.get_secret_value() in shown for secret in secrets.values())
    passed = settings.environment()
    assert all(passed[f"BELIEFSTREAM_{name.upper()}"] == f"{name}-0123456789" for name in SECRETS)


def test_the_environment_of_a_child_makes_equal_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = Settings(
        sasl_username="anna",
        sasl_password=SecretStr(PASSWORD),
        ssl_ca_file=tmp_path,
        fetch_high_watermark=True,
        topics={"observations": "seen", "dead_letters": "refused"},
        web_address=Address("::1", 8000),
        mqtt_url=MqttUrl("broker.example", 8884, "a@b", tls=True),
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == given


def test_absent_secrets_of_a_parent_are_absent_in_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration's worker must not take the password of another deployment."""
    monkeypatch.setenv("BELIEFSTREAM_WEB_TOKEN", TOKEN)
    own = {name: Settings.model_fields[name].default for name in PROTECTION}
    child = Settings(**own).environment()
    monkeypatch.setenv("BELIEFSTREAM_GATEWAY_TOKEN_FILE", "nowhere")
    for name, value in child.items():
        monkeypatch.setenv(name, value)
    assert Settings().token is Settings().token_of_gateway is None


@pytest.mark.parametrize("token", ["short", "with a space 0123456", "with\nnewline-0123456", "ü" * 20])
def test_a_token_that_a_header_cannot_carry_or_that_is_short_is_refused(token: str) -> None:
    with pytest.raises(SecurityError, match="BELIEFSTREAM_WEB_TOKEN") as refused:
        _ = Settings(web_token=SecretStr(token)).token
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "may"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer \udcff\u00e9", False),  # as aiohttp decodes bytes beyond ASCII
        ("", False),
        (None, False),
    ],
)
def test_the_token_and_no_other_opens_the_page(header: str | None, may: bool) -> None:
    assert may_read(header, SecretStr(TOKEN)) is may
    assert may_read(header, None)


def test_a_wrong_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing cannot be tested soundly on a shared machine; that the right function decides can."""
    monkeypatch.setattr("beliefstream.streams.monitoring.bearer.hmac.compare_digest", lambda *_: True)
    assert may_read("Bearer whatever", SecretStr(TOKEN))


def test_web_endpoints_listen_on_this_machine_unless_told() -> None:
    assert Settings().web_address.host == "127.0.0.1"


HOSTILE = "a\x1b[2J\r\nINFO forged line\x07\x9b31m\u202eb"


@pytest.mark.parametrize("style", ["json", "console"])
def test_control_characters_are_escaped_in_the_log(style: str) -> None:
    program = (
        "import logging, sys, structlog; from beliefstream.streams.monitoring import logs; logs.configure(sys.argv[1]);"
        "structlog.get_logger('streams').warning('event ' + sys.argv[2], key=sys.argv[2], raw=sys.argv[2].encode());"
        "logging.getLogger('aiokafka').error('said %s', sys.argv[2])"
    )
    ended = subprocess.run([sys.executable, "-c", program, style, HOSTILE], capture_output=True, check=True)
    text = re.sub(r"\x1b\[[0-9;]*m", "", ended.stderr.decode())  # the console's own colours
    assert len(text.splitlines()) == 2, text
    assert all(character.isprintable() or character == "\n" for character in text), repr(text)


def test_at_debug_the_loggers_that_write_requests_stay_at_info() -> None:
    program = (
        "import logging; from beliefstream.streams.monitoring import logs; logs.configure('json', 'debug');"
        "print([logging.getLogger(n).getEffectiveLevel() for n in"
        " ('kafka.net.connection', 'kafka.protocol.parser', 'aiokafka.conn', 'aiokafka.client', 'faust.app')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    levels = [logging.INFO] * len(logs.WITH_PASSWORDS) + [logging.DEBUG] * 2
    assert ended.stdout.strip() == str(levels)
