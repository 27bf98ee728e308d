from __future__ import annotations

import json
from typing import Any

import pytest

from beliefstream.schemas import Mixture, Prior, Reason, Reset, Unusable, parse_stated

RESET: dict[str, Any] = {"entity": "mower", "reset": True, "time": 5.0}
PRIOR: dict[str, Any] = {
    "entity": "mower",
    "time": 5.0,
    "mixture": Mixture.gaussian((0.0,), 1.0).model_dump(),
}


def stated(**fields: Any) -> Prior | Reset:
    return parse_stated(json.dumps(fields).encode())


def test_a_field_called_reset_tells_a_reset_from_a_prior() -> None:
    assert stated(**RESET) == Reset(entity="mower", reset=True, time=5.0)
    assert isinstance(stated(**PRIOR), Prior)
    assert isinstance(stated(**PRIOR, id="reset"), Prior)


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        ({**RESET, "reset": False}, Reason.invalid, "reset: "),
        ({**RESET, "time": 1.77e12}, Reason.invalid_time, "time: looks like milliseconds"),
        ({"entity": "mower", "reset": True}, Reason.invalid, "time: Field required"),
        ({**PRIOR, **RESET}, Reason.invalid, "mixture: "),
        ({**RESET, "observations_before": {"offset": -1}}, Reason.invalid, "observations_before.offset: "),
        ({**PRIOR, "id": "reset", "mode": "add"}, Reason.invalid, "mode: "),
    ],
)
def test_a_fault_is_named(content: dict[str, Any], reason: Reason, says: str) -> None:
    with pytest.raises(Unusable) as caught:
        stated(**content)
    assert caught.value.reason == reason
    assert says in caught.value.detail


@pytest.mark.parametrize("raw", [None, b"", b'"reset"', b'{"reset"', b"[" * 5000 + b'"reset"'])
def test_what_is_no_message_is_refused(raw: bytes | None) -> None:
    with pytest.raises(Unusable):
        parse_stated(raw)
