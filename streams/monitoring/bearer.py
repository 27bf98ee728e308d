"""Bearer tokens of web endpoints (RFC 6750)."""

from __future__ import annotations

import hmac

from pydantic import SecretStr

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="beliefstream"'}


def may_read(authorization: str | None, token: SecretStr | None) -> bool:
    """Whether a request with this `Authorization` header has the token; always true if there is none.

    The time the answer takes does not reveal how much of a wrong token is right.
    """
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    wanted = token.get_secret_value().encode()
    # always compared, and as bytes: compare_digest refuses text beyond ASCII
    same = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), wanted)
    return same and scheme.lower() == "bearer"
