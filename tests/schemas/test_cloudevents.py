from __future__ import annotations

from beliefstream.schemas import cloudevents


def test_headers_are_those_of_the_binary_mode() -> None:
    assert cloudevents.headers(cloudevents.OBSERVATION, "/sensors/gps", "o-1", 0.25) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"o-1"),
        ("ce_source", b"/sensors/gps"),
        ("ce_type", b"org.beliefstream.observation.v1"),
        ("ce_time", b"1970-01-01T00:00:00.250000Z"),
        ("content-type", b"application/json"),
    ]


def test_attributes_are_read_back() -> None:
    headers = cloudevents.headers(cloudevents.PRIOR, "/console", "p-1", 0.0)
    assert cloudevents.parse(headers) == {
        "specversion": "1.0",
        "id": "p-1",
        "source": "/console",
        "type": "org.beliefstream.prior.v1",
        "time": "1970-01-01T00:00:00.000000Z",
        "datacontenttype": "application/json",
    }


def test_absent_and_foreign_headers_are_fine() -> None:
    assert cloudevents.parse(None) == {}
    assert cloudevents.parse([("trace", b"1"), ("ce_id", None), ("Content-Type", b"\xff")]) == {
        "id": "",
        "datacontenttype": "\ufffd",
    }
