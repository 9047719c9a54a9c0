"""The page: well formed, self-contained, safe, and readable; and the section of a device."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from matrix_rows import row

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.errors import PathError
from luthier.matrix.devices import write_device_entry
from luthier.matrix.page import matrix_page
from luthier.matrix.recommend import RULES, recommended
from luthier.report.heatmap import Heat, HeatMap, heatmap_html, shade_of

NASTY = '<img src=x onerror=alert(1)>"&{{body}}'
ROWS = [
    *(row(task, bpm=bpm) for task in ("text2music", "repaint", "lego:bass") for bpm in (90, 120)),
    row("cover", state="failed", error=NASTY),
    row("lego:vocals", state="not supported", error="mini does not do lego."),
]


def result(rows: list[dict[str, Any]] = ROWS, cpu: str = "A processor") -> dict[str, Any]:
    machine = {"cpu": cpu, "cores": 2, "memory_gb": 16.0, "gpu": None, "system": "Linux"}
    states = {state: sum(r["state"] == state for r in rows) for state in {r["state"] for r in rows}}
    return {
        "created": "2026-11-23T23:00:00+00:00",
        "command": "luthier matrix",
        "environment": {
            "machine": machine, "server": None, "provider": "CPUExecutionProvider",
            "threads": None, "models": {"mini": {}},
        },
        "versions": {"luthier": "0", "onnxruntime": "1"},
        "grid": {},
        "counts": {"cells": len(rows), "recorded": len(rows)} | states,
        "rules": RULES,
        "recommended": recommended(rows, machine),
        "cells": rows,
    }  # fmt: skip


class Page(HTMLParser):
    """Collects tags and text, and checks that what opens is closed."""

    VOID = ("meta", "link", "path", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [str(attrs[name]) for found, attrs in self.tags if found == tag and name in attrs]


def test_every_link_leads_to_a_cell_and_every_player_to_a_file_beside_the_page() -> None:
    page = Page(matrix_page(result()))
    targets = set(page.values("li", "id"))
    links = [link for link in page.values("a", "href") if link.startswith("#c-")]
    assert len(links) > 20
    assert {link[1:] for link in links} == targets
    assert set(page.values("audio", "src")) == {"audio/a.flac"}


def test_nothing_comes_from_elsewhere_and_nothing_in_it_runs() -> None:
    text = matrix_page(result())
    page = Page(text)
    assert not re.findall(r"https?://", re.sub(r"content=\"[^\"]*\"", "", text))
    assert ("img", {"src": "x", "onerror": "alert(1)"}) not in page.tags
    assert NASTY in page.text
    assert "default-src 'none'" in text


def test_the_numbers_stand_in_the_cells() -> None:
    page = Page(matrix_page(result()))
    for word in ("+0.1", "90%", "exact", "5.0", "✕", "0.20"):
        assert word in page.text


def test_a_map_shows_only_what_a_task_has() -> None:
    page = Page(matrix_page(result([row(), row(bpm=90)])))
    assert "Edges of a repaint" not in page.text
    assert "Layers" not in page.text
    assert "Seconds to make it" in page.text


def test_what_was_not_played_yet_is_said() -> None:
    found = result()
    found["counts"]["cells"] += 3
    assert "3 are still to be played" in matrix_page(found)


def test_a_heat_map_by_its_parts() -> None:
    cells = {("a", "x", "10 s", "90"): Heat("1.0", 0.0, "says <b>", "c-1"),
             ("a", "x", "10 s", "120"): Heat("9", 1.0, "worse")}  # fmt: skip
    heat = HeatMap("h", "T", "N", ("0", "1"), (("10 s", ("90", "120")),), (("a", ("x",)),), cells)
    page = Page(heatmap_html(heat))
    assert page.values("td", "class") == ["s0", "s5"]
    assert page.values("a", "title") == ["says <b>"]
    assert page.values("th", "scope") == ["colgroup", "col", "col", "rowgroup", "row"]


@pytest.mark.parametrize(
    ("badness", "shade"), [(-1, 0), (0, 0), (0.17, 1), (0.5, 3), (0.99, 5), (1, 5), (7, 5)]
)
def test_six_shades_from_good_to_bad(badness: float, shade: int) -> None:
    assert shade_of(badness) == shade


def test_every_shade_can_be_read_in_light_and_dark() -> None:
    style = files("luthier.report").joinpath("matrix.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for number in range(6):
            ink = colours["on-pale" if number < 4 else "on-deep"]
            assert contrast(colours[f"s{number}"], ink) >= 4.5, (number, colours)


def contrast(first: str, second: str) -> float:
    """WCAG 2.1's contrast ratio."""
    levels = []
    for colour in (first, second):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        levels.append(0.2126 * r + 0.7152 * g + 0.0722 * b)
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_a_device_has_one_section_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    path = tmp_path / "devices.md"
    path.write_text("# Ours\n\nBefore.\n")
    write_device_entry(path, result(cpu="One"))
    write_device_entry(path, result(cpu="Two"))
    first = path.read_text()
    path.write_text(first + "\nAfter.\n")
    write_device_entry(path, result([row(wall_s=50)], cpu="One"))
    text = path.read_text()
    assert text.startswith("# Ours\n\nBefore.\n")
    assert text.endswith("\nAfter.\n")
    assert text.count("## One, 2 cores") == text.count("## Two, 2 cores") == 1
    assert text.index("## One") < text.index("## Two")
    one = text[: text.index("## Two")]
    assert "| text2music | slow | 0.20, 0.20 |" in one
    assert "live" not in one.partition("### mini")[2].partition("| task")[2]


