"""An audit by axe-core: every main state, in light and dark, without violations."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from hands import Open, drag, generate
from playwright.sync_api import Page

SIZES = {"wide": (1440, 900), "middle": (820, 1180), "narrow": (360, 780)}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page) -> list[str]:
    """What axe finds, in lines."""
    page.wait_for_timeout(250)  # a colour that still changes has no contrast yet
    ask = "rules => axe.run(document, {runOnly: rules})"
    found: dict[str, Any] = page.evaluate(ask, RULES)
    return [
        f"{rule['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def in_looks(page: Page, state: str, looks: str = "all") -> list[str]:
    """What axe finds in a state: at every size in light and dark, or in two looks that differ in
    both.
    """
    found = []
    chosen = {"two": [("wide", "light"), ("narrow", "dark")]}.get(looks) or [
        (size, theme) for size in SIZES for theme in ("light", "dark")
    ]
    for size, theme in chosen:
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme)
        found += [f"{state}, {size}, {theme}: {line}" for line in violations(page)]
    return found


def view(page: Page, name: str) -> None:
    """On a narrow screen one part is seen at a time."""
    page.evaluate("name => { document.body.dataset.view = name; }", name)


def audited(open_page: Open, looks: str) -> list[str]:
    """The main states, one after the other on one page."""
    # axe puts styles into the page, which the page's own policy forbids.
    page = open_page(expected=("400 (Bad Request)",), bypass_csp=True)
    page.evaluate(AXE)
    page.click("#advanced summary")
    found = in_looks(page, "the form", looks)
    view(page, "listen")
    found += in_looks(page, "nothing", looks)
    page.set_viewport_size({"width": 1440, "height": 900})
    generate(page, "calm piano", 2)
    page.get_by_role("tab", name="Add layer").click()
    page.get_by_role("button", name="Add the layer").click()
    page.locator("#heads li").nth(1).wait_for()
    found += in_looks(page, "a take with a layer", looks)
    drag(page, 0.3, 0.7)
    page.get_by_role("tab", name="Repaint").click()
    found += in_looks(page, "a region", looks)
    view(page, "takes")
    found += in_looks(page, "the list", looks)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.fill("#bpm", "999")
    page.click("#generate")
    page.locator("[data-field=bpm] .problem").wait_for()
    view(page, "write")
    found += in_looks(page, "an error", looks)
    page.click("#open-help")
    return found + in_looks(page, "help", looks)


def test_no_state_breaks_a_rule(open_page: Open) -> None:
    assert audited(open_page, "two") == []


@pytest.mark.slow
def test_no_state_breaks_a_rule_at_any_size(open_page: Open) -> None:
    assert audited(open_page, "all") == []
