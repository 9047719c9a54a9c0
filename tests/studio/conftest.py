"""A real Chromium on the studio of a real server. What the console, the policy or a foreign address
says is a failure of the test that made it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hands import Open, tasks
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from serving import running_server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE_MS = 90_000


@pytest.fixture(scope="module")  # Playwright's loop must not be there for other tests
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with mini."""
    with running_server(tmp_path_factory.mktemp("studio")) as running:
        yield running.address


def forget_tasks(address: str) -> None:
    deadline = time.monotonic() + 60
    while found := tasks(address):
        assert time.monotonic() < deadline
        for task in found:
            is_over = task["state"] not in ("queued", "running")
            identity = f"{address}/v1/tasks/{task['task_id']}"
            method, path = ("DELETE", identity) if is_over else ("POST", f"{identity}/cancel")
            with suppress(HTTPError):  # it ended between the two
                urlopen(Request(path, method=method)).close()
        time.sleep(0.05)


@dataclass
class Watch:
    """What a page must not do.

    Attributes:
        expected: parts of console lines that the test provokes.
    """

    address: str
    expected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.complaints: list[str] = []

    def follow(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, f"blob:{self.address}")):
            self.complaints.append(f"a request to {request.url}")

    def check(self) -> None:
        left = [c for c in self.complaints if not any(e in c for e in self.expected)]
        assert not left, left


@pytest.fixture
def open_page(browser: Browser, studio: str) -> Iterator[Open]:
    """Opens the studio in a window of its own, on a server without tasks."""
    forget_tasks(studio)
    watches: list[Watch] = []
    contexts: list[BrowserContext] = []

    def opened(
        address: str = studio, *, expected: tuple[str, ...] = (), is_ready: bool = True, **kind: Any
    ) -> Page:
        kind = {"viewport": {"width": 1440, "height": 900}, "accept_downloads": True} | kind
        context = browser.new_context(**kind)
        context.set_default_timeout(PATIENCE_MS)
        watch = Watch(address, expected)
        watch.follow(context)
        watches.append(watch)
        contexts.append(context)
        page = context.new_page()
        page.goto(address)
        if is_ready:
            page.locator("[data-ready=yes]").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    for watch in watches:
        watch.check()
