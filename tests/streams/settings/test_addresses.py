"""Addresses as settings state them."""

from __future__ import annotations

import pytest

from beliefstream.streams.settings.addresses import Address, MqttUrl


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Address("0.0.0.0", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("host:1", Address("host", 1)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert Address.of(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":80", "host:", "host:http", "::1:80", "[host]:80", "host:65536"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        Address.of(text)


@pytest.mark.parametrize(
    ("text", "url", "written"),
    [
        ("mqtt://broker", MqttUrl("broker", 1883), "mqtt://broker:1883"),
        ("mqtts://broker/", MqttUrl("broker", 8883, tls=True), "mqtts://broker:8883"),
        ("mqtt://a%40b@[::1]:9", MqttUrl("::1", 9, "a@b"), "mqtt://a%40b@[::1]:9"),
    ],
)
def test_an_mqtt_url_is_read_and_written(text: str, url: MqttUrl, written: str) -> None:
    assert MqttUrl.of(text) == url
    assert str(url) == written
    assert MqttUrl.of(written) == url


@pytest.mark.parametrize(
    "text", ["", "broker:1883", "http://broker", "mqtt://", "mqtt://b/t", "mqtt://b:99999"]
)
def test_what_is_no_mqtt_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected mqtt://user@host:port"):
        MqttUrl.of(text)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="BELIEFSTREAM_MQTT_PASSWORD") as refused:
        MqttUrl.of("mqtts://bridge:hunter2@broker")
    assert "hunter2" not in str(refused.value)
