"""Token, sessions, foreign pages, and what the browser may load."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import Request

import pytest
from websockets.exceptions import InvalidStatus

from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live import access
from beliefstream.streams.live.access import Access
from tests.brokers import EmbeddedNode
from tests.http_answers import ask
from tests.streams.client.topics import posterior
from tests.streams.live.pages import Page, served, watched

TOKEN = "a-token-of-the-test-0123"
READ_TOKEN = "a-token-to-look-only-0123"
PROXY = "https://maps.example.org"
ELSEWHERE = {"Origin": "http://evil.example"}


@pytest.fixture
def guarded(
    embedded_broker: EmbeddedNode, topics: TopicNames, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    monkeypatch.setattr(access, "REFUSED_SECONDS", 0.0)
    with served(embedded_broker.bootstrap_servers, topics, Access(TOKEN, [PROXY], READ_TOKEN)) as page:
        yield page


def logged_in(page: Page, token: str = TOKEN) -> dict[str, str]:
    status, _, headers = page.request("login", f"token={token}".encode())
    assert (status, headers["Location"]) == (303, ".")
    return {"Cookie": headers["Set-Cookie"].partition(";")[0]}


def refused(page: Page, headers: dict[str, str]) -> int:
    with pytest.raises(InvalidStatus) as refusal, watched(page, headers):
        pass
    return refusal.value.response.status_code


def test_without_a_session_there_is_only_the_login(guarded: Page) -> None:
    status, _, headers = guarded.request()
    assert (status, headers["Location"]) == (303, "login")
    assert guarded.request("login")[0] == 200
    assert guarded.request("main.js")[0] == 401
    assert guarded.post_prior(entity="mower")[0] == 401
    assert refused(guarded, {}) == 403
    assert refused(guarded, {"Cookie": f"{access.COOKIE}={TOKEN}"}) == 403


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], "ä" * 20])
def test_a_wrong_token_opens_no_session(guarded: Page, token: str) -> None:
    status, _, headers = guarded.request("login", f"token={token}".encode())
    assert status == 403
    assert "Set-Cookie" not in headers


def test_the_token_opens_a_session(guarded: Page) -> None:
    guarded.put(posterior(1))
    session = logged_in(guarded)
    assert guarded.request("", headers=session)[0] == 200
    with watched(guarded, session) as browser:
        browser.wait_for_entities("mower")


def test_the_read_token_opens_a_session_that_sends_no_priors(guarded: Page) -> None:
    guarded.put(posterior(1))
    fields = {"entity": "mower", "mode": "replace", "coordinates": ["x", "y"]}
    mixture = {"weights": [1], "means": [[0, 0]], "covariances": [[[1, 0], [0, 1]]]}
    for token, may_write, status in ((READ_TOKEN, False, 403), (TOKEN, True, 200)):
        session = logged_in(guarded, token)
        with watched(guarded, session) as browser:
            browser.wait_for_entities("mower")
            assert browser.notes["may_write"] is may_write
        assert guarded.post_prior(session, **fields, mixture=mixture)[0] == status


def test_the_cookie_is_kept_from_scripts_and_other_sites(guarded: Page) -> None:
    _, _, headers = guarded.request("login", f"token={TOKEN}".encode())
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" in cookie  # the proxy has TLS
    assert "Path" not in cookie  # the page may live under a path
    assert TOKEN not in cookie


def test_a_session_ends(guarded: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "SESSION_SECONDS", -1.0)
    assert guarded.request("", headers=logged_in(guarded))[0] == 303


def test_a_foreign_page_gets_neither_frames_nor_priors(page: Page) -> None:
    assert refused(page, ELSEWHERE) == 403
    assert refused(page, {"Origin": "null"}) == 403
    assert page.post_prior(ELSEWHERE, entity="mower")[0] == 403
    own = {"Origin": page.address.rstrip("/")}
    with watched(page, own):
        pass


def test_a_foreign_page_gets_nothing_with_a_session_either(guarded: Page) -> None:
    session = logged_in(guarded)
    assert refused(guarded, session | ELSEWHERE) == 403
    assert guarded.post_prior(session | ELSEWHERE, entity="mower")[0] == 403
    with watched(guarded, session | {"Origin": PROXY}):
        pass


def test_a_foreign_name_for_this_machine_is_refused_without_a_token(page: Page) -> None:
    assert page.request("", headers={"Host": "evil.example:80"})[0] == 403


def test_every_answer_has_the_policy(page: Page) -> None:
    for path in ("", "main.js", "login", "nothing"):
        _, _, headers = page.request(path)
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_browser_keeps_files_but_no_answer_with_data(page: Page) -> None:
    for path in ("", "main.js", "world.json.gz"):
        answer = ask(Request(page.address + path))
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
        again = ask(Request(page.address + path, headers={"If-None-Match": answer.headers["ETag"]}))
        assert (again.status, again.body) == (304, b"")
        changed = ask(Request(page.address + path, headers={"If-None-Match": '"of an older version"'}))
        assert (changed.status, changed.body) == (200, answer.body)
    for path in ("layers", "nothing"):
        assert page.request(path)[2]["Cache-Control"] == "no-store"


def test_the_page_names_nothing_by_an_absolute_address(page: Page) -> None:
    _, text, _ = page.request()
    for part in ("http:", "https:", 'src="/', 'href="/', "style=", "onclick"):
        assert part not in text
