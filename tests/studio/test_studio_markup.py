"""Words that are markup: the studio shows them, and runs nothing of them."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hands import Open, generate
from playwright.sync_api import expect

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_markup_in_a_prompt_is_text(open_page: Open, studio: str) -> None:
    page = open_page()
    generate(page, EVIL, 2)
    expect(page.locator("#take-title")).to_contain_text("<img src=x")
    assert page.locator("img[src=x]").count() == 0
    page.reload()  # once more, from what the page remembers
    page.locator("[data-ready=yes]").wait_for()
    expect(page.locator("#take-title")).to_contain_text("<img src=x")
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "owned"


def test_an_answer_s_error_is_no_page(studio: str) -> None:
    """What a browser shows when it is sent to an address by itself."""
    body = json.dumps({"task_type": EVIL}).encode()
    request = Request(f"{studio}/release_task", body, {"Content-Type": "application/json"})
    with pytest.raises(HTTPError) as caught:
        urlopen(request)
    with caught.value as answer:
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
