"""A server with keys: the page is open, everything behind it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import Open, download, generate, sound
from playwright.sync_api import expect

from serving import KEY, running_server


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[str]:
    with running_server(tmp_path, key=KEY) as running:
        yield running.address


def test_a_key_is_asked_for_once_and_kept_in_the_tab(
    open_page: Open, locked: str, tmp_path: Path
) -> None:
    page = open_page(locked, expected=("401 (Unauthorized)",), is_ready=False)
    expect(page.get_by_role("dialog")).to_contain_text("This server asks for a key")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-problem")).to_have_text("Invalid API key.")
    page.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    page.locator("[data-ready=yes]").wait_for()

    generate(page, "behind a door", 2)
    made, rate = sound(download(page, "The take", "FLAC", tmp_path))
    assert made.shape == (2, 2 * rate)
    page.click("#take-curl")
    command = page.inner_text("#curl-text")
    assert "Bearer $LUTHIER_API_KEY" in command
    assert KEY not in command
    page.get_by_role("button", name="Close", exact=True).click()

    page.reload()
    page.locator("[data-ready=yes]").wait_for()
    expect(page.locator("#take-title")).to_have_text("behind a door")
    kept = page.evaluate("JSON.stringify({...localStorage})")
    assert KEY not in kept
    assert "expires=" not in kept
