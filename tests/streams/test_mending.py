from __future__ import annotations

from schemas import Reason
from streams.mending import MEND, mend


def test_for_every_reason_it_is_said_what_to_do() -> None:
    assert set(MEND) == set(Reason)
    assert all(mend(reason).isprintable() and mend(reason) for reason in Reason)