def test_the_section_says_what_was_measured_and_with_what(tmp_path: Path) -> None:
    path = tmp_path / "devices.md"
    write_device_entry(path, result())
    text = path.read_text()
    for words in (
        "# Devices",
        "the model's own steps, batch 1; up to 10 s in real time (the longest measured); 1.2 GB",
        "| measured | 2026-11-23, 8 cells, `luthier matrix` |",
        "| lego:vocals | not supported | – | – | – | – | mini does not do lego. |",
    ):
        assert words in text


def test_a_busy_machine_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "devices.md"
    write_device_entry(path, result([row(load_1min=2.4)]))
    assert "Others were at work" not in path.read_text()
    assert "Others were at work" not in matrix_page(result([row(load_1min=2.4)]))
    write_device_entry(path, result([row(), row(bpm=90, load_1min=7.5)]))
    assert "Others were at work meanwhile (load up to 7.5 on 2 cores)" in path.read_text()
    assert "Others were at work" in matrix_page(result([row(load_1min=7.5)]))


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_in_a_browser_it_fits_and_a_click_in_a_map_plays_the_cell(tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    (tmp_path / "audio").mkdir()
    write_audio(tmp_path / "audio" / "a.flac", play(120, "C major", 4.0), RATE)
    (tmp_path / "index.html").write_text(matrix_page(result()))
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 360, "height": 700})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "index.html").as_uri())
        for width in (360, 768, 1280, 2200):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth") == width
        link = page.locator("#tempo a").first
        cell = str(link.get_attribute("href"))
        link.click()
        page.wait_for_function(
            "id => document.querySelector(`[id='${id}'] audio`).currentTime > 0", arg=cell[1:]
        )
        assert page.evaluate("location.hash").endswith("_1")
        assert page.evaluate("document.activeElement.id") == cell[1:]
        browser.close()
    assert said == []


def test_a_section_without_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "devices.md"
    write_device_entry(path, result())
    torn = path.read_text().replace("<!-- end of device", "<!-- gone")
    path.write_text(torn)
    with pytest.raises(PathError, match="put it back"):
        write_device_entry(path, result())
    assert path.read_text() == torn
