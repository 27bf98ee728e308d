"""`beliefstream sensors fit` of the topic, and `--apply`, on a real broker."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytest
from kafka import KafkaProducer

from beliefstream.schemas import Unusable
from beliefstream.streams.cli.definitions.sensors_apply import publish
from beliefstream.streams.cli.definitions.sensors_fit import objections
from beliefstream.streams.cli.setup import CommandError
from beliefstream.streams.client import ObservationProducer, Registry
from beliefstream.streams.fitting import fit as fitting
from beliefstream.streams.fitting.evidence import Definitions
from beliefstream.streams.fitting.factors import Parameter
from beliefstream.streams.fitting.fit import FITTED, Fit, Trial
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.fitting.test_fit import DENSITY, LASTS, simulated, stated

LASTING = stated(0.1, persistent_deviation=0.3, correlation_time=LASTS)


@pytest.fixture
def registry(embedded_broker: EmbeddedNode, topics: Names) -> Registry:
    return Registry(embedded_broker.bootstrap_servers, topics.topics.sensors, topics.topics.models)


def present(registry: Registry) -> Definitions:
    return Definitions(tuple(registry.sensors().values()), tuple(registry.models().values()))


def found(ratio: float | None = 1.0, apart: float = -1.0, noise: float = 1.0) -> Fit:
    trials = Trial("as stated", -2.0, -2.0), Trial(FITTED, -1.0, apart), Trial("others", -3.0, -3.0)
    return Fit(LASTING, {Parameter("position", "standard_deviation"): noise}, None, trials, ratio)


def test_the_topic_is_fitted_applied_and_undone(
    run: Run,
    registry: Registry,
    embedded_broker: EmbeddedNode,
    topics: Names,
    small_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))
    monkeypatch.setattr(fitting, "EVALUATIONS", 15)  # a rough fit is one
    before = stated(density=DENSITY / 10)
    silent = before.sensors[0].model_copy(update={"sensor": "silent"})
    registry.define([*before.sensors, silent], before.models)
    topic = topics.topics.observations
    with ObservationProducer(embedded_broker.bootstrap_servers, topic) as producer:
        for each in simulated(300, seed=2):
            producer.send_message(each)
    raw = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    raw.send(topic, key=b"cart", value=b"{")
    raw.close()
    arguments = ("--entity", "cart", "--limit", "290", "--share", "0.7")
    result = run("sensors", "fit", *arguments, "--picture", "residuals.png", "--apply")
    assert result.status == 0, result.err
    assert f"{topic}: 301 records, 290 taken" in result.err
    assert "10 older observations left out (--limit 290)" in result.err
    assert "1 cannot be used, the first at" in result.err
    assert (tmp_path / "residuals.png").read_bytes().startswith(b"\x89PNG")
    after = {each.sensor: each for each in registry.sensors().values()}
    assert result.out.splitlines() == [after[each.sensor].to_json().decode() for each in before.sensors]
    assert after["silent"] == silent
    assert after["left"] != before.sensors[0]
    assert registry.models()["cart"] != before.models[0]
    undo = [line for line in result.err.splitlines() if line.startswith("beliefstream ")]
    for line in undo:
        assert run(*shlex.split(line)[1:]).status == 0
    assert len(undo) == 2
    assert registry.sensors() == {each.sensor: each for each in (*before.sensors, silent)}
    assert registry.models() == {"cart": before.models[0]}


def test_what_a_fit_warns_of_is_applied_by_force_alone(registry: Registry) -> None:
    registry.define(*stated())
    with pytest.raises(
        CommandError, match="not applied: too certain; --apply-anyway applies it all the same"
    ):
        publish(stated(), LASTING, ["too certain"], force=False, brokers=None)
    assert present(registry) == stated()
    publish(stated(), LASTING, ["too certain"], force=True, brokers=None)
    assert present(registry) == LASTING


def test_definitions_that_changed_since_the_fit_began_stay(registry: Registry) -> None:
    registry.define(*stated(0.5))
    with pytest.raises(
        CommandError, match="now defined otherwise: sensor left, sensor right; --apply-anyway"
    ):
        publish(stated(), LASTING, [], force=False, brokers=None)
    assert present(registry) == stated(0.5)


def test_new_definitions_are_undone_by_removing_them(
    registry: Registry, embedded_broker: EmbeddedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = embedded_broker.bootstrap_servers
    publish(stated(), LASTING, [], force=False, brokers=servers)
    assert present(registry) == LASTING
    said = capsys.readouterr().err
    assert f"beliefstream sensors remove left right --brokers {servers}" in said
    assert f"beliefstream models remove cart --brokers {servers}" in said


def test_what_workers_would_refuse_is_not_set(run: Run, registry: Registry) -> None:
    """Other numbers of an error that sensors of one device share."""

    def shared(definitions: Definitions) -> Definitions:
        sensors = tuple(each.model_copy(update={"device": "box"}) for each in definitions.sensors)
        return Definitions(sensors, definitions.models)

    publish(shared(stated()), shared(LASTING), [], force=False, brokers=None)
    other = shared(stated(0.2, persistent_deviation=0.2, correlation_time=LASTS))
    with pytest.raises(Unusable, match=r"has a deviation of .* for box/x"):
        publish(shared(LASTING), other, [], force=True, brokers=None)
    assert_one_line(run("sensors", "set", other.sensors[0].to_json().decode()), "for box/x")
    assert present(registry) == shared(LASTING)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (found(), []),
        (found(None), []),
        (found(1.6), ["too certain"]),
        (found(math.nan), ["too certain"]),
        (found(apart=-2.0), ["no better"]),
        (found(1.6, -math.inf), ["no better", "too certain"]),
        (found(noise=3.5), ["position: the stated deviation is too small"]),
    ],
)
def test_a_fit_warns_of_what_is_against_its_definitions(fit: Fit, said: list[str]) -> None:
    warned = objections(fit)
    assert len(warned) == len(said)
    assert all(word in line for word, line in zip(said, warned, strict=True))


def test_options_of_other_sources_are_unknown(run: Run) -> None:
    assert_one_line(run("sensors", "correct", "gps", "--apply"), "No such option: --apply")
    assert_one_line(run("sensors", "fit", "gps"), "unexpected extra argument(s) (gps)")
    assert_one_line(run("sensors", "fit", "--map", "time=t"), "No such option: --map")
    assert_one_line(run("sensors", "fit-files", "log.csv", "--since", "2h"), "No such option: --since")
