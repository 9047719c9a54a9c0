"""Every task of the page on a take, and an adapter: what is asked for is what is played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hands import Open, download, fill, generate, settled, sound
from playwright.sync_api import Page, expect

from luthier.music.mini import onnx_folder
from luthier.runtime.session import Graphs
from serving import running_server
from tiny_adapters import write_adapter


def asked(page: Page) -> str:
    """The request of the take on the stage."""
    page.click("#take-curl")
    command = page.inner_text("#curl-text")
    page.get_by_role("button", name="Close", exact=True).click()
    return command


def test_a_take_is_taken_apart_completed_and_covered(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    generate(page, "slow piano", 2)
    whole, rate = sound(download(page, "The take", "FLAC", tmp_path))

    page.get_by_role("tab", name="Extract").click()
    page.locator(".pills label", has_text="bass").click()
    page.get_by_role("button", name="Extract the stem").click()
    expect(page.locator("#heads .lane-name")).to_have_text(["Take", "bass"])
    settled(page)
    # The stem is in the take already: it lies there, unheard until it is wanted.
    expect(page.get_by_label("Mute bass")).to_have_attribute("aria-pressed", "true")
    mix, _ = sound(download(page, "The mix", "WAV 32 bit float", tmp_path))
    np.testing.assert_allclose(mix, whole, atol=1e-4)

    page.get_by_role("tab", name="Complete").click()
    page.locator(".pills label", has_text="drums").click()
    page.get_by_role("button", name="Complete it").click()
    expect(page.locator("#take-facts")).to_contain_text("Completed")
    settled(page)
    command = asked(page)
    assert '"task":"complete"' in command
    assert '"tracks":"drums"' in command
    completed, _ = sound(download(page, "Take A", "FLAC", tmp_path))
    assert completed.shape == whole.shape

    page.get_by_role("tab", name="Cover").click()
    page.fill("#edit-prompt", "loud bells")
    page.get_by_role("button", name="Make the cover").click()
    expect(page.locator("#take-facts")).to_contain_text("Cover")
    settled(page)
    assert '"task":"cover"' in asked(page)
    covered, _ = sound(download(page, "Take A", "FLAC", tmp_path))
    assert covered.shape == (2, 2 * rate)
    assert np.abs(covered - completed).max() > 0.05


@pytest.fixture
def with_adapter(tmp_path: Path) -> Iterator[str]:
    linears = dict(Graphs(onnx_folder(), 1).linears("dit_decoder"))
    write_adapter(tmp_path / "loras" / "lofi", linears, base_model_name_or_path="mini")
    with running_server(tmp_path / "at", "--lora-root", str(tmp_path / "loras")) as running:
        yield running.address


def test_an_adapter_is_chosen_and_heard(open_page: Open, with_adapter: str, tmp_path: Path) -> None:
    page = open_page(with_adapter)
    generate(page, "slow piano", 2, seed="7")
    plain, _ = sound(download(page, "The take", "FLAC", tmp_path))
    page.select_option("#lora", "lofi")
    page.fill("#lora-scale", "0.5")
    fill(page, "slow piano", 2, seed="7")
    page.click("#generate")
    page.locator("#ab").wait_for()
    settled(page)
    assert '"lora":"lofi:0.5"' in asked(page)
    adapted, _ = sound(download(page, "Take A", "FLAC", tmp_path))
    assert np.abs(adapted - plain).max() > 0.05
