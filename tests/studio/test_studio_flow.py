"""From words to a piece, a repainted region, a layer and files: in Chromium, by hand and by key."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hands import Open, download, drag, fill, generate, settled, sound, tasks
from playwright.sync_api import Page, expect

from luthier.audio.encode import write_audio


def clock(page: Page) -> float:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    minutes, seconds = page.inner_text("#time").split(":")
    return 60 * int(minutes) + float(seconds)


def test_generate_repaint_a_region_add_a_layer_and_download(
    open_page: Open, tmp_path: Path
) -> None:
    page = open_page()
    generate(page, "slow piano", 4)
    first, rate = sound(download(page, "The take", "FLAC", tmp_path))
    assert first.shape == (2, 4 * rate)

    drag(page, 0.26, 0.49)
    start, end = (float(page.input_value(f"#region-{side}")) for side in ("start", "end"))
    # Snapped to beats of half a second, as they were heard.
    assert (start, end) == (pytest.approx(1, abs=0.13), pytest.approx(2, abs=0.13))
    page.fill("#edit-prompt", "loud bells")
    page.get_by_role("button", name="Repaint the region").click()
    page.locator("#ab").wait_for()
    settled(page)
    second, _ = sound(download(page, "Take A", "FLAC", tmp_path))
    edge = round(0.02 * rate)  # the cross-fade lies just outside
    inside = slice(round(start * rate), round(end * rate))
    outside = np.ones(first.shape[1], bool)
    outside[inside.start - edge : inside.stop + edge] = False
    assert second.shape == first.shape
    np.testing.assert_allclose(second[:, outside], first[:, outside], atol=2**-15)
    assert np.abs(second[:, inside] - first[:, inside]).max() > 0.05

    page.get_by_role("tab", name="Add layer").click()
    page.locator(".pills label", has_text="bass").click()
    page.get_by_role("button", name="Add the layer").click()
    expect(page.locator("#heads .lane-name")).to_have_text(["Take A", "bass"])
    settled(page)
    layer, _ = sound(download(page, "A layer", "FLAC", tmp_path))
    mix, _ = sound(download(page, "The mix", "WAV 32 bit float", tmp_path))
    assert layer.shape == second.shape
    np.testing.assert_allclose(mix, second + layer, atol=1e-4)

    page.get_by_label("Mute bass").click()
    muted, _ = sound(download(page, "The mix", "WAV 32 bit float", tmp_path))
    np.testing.assert_allclose(muted, second, atol=1e-4)


def test_a_b_keeps_its_place_and_evens_the_levels(open_page: Open, studio: str) -> None:
    page = open_page()
    generate(page, "one", 3)
    generate(page, "two", 3)
    page.locator("#ab").wait_for()
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    at = clock(page)
    page.keyboard.press("b")
    expect(page.locator("#take-title")).to_have_text("one")
    expect(page.locator("#deck-b")).to_have_attribute("aria-pressed", "true")
    assert clock(page) == at > 0
    page.keyboard.press("a")
    expect(page.locator("#take-title")).to_have_text("two")
    assert re.fullmatch(r"level|-\d+\.\d dB", page.inner_text("#ab-note"))


def test_history_survives_a_reload_and_shows_what_is_gone(open_page: Open, studio: str) -> None:
    page = open_page()
    generate(page, "kept")
    generate(page, "deleted elsewhere")
    page.reload()
    page.locator("[data-ready=yes]").wait_for()
    rows = page.locator("#past li")
    expect(rows.nth(0)).to_contain_text("deleted elsewhere")
    expect(rows.nth(1)).to_contain_text("kept")
    expect(page.locator("#prompt")).to_have_value("deleted elsewhere")
    settled(page)

    (gone, *_) = tasks(studio)
    page.goto("about:blank")
    subprocess.run(
        ["curl", "-sS", "-X", "DELETE", f"{studio}/v1/tasks/{gone['task_id']}"], check=True,
        capture_output=True,
    )  # fmt: skip
    page.goto(studio)
    page.locator("[data-ready=yes]").wait_for()
    expect(rows.nth(0)).to_contain_text("deleted on the server")
    expect(page.locator("#take-title")).to_have_text("kept")


def test_a_running_task_shows_how_far_it_is_and_is_cancelled(open_page: Open, studio: str) -> None:
    page = open_page()
    fill(page, "much too long", 100, steps=200)
    page.keyboard.press("Control+Enter")
    job = page.locator("#queue .job")
    expect(job.locator(".doing")).to_contain_text(re.compile(r"\d+ %"))
    page.get_by_role("button", name="Cancel much too long").click()
    expect(page.locator("#past li").first).to_contain_text("cancelled")
    expect(page.locator("#queue .job")).to_have_count(0)
    assert tasks(studio)[0]["state"] == "cancelled"


def test_the_server_s_sentences_stand_beside_their_fields(open_page: Open) -> None:
    page = open_page(expected=("400 (Bad Request)",))
    fill(page, "x", 3, bpm="999")
    page.fill("#guidance", "99")
    page.click("#generate")
    problem = page.locator("[data-field=bpm] .problem")
    expect(problem).to_have_text("bpm is 999: it must be 30 to 300 beats per minute.")
    expect(page.locator("[data-field=guidance_scale] .problem")).to_contain_text("1 to 30")
    expect(page.locator("#bpm")).to_be_focused()
    expect(page.locator("#bpm")).to_have_attribute("aria-invalid", "true")
    page.fill("#bpm", "90")
    page.fill("#guidance", "")
    page.click("#generate")
    expect(problem).to_have_count(0)
    page.locator("#take-title", has_text="x").wait_for()


def test_a_request_as_curl_is_a_task(open_page: Open, studio: str) -> None:
    page = open_page()
    fill(page, 'it\'s "quoted" – $HOME `x`', 2)
    page.click("#song-curl")
    command = page.inner_text("#curl-text")
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    identity = json.loads(done.stdout)["data"]["task_id"]
    page.get_by_role("button", name="Close", exact=True).click()
    deadline = time.monotonic() + 90
    while tasks(studio)[0]["state"] != "succeeded" and time.monotonic() < deadline:
        time.sleep(0.1)
    page.reload()  # it finds what other clients made
    page.locator(f"[data-take^='{identity}']").wait_for()
    expect(page.locator("#take-title")).to_have_text('it\'s "quoted" – $HOME `x`')
    page.click("#take-curl")
    assert '"task":"text2music"' in page.inner_text("#curl-text")


def test_a_recording_of_this_computer_is_worked_on(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "my song's.wav"
    moments = np.arange(3 * 24000) / 24000
    clicks = np.exp(-40 * (moments % 0.5)) * np.sin(2 * np.pi * 220 * moments)
    write_audio(path, 0.4 * np.stack([clicks, clicks]).astype(np.float32), 24000)
    page = open_page()
    page.set_input_files("#file-input", path)
    expect(page.locator("#take-title")).to_have_text("my song's.wav")
    settled(page)
    heard = float(page.inner_text("#grid-note").split()[1])
    assert heard == pytest.approx(120, abs=1)
    page.get_by_role("tab", name="Cover").click()
    page.click("#advanced summary")
    page.fill("#steps", "2")
    page.locator("#edit button[title='Copy as curl']").click()
    command = page.inner_text("#curl-text")
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout)["data"]["status"] == "queued"
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Make the cover").click()
    page.locator("#take-facts", has_text="Cover").wait_for()
    expect(page.locator("#ab")).to_be_visible()


def test_keys(open_page: Open) -> None:
    page = open_page()
    generate(page, "keys", 4)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    beat = clock(page)
    assert beat == pytest.approx(0.5, abs=0.13)
    page.keyboard.press("[")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    expect(page.locator("#selection")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("#loop")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    expect(page.locator("#play .sr")).to_have_text("Pause")
    page.wait_for_timeout(2500)
    assert beat - 0.1 <= clock(page) <= beat + 1.7  # it went round
    page.keyboard.press(" ")
    expect(page.locator("#play .sr")).to_have_text("Play")
    page.keyboard.press("r")
    expect(page.locator("#edit-prompt")).to_be_focused()
    page.keyboard.type("l[ is only text")
    expect(page.locator("#edit-prompt")).to_have_value("l[ is only text")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    page.keyboard.press("s")
    expect(page.locator(".wave:not(.behind) .spectrum")).to_have_count(1)
    page.keyboard.press("?")
    page.get_by_label("Use single keys").uncheck()
    page.keyboard.press("Escape")
    expect(page.locator("#help-dialog")).to_be_hidden()
    page.keyboard.press("l")
    expect(page.locator("#loop")).to_have_attribute("aria-pressed", "true")  # nothing happened


def test_loudness_is_that_of_bs_1770(open_page: Open) -> None:
    # A sine of 997 Hz at −20 dBFS in both channels has −20 LUFS, by definition.
    page = open_page()
    measured = page.evaluate(
        """async () => {
          const at = document.querySelector("script[src]").src;
          const { loudness } = await import(new URL("loudness.js", at));
          const buffer = new AudioBuffer({ length: 96000, numberOfChannels: 2, sampleRate: 48000 });
          const sine = Float32Array.from({ length: 96000 }, (_, i) =>
            0.1 * Math.sin((2 * Math.PI * 997 * i) / 48000));
          buffer.copyToChannel(sine, 0);
          buffer.copyToChannel(sine, 1);
          return loudness(buffer);
        }"""
    )
    assert measured == pytest.approx(-20, abs=0.2)
