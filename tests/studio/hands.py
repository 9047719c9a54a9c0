"""What people do in the studio, as functions."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page

from luthier.audio.decode import read_audio

Sound = NDArray[np.float32]
Open = Callable[..., Page]


def generate(page: Page, prompt: str = "calm piano", seconds: float = 3, **fields: str) -> None:
    """A short piece of few steps, on the stage when this returns."""
    before = page.locator("#past .open").count()
    fill(page, prompt, seconds, **fields)
    page.click("#generate")
    page.locator("#past .open").nth(before).wait_for()
    page.locator("#session").wait_for()
    settled(page)


def fill(page: Page, prompt: str, seconds: float, steps: int = 3, **fields: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#duration", str(seconds))
    if not page.locator("#steps").is_visible():
        page.click("#advanced summary")
    page.fill("#steps", str(steps))
    for name, value in ({"bpm": "120"} | fields).items():
        page.fill(f"#{name}", value)


def settled(page: Page) -> None:
    """Wait until the stage shows what it was told to, with its beats."""
    page.locator("#stage:not(.loading)").wait_for()
    page.locator("#grid-note:not(:empty)").wait_for(state="attached")


def drag(page: Page, start: float, end: float) -> None:
    """Drag over the waveforms, from one share of their width to another."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


def download(page: Page, row: str, way: str, folder: Path) -> Path:
    """Take a row of the download dialog home."""
    page.click("#open-download")
    choice = page.locator("#download-choices li", has_text=row)
    with page.expect_download() as started:
        choice.get_by_role("button", name=way, exact=True).click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    page.keyboard.press("Escape")
    return path


def sound(path: Path) -> tuple[Sound, int]:
    """(2, samples), and their rate."""
    return read_audio(path)


def tasks(address: str, key: str = "") -> list[dict[str, Any]]:
    """What the server has, the newest first."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urllib.request.urlopen(
        urllib.request.Request(f"{address}/v1/tasks", None, headers)
    ) as got:
        found: list[dict[str, Any]] = json.load(got)["data"]["tasks"]
        return found
