"""The report page: one file, nothing from outside, everything escaped."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from luthier.audio.decode import read_audio
from luthier.errors import PathError
from luthier.report.document import fill
from luthier.report.page import (
    Command,
    ReportPage,
    Row,
    Stage,
    Table,
    duration_text,
    render,
    write_report,
)
from luthier.report.player import Clip, ClipGroup

RATE = 24_000
EVIL = """<script>alert("x")</script> & 'quoted' {{title}}"""
VOID = {"meta", "img", "input", "br", "link", "hr", "path", "line"}


class Parsed(HTMLParser):
    """Collects elements and text, and checks that every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def clip(title: str = "Base", seconds: float = 1.0) -> Clip:
    time = np.arange(int(seconds * RATE)) / RATE
    audio = np.repeat(0.3 * np.sin(2 * np.pi * 330 * time)[None], 2, axis=0).astype(np.float32)
    return Clip(title, "seed 7", audio, RATE, beats_s=(0.0, 0.5), facts=(("tempo", "84 bpm"),))


@pytest.fixture(scope="module")
def page() -> ReportPage:
    return ReportPage(
        title="Your recordings",
        lead="Twelve tracks.",
        verdict="FAD fell from 6.41 to 3.87.",
        stages=(Stage("Curate", 4.2, "12 tracks"), Stage("Train", 188.0), Stage("Export", None)),
        groups=(ClipGroup("A prompt", "Seed 7.", (clip("Base"), clip("Adapter"))),),
        table=Table(
            ("Base", "Adapter", "ONNX"),
            (
                Row("FAD", (6.41, 3.87, None), "lower"),
                Row("Tempo", (75.0, 78.0, 78.0), "higher", "%", 0),
                Row("Clipping", (0.0, 0.0, 0.0), "lower"),
                Row("Loudness", (-13.94, -15.0, None), unit="LUFS", digits=1),
                Row("Size", ("31 MB", "32 MB", "10 MB"), "lower"),
            ),
        ),
        loss=tuple((i, 1 / i) for i in range(1, 50)),
        loss_note="49 steps",
        commands=(Command("luthier generate --out x.wav", "Play it."),),
        provenance=(("Machine", "2 cores"),),
    )


def test_the_page_needs_nothing_from_outside(page: ReportPage) -> None:
    text = render(page)
    parsed = Parsed(text)
    assert not parsed.all("link")
    for tag in ("img", "audio", "script", "iframe", "a"):
        for attrs in parsed.all(tag):
            for name in ("src", "href"):
                assert (attrs.get(name) or "data:").startswith("data:")
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    policy = next(m for m in parsed.all("meta") if m.get("http-equiv"))["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_everything_given_is_on_the_page(page: ReportPage) -> None:
    text = Parsed(render(page)).text
    for part in (
        *("Your recordings", "Twelve tracks.", "FAD fell from 6.41 to 3.87."),
        *("Curate", "4.2 s", "12 tracks", "3 min 08 s", "A prompt", "Adapter", "84 bpm"),
        *("−13.9", "LUFS", "31 MB", "49 steps", "luthier generate --out x.wav", "2 cores"),
    ):
        assert part in text


def test_the_best_value_is_marked_where_there_is_one(page: ReportPage) -> None:
    rows = re.findall("<tr>(.*?)</tr>", render(page))[1:]
    best = [re.findall(r'<td class="best">([^<]*)', row) for row in rows]
    assert [[b.strip() for b in found] for found in best] == [["3.87"], ["78", "78"], [], [], []]


def test_the_sound_comes_back_out_of_the_page(page: ReportPage, tmp_path: Path) -> None:
    sources = [a["src"] for a in Parsed(render(page)).all("audio")]
    assert len(sources) == 2
    assert sources[0] is not None
    kind, data = sources[0].split(",", 1)
    assert kind == "data:audio/mpeg;base64"
    (tmp_path / "x.mp3").write_bytes(base64.b64decode(data))
    samples, rate = read_audio(tmp_path / "x.mp3")
    assert samples.shape[1] / rate == pytest.approx(1.0, abs=0.1)
    loudest = np.abs(np.fft.rfft(samples[0])).argmax() * rate / samples.shape[1]
    assert loudest == pytest.approx(330, abs=2)


def test_players_have_names_and_pictures_have_words(page: ReportPage) -> None:
    parsed = Parsed(render(page))
    assert [a["aria-label"] for a in parsed.all("audio")] == ["Base", "Adapter"]
    assert all(a.get("alt") for a in parsed.all("img"))
    assert parsed.all("html")[0]["lang"] == "en"
    assert all(th.get("scope") for th in parsed.all("th"))
    identities = {a["id"] for _, a in parsed.elements if a.get("id")}
    assert {
        a["aria-labelledby"] for _, a in parsed.elements if a.get("aria-labelledby")
    } <= identities


def test_the_moment_is_kept_only_between_versions_of_one_piece() -> None:
    pair = (clip("Base"), clip("Adapter"))
    for group, offered in (
        (ClipGroup("A prompt", "", pair), 1),
        (ClipGroup("Real tracks", "", pair, alike=False), 0),
        (ClipGroup("Alone", "", pair[:1]), 0),
    ):
        assert len(Parsed(render(ReportPage("T", "L", groups=(group,)))).all("input")) == offered


def test_measures_can_come_before_the_clips(page: ReportPage) -> None:
    for first, ids in ((False, ["listen", "measures"]), (True, ["measures", "listen"])):
        sections = Parsed(render(replace(page, measures_first=first))).all("section")
        assert [s["id"] for s in sections if s.get("id") in ids] == ids


def test_all_text_is_escaped() -> None:
    evil = Clip(EVIL, EVIL, clip().audio, RATE, facts=((EVIL, EVIL),))
    page = ReportPage(
        title=EVIL,
        lead=EVIL,
        verdict=EVIL,
        good=False,
        stages=(Stage(EVIL, 1.0, EVIL),),
        groups=(ClipGroup(EVIL, EVIL, (evil,)),),
        table=Table((EVIL,), (Row(EVIL, (EVIL,), note=EVIL), Row("x", (1.0,), unit=EVIL)), EVIL),
        loss=((1, 1.0), (2, 0.5)),
        loss_note=EVIL,
        commands=(Command(EVIL, EVIL),),
        provenance=((EVIL, EVIL),),
    )
    parsed = Parsed(render(page))
    assert len(parsed.all("script")) == 1
    # Every place shows the text as it was given, the braces too.
    assert parsed.text.count(EVIL) == 23


def test_an_empty_page_has_no_empty_sections() -> None:
    parsed = Parsed(render(ReportPage("Title", "Lead")))
    assert not parsed.all("section")
    assert not parsed.all("table")
    assert "{{" not in render(ReportPage("Title", "Lead"))


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("{{nothing}}", {})
    assert fill("a {{x}} b {{y}}", {"x": "{{y}}", "y": "2"}) == "a {{y}} b 2"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
    ],
)
def test_durations_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_report_is_written_whole(page: ReportPage, tmp_path: Path) -> None:
    write_report(tmp_path / "deep" / "report.html", page)
    assert (tmp_path / "deep" / "report.html").read_text() == render(page)
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathError):
        write_report(tmp_path / "file" / "report.html", page)


def test_the_same_page_gives_the_same_bytes(page: ReportPage) -> None:
    assert render(page) == render(page)
