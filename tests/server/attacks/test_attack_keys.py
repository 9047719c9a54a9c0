"""Keys that are guessed, links that are forged: who comes in without being let in."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from attacked import ORIGIN
from starlette.testclient import TestClient
from test_server_routes import SONG, data_of, error_of

from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.http import auth
from luthier.server.http.auth import Keys, Links
from luthier.server.http.guesses import Guesses
from luthier.server.http.logs import JsonLines
from luthier.server.queue.retention import Places

KEY = "Zwoelf-Boxkaempfer-1"
GUESSES = {
    "a prefix": KEY[:-1],
    "a longer one": KEY + "1",
    "another case": KEY.upper(),
    "look-alike letters": KEY.replace("o", "\u043e"),
    "a null byte": KEY + "\0",
    "repeated": f"{KEY},{KEY}",
    "a wildcard": "*",
    "a pattern": "Z.*",
    "true": "true",
    "an injection": "' OR '1'='1",
    "very long": "x" * 30_000,
}


@pytest.fixture
def guarded(config: ServerConfig) -> Iterator[TestClient]:
    with TestClient(create_app(replace(config, keys=(KEY, "other"))), base_url=ORIGIN) as client:
        yield client


def ask(client: TestClient, key: str) -> Any:
    return client.get("/v1/stats", headers={"Authorization": f"Bearer {key}".encode("latin-1")})


def test_what_looks_like_a_key_is_none() -> None:
    keys = Keys([KEY, "other"])
    assert keys.fits(KEY)
    for name, guess in GUESSES.items():
        assert not keys.fits(guess), name
    # What the colon of a log line or a header splits is no key either.
    assert not keys.fits("")


def test_an_empty_key_lets_nobody_in(guarded: TestClient) -> None:
    for header in ("", " ", "Bearer", "Bearer ", "bearer  ", "Basic "):
        assert guarded.get("/v1/stats", headers={"Authorization": header}).status_code == 401
    for token in ("", None, [], {}, 0, False, True, ["other"], {"other": 1}):
        assert guarded.post("/release_task", json=SONG | {"ai_token": token}).status_code == 401


def test_keys_are_compared_by_digest_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def watched(one: bytes, two: bytes) -> bool:
        compared.append((one, two))
        return hmac.compare_digest(one, two)

    class Watched:
        compare_digest = staticmethod(watched)

    monkeypatch.setattr(auth, "hmac", Watched)
    keys = Keys(["first", "second", "third"])
    assert keys.fits("first")
    assert not keys.fits("f")
    # All keys, whichever fits; digests of one length, so that no length shows.
    assert len(compared) == 6
    assert {len(part) for pair in compared for part in pair} == {32}


@pytest.mark.parametrize(
    "name", ["ai_token", "api_key", "key", "token", "access_token", "Authorization"]
)
def test_a_key_in_the_address_is_not_taken_and_not_logged(
    guarded: TestClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert guarded.get("/v1/stats", params={name: "other"}).status_code == 401
        assert guarded.post("/release_task", params={name: "other"}, json=SONG).status_code == 401
    lines = [JsonLines().format(r) for r in caplog.records if r.name.startswith("luthier")]
    assert lines
    assert not any("other" in line for line in lines)


@pytest.mark.parametrize(
    "name", ["X-Api-Key", "X-Forwarded-Authorization", "Cookie", "Proxy-Authorization"]
)
def test_a_key_in_another_header_is_not_taken(guarded: TestClient, name: str) -> None:
    assert guarded.get("/v1/stats", headers={name: "Bearer other"}).status_code == 401


def test_who_guesses_has_to_wait(guarded: TestClient) -> None:
    codes = [ask(guarded, f"guess{n}").status_code for n in range(40)]
    assert codes[:20] == [401] * 20
    assert codes.count(429) >= 15
    refused = ask(guarded, "guess")
    assert "too many wrong keys" in error_of(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    # A right key that was not seen from here before is not even looked at.
    assert ask(guarded, "other").status_code == 429
    assert guarded.post("/release_task", json=SONG | {"ai_token": "other"}).status_code == 429
    assert guarded.get("/health").status_code == 200


def test_who_guesses_by_token_has_to_wait(guarded: TestClient) -> None:
    codes = [
        guarded.post("/query_result", json={"ai_token": str(n)}).status_code for n in range(40)
    ]
    assert codes.count(429) >= 15


def test_who_came_in_before_is_not_locked_out_by_a_guesser(guarded: TestClient) -> None:
    assert ask(guarded, "other").status_code == 200
    for n in range(30):
        ask(guarded, f"guess{n}")
    assert ask(guarded, "guess").status_code == 429
    assert ask(guarded, "other").status_code == 200


def test_asking_without_a_key_is_no_guess(guarded: TestClient) -> None:
    assert [guarded.get("/v1/stats").status_code for _ in range(40)] == [401] * 40


def test_guesses_are_forgiven_slowly_and_remembered_in_bounds() -> None:
    guesses = Guesses()
    for _ in range(5000):
        guesses.was_wrong("a", now=0.0)
    assert guesses.wait_s("a", "a", now=0.0) == pytest.approx(600)
    assert guesses.wait_s("a", "a", now=590.0) == pytest.approx(10)
    assert guesses.wait_s("b", "b", now=0.0) == 0
    assert guesses.wait_s("a", "a", now=601.0) == 0
    for n in range(30_000):
        guesses.was_wrong(str(n), now=0.0)
        guesses.wait_s(str(n), "key 1", now=0.0)
    assert len(guesses) <= 20_000


def linked(client: TestClient, links: Links, places: Places) -> str:
    folder = places.results / "t" / "f"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("1.mp3", "2.mp3"):
        (folder / name).write_bytes(bytes(100))
    return links.link("t/f/1.mp3", signed=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.mp3", "2.mp3"),
        ("path=t", "path=.%2Ft"),
        ("path=t", "path=t%2F..%2Ft"),
        ("expires=", "expires=%20"),
        ("expires=", "expires=-"),
        ("expires=1", "expires=9"),
        ("expires=1", "expires=\u0661"),
        ("signature=", "signature=0"),
    ],
)
def test_a_changed_link_plays_nothing(guarded: TestClient, old: str, new: str) -> None:
    service = guarded.app.state.service  # type: ignore[attr-defined]
    link = linked(guarded, service.links, service.places)
    assert guarded.get(link).status_code == 200
    changed = link.replace(old, new, 1)
    assert guarded.get(changed).status_code == 401


def test_a_link_opens_nothing_else(guarded: TestClient) -> None:
    service = guarded.app.state.service  # type: ignore[attr-defined]
    signed = urlsplit(linked(guarded, service.links, service.places)).query
    for path in ("/v1/stats", "/v1/tasks", "/v1/capabilities", "/v1/lora/status"):
        assert guarded.get(f"{path}?{signed}").status_code == 401


def test_links_end_when_a_key_is_taken_away(config: ServerConfig) -> None:
    places = Places(config.worker.home)
    found = {}
    for keys in (("one", "two"), ("two", "one"), ("two",)):
        with TestClient(create_app(replace(config, keys=keys)), base_url=ORIGIN) as client:
            if not found:
                found["link"] = linked(client, client.app.state.service.links, places)  # type: ignore[attr-defined]
            found[keys] = client.get(found["link"]).status_code
    assert found[("one", "two")] == found[("two", "one")] == 200
    assert found[("two",)] == 401


def test_a_link_of_another_server_plays_nothing(tmp_path: Path) -> None:
    here, there = (Links(tmp_path / name, 60, Keys(["key"])) for name in ("here", "there"))
    query = parse_qs(urlsplit(here.link("a", signed=True)).query)
    said = query["expires"][0], query["signature"][0]
    assert here.holds("a", *said)
    assert not there.holds("a", *said)


def test_two_clients_with_one_idempotency_key_get_their_own_tasks(guarded: TestClient) -> None:
    def sent(key: str, **fields: Any) -> Any:
        headers = {"Authorization": key, "Idempotency-Key": "1"}
        return data_of(guarded.post("/release_task", json=SONG | fields, headers=headers))

    mine = sent("other")["task_id"]
    assert sent("other")["task_id"] == mine
    assert sent(KEY, bpm=70)["task_id"] != mine
