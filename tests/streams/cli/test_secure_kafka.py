"""Commands and workers on a Kafka that asks who they are, with the ACLs of deploy/SECURITY.md and no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import TopicAuthorizationFailedError

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.cli.doctor import records
from beliefstream.streams.kafka.topics import TopicNames, missing_rights
from beliefstream.streams.local.broker import free_port
from tests.conftest import eventually
from tests.http_answers import ask_if_there
from tests.secure_broker import SecureKafkaNode
from tests.streams.cli.acls import allow, documented
from tests.streams.cli.conftest import Run, assert_one_line, set_environment
from tests.streams.cli.examples import BEACON, WALKER
from tests.streams.workers import START_TIMEOUT

pytestmark = pytest.mark.kafka
PATIENCE = 60.0  # seconds; a worker is ready in 10 s on an idle machine
REFUSED_WITHIN = 20.0  # seconds; 1 to 3 on an idle machine, and Python's imports
ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from beliefstream.streams.cli import main; main()"]
TOKEN = "a-token-of-the-tests-0123456789"
NAMES = TopicNames()


@dataclass
class Deployment:
    """A node, and all that commands and workers on it have written."""

    node: SecureKafkaNode
    directory: Path
    weights: Path
    written: list[str] = field(default_factory=list)

    def variables(self, user: str, **changes: str) -> dict[str, str]:
        """The environment of that user's commands; changes by the setting's name."""
        password = self.directory / f"{user}.password"
        password.write_text(f"{self.node.passwords[user]}\n")
        settings = {
            "brokers": self.node.bootstrap_servers,
            "security_protocol": "SASL_SSL",
            "sasl_username": user,
            "sasl_password_file": str(password),
            "ssl_ca_file": str(self.node.certificates.authority),
            "partitions": "2",
            "log_level": "debug",
        }
        return {f"BELIEFSTREAM_{name.upper()}": value for name, value in {**settings, **changes}.items()}

    def command(self, user: str, *arguments: str, **changes: str) -> str:
        """Standard output of a command that succeeds, run with debugging on."""
        ended = subprocess.run(
            [*COMMAND, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.variables(user, **changes)},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,  # some wait themselves for so long
        )
        self.written += [ended.stdout, ended.stderr]
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def worker(self, **changes: str) -> Worker:
        return Worker(self, **changes)


class Worker:
    """A worker's process, as a context manager; left by SIGTERM."""

    def __init__(self, deployment: Deployment, **changes: str) -> None:
        self.port = free_port()
        self.log = deployment.directory / f"worker-{self.port}.log"
        self._deployment = deployment
        own = {
            "web_address": f"127.0.0.1:{self.port}",
            "web_token": TOKEN,
            "weights": str(deployment.weights),
            "session_timeout": "6",
            "logs": "json",
        }
        self._variables = deployment.variables("worker", **{**own, **changes})

    def __enter__(self) -> Worker:
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, "worker"],
                env={**os.environ, "PYTHONPATH": str(ROOT), **self._variables},
                cwd=self._deployment.directory,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self._deployment.written.append(self.log.read_text(errors="replace"))

    def get(self, path: str, authorization: str | None = None) -> int:
        """The status of the answer; 0 if there is none."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if authorization is not None:
            request.add_header("Authorization", authorization)
        return ask_if_there(request).status

    def wait_until_ready(self) -> None:
        eventually(lambda: self.get("/readyz") == 200, START_TIMEOUT, "the worker is ready")


@pytest.fixture(scope="module")
def deployment(small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with SecureKafkaNode() as node:
        made = Deployment(node, tmp_path_factory.mktemp("secure"), small_weights)
        made.command("admin", "topics", "create")
        allow(node, documented())
        worker = node.security("worker").options()
        eventually(
            lambda: not missing_rights(node.bootstrap_servers, NAMES, "beliefstream", **worker),
            PATIENCE,
            "the rights are in force",
        )
        yield made


@pytest.mark.timeout(360)  # two workers, one after the other, and seven commands
def test_all_works_with_the_documented_rights_and_no_secret_is_written(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, deployment.variables("operator", sasl_mechanism="PLAIN", log_level="info"))
    for command in (("topics", "check"), ("models", "set", WALKER), ("sensors", "set", BEACON)):
        assert (done := run(*command)).status == 0, done.err
    with deployment.worker() as worker:
        worker.wait_until_ready()
        deployment.command("device", "observe", "mower", "beacon-1", "4.5", "--id", "first", "--no-wait")
        read = ("posteriors", "--from-beginning", "--timeout", str(PATIENCE), "--count")
        first = parse(Posterior, deployment.command("consumer", *read, "1").encode())
        assert (first.entity, first.applied) == ("mower", ("first",))
        assert_token_is_asked_for(worker)
        seen = ("watch", "--duration", "3", "--url", f"http://127.0.0.1:{worker.port}")
        variables = deployment.variables("consumer", log_level="info")
        set_environment(monkeypatch, variables | {"BELIEFSTREAM_WEB_TOKEN": TOKEN})
        assert "observations/s" in run(*seen).out
        set_environment(monkeypatch, {"BELIEFSTREAM_WEB_TOKEN": ""})
        assert "401 Unauthorized (BELIEFSTREAM_WEB_TOKEN)" in run(*seen).out
    # another worker, with a certificate instead, recovers the belief and goes on
    own = {
        "brokers": deployment.node.certificate_servers,
        "security_protocol": "SSL",
        "sasl_password_file": "",
        "ssl_certificate_file": str(deployment.node.certificates.client),
        "fetch_high_watermark": "true",  # the reader of its own, too
    }
    with deployment.worker(**own) as worker:
        worker.wait_until_ready()
        deployment.command(
            "device", "observe", "mower", "beacon-1", "4.6", "--no-wait", sasl_mechanism="PLAIN"
        )
        lines = deployment.command("consumer", *read, "2").splitlines()
        assert [json.loads(line)["sequence"] for line in lines] == [1, 2]
    settings = deployment.command("worker", "settings", sasl_password_file="", sasl_password="pass-" * 4)
    assert "BELIEFSTREAM_SASL_PASSWORD" in settings
    written = "".join(deployment.written)
    assert '"debug"' in written and "DEBUG:kafka" in written  # it is all there, and yet
    for secret in (*deployment.node.passwords.values(), TOKEN, "pass-" * 4):
        assert secret not in written


def assert_token_is_asked_for(worker: Worker) -> None:
    assert worker.get("/metrics") == 401
    assert worker.get("/metrics", "Bearer another-token-0123456789") == 401
    assert worker.get("/metrics", f"Basic {TOKEN}") == 401
    assert worker.get("/metrics", f"Bearer {TOKEN}") == 200
    assert (worker.get("/healthz"), worker.get("/readyz")) == (200, 200)
    assert {worker.get(path) for path in ("/router/", "/table/", "/graph/", "/stats/")} == {404}


WRITERS = {
    "device": {NAMES.observations},
    "consumer": set(),
    "gateway": {NAMES.observations, NAMES.priors},
    "bridge": {NAMES.observations, NAMES.dead_letters},
    "operator": {NAMES.sensors, NAMES.models, NAMES.priors},
    "worker": {NAMES.posteriors, NAMES.dead_letters, NAMES.sensor_health, NAMES.beliefs_changelog},
}


@pytest.mark.parametrize("user", WRITERS)
def test_each_user_writes_to_its_topics_only(deployment: Deployment, user: str) -> None:
    """A tombstone without effect is sent to every topic."""
    producer = KafkaProducer(
        bootstrap_servers=deployment.node.bootstrap_servers,
        enable_idempotence=False,  # or the first refusal would be the last
        **deployment.node.security(user).options(),
    )
    written = set()
    try:
        for name in NAMES:
            try:
                producer.send(name, key=b"nobody", value=None).get(10)
                written.add(name)
            except TopicAuthorizationFailedError:
                pass
    finally:
        producer.close()
    assert written == WRITERS[user]


REFUSALS = {
    "a wrong password": (
        {"sasl_password_file": "", "sasl_password": "wrong-one"},
        "password of user 'operator'",
    ),
    "an untrusted certificate": ({"ssl_ca_file": "STRANGER"}, "certificate is not trusted"),
    "no TLS": ({"security_protocol": "PLAINTEXT"}, "expects TLS"),
    "no user": ({"security_protocol": "SSL"}, "need a user"),
    "another mechanism": ({"sasl_mechanism": "SCRAM-SHA-256"}, "PLAIN, SCRAM-SHA-512"),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("command", [("observe", "mower", "beacon-1", "1"), ("worker",)], ids=" ".join)
def test_what_does_not_fit_is_told_in_a_line_and_soon(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, command: tuple[str, ...]
) -> None:
    changes, told = REFUSALS[name]
    paths = {"STRANGER": str(deployment.node.certificates.stranger)}
    set_environment(
        monkeypatch,
        deployment.variables(
            "operator", log_level="info", **{key: paths.get(value, value) for key, value in changes.items()}
        ),
    )
    began = time.monotonic()
    result = run(*command)
    assert time.monotonic() - began < REFUSED_WITHIN
    assert_one_line(result, deployment.node.bootstrap_servers, told)
    assert "wrong-one" not in result.err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sasl_password_file": "/nowhere"}, "SASL_PASSWORD_FILE: /nowhere: No such file"),
        ({"sasl_password": "twice-given"}, "SASL_PASSWORD: set either this or"),
        ({"sasl_password_file": ""}, "SASL_PASSWORD or"),
        ({"sasl_username": ""}, "SASL_USERNAME"),
        ({"ssl_ca_file": "/nowhere"}, "SSL_CA_FILE: /nowhere"),
        ({"ssl_ca_file": __file__}, "SSL_CA_FILE"),
        ({"ssl_certificate_file": __file__}, "SSL_CERTIFICATE_FILE"),
        (
            {"security_protocol": "TLS", "sasl_password_file": "", "sasl_password": "unseen"},
            "SECURITY_PROTOCOL",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    deployment: Deployment,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    told: str,
) -> None:
    set_environment(monkeypatch, deployment.variables("operator", **{"log_level": "info", **changes}))
    result = run("topics", "check")
    assert_one_line(result, f"BELIEFSTREAM_{told}")
    assert not any(secret in result.err for secret in ("twice-given", "unseen"))


LACKING = [
    ("device", "No right to WRITE", "on the topic 'posteriors'", "on the group 'beliefstream'"),
    ("operator", "No right to READ on the topic 'observations'", "on the group 'beliefstream'"),
]


@pytest.mark.parametrize(("user", "told"), [(user, told) for user, *told in LACKING])
def test_a_worker_that_lacks_rights_names_them_and_ends(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch, user: str, told: list[str]
) -> None:
    set_environment(monkeypatch, deployment.variables(user, log_level="info"))
    assert_one_line(run("worker"), *told)


def test_topics_that_a_user_may_not_see_are_told(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, deployment.variables("device", log_level="info"))
    result = run("topics", "check")
    assert result.status == 1
    assert "'models' may not be seen by this user" in result.out


SEEN = {
    "device": [
        "topics: The topic 'sensors' may not be seen by this user",
        "models: there is no topic 'models'",
    ],
    "operator": ["topics: all exist, 2 partitions"],
    "worker": ["topics: all exist, 2 partitions", "group: 'beliefstream' has"],
}


@pytest.mark.parametrize("user", SEEN)
def test_the_doctor_says_what_a_user_may_not_see(
    deployment: Deployment, run: Run, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    options = deployment.node.security("device").options()
    producer = KafkaProducer(bootstrap_servers=deployment.node.bootstrap_servers, **options)
    producer.send(NAMES.observations, key=b"nobody", value=None).get(10)  # without effect
    producer.close()
    monkeypatch.setattr(records, "PATIENCE", 1.0)
    set_environment(monkeypatch, deployment.variables(user, log_level="info"))
    told = " ".join(run("doctor", "--url", "http://127.0.0.1:1").out.split())
    hidden = "skipped partitioner, clocks, group: this user may not read records and offsets"
    assert (hidden in told) == (user != "worker"), told
    assert all(each in told for each in SEEN[user]), told
