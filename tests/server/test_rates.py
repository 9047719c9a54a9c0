"""Who asks too often waits; nobody else does; and remembering clients takes bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from test_server_routes import error_of

from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.http.throttle import Rates, network_of


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    rates = Rates(2.0)
    assert [rates.wait_s("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert rates.wait_s("a", 0.0) == 0.5
    assert rates.wait_s("b", 0.0) == 0.0
    assert rates.wait_s("a", 0.5) == 0.0
    assert rates.wait_s("a", 0.5) == 0.5
    passed = sum(rates.wait_s("a", 0.5 + n / 10) == 0 for n in range(1000))
    assert passed == pytest.approx(200, abs=1)


def test_a_slow_rate_lets_the_first_one_pass() -> None:
    rates = Rates(0.01)
    assert rates.wait_s("a", 0.0) == 0.0
    assert rates.wait_s("a", 0.0) == 100.0


def test_memory_is_bounded() -> None:
    rates = Rates(1.0)
    for n in range(12_000):
        rates.wait_s(str(n), 0.0)
    assert len(rates) == 10_000


def test_a_network_is_one_client() -> None:
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("a:strange:one") == "a:strange:one"


@pytest.fixture
def slow(config: ServerConfig) -> Iterator[TestClient]:
    with TestClient(
        create_app(replace(config, keys=("one", "two"), rate=0.2)),
        base_url="http://127.0.0.1:8001",
    ) as client:
        yield client


def test_each_key_has_its_own_share(slow: TestClient) -> None:
    one, two = ({"Authorization": key} for key in ("one", "two"))
    assert [slow.get("/v1/stats", headers=one).status_code for _ in range(2)] == [200, 200]
    refused = slow.get("/v1/stats", headers=one)
    assert "too often" in error_of(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert slow.get("/v1/stats", headers=two).status_code == 200
    # Guesses count for the address, whatever they are.
    guesses = [slow.get("/v1/stats", headers={"Authorization": str(n)}) for n in range(4)]
    assert [guess.status_code for guess in guesses] == [401, 401, 429, 429]
    assert slow.get("/health").status_code == 200
