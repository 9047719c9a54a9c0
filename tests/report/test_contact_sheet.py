from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from band import RATE, play
from luthier.audio.encode import write_audio
from luthier.cli.main import main
from luthier.report.contact_sheet import contact_sheet, write_contact_sheet

NASTY = "<img src=x onerror=document.title='ran'><script>alert(1)\"&{{rows}}.wav"


def row(source, status="success", **values):
    name = source.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    known = {
        "source": source,
        "status": status,
        "output_path": f"/out/{name}.mp3" if status == "success" else None,
        "duration": 60.0,
        "quality_score": 97 if status == "success" else 0,
        "reason": None if status == "success" else "too_short: 1.0 s long.",
        "notes": [],
        "bpm": 90.0,
        "key": "A minor",
        "measures": {"sample_rate": 44100, "channels": 2, "loudness_lufs": -14.2, "peak_db": -1.0},
        "envelope": [[-0.5, 0.5]] * 300 if status == "success" else None,
        "beats": [i * 2 / 3 for i in range(90)],
    }
    return known | values


def document(*rows, duplicates=()):
    counts = {"processed": "success", "skipped": "skipped", "failed": "failed"}
    found = {key: sum(r["status"] == status for r in rows) for key, status in counts.items()}
    return found | {"results": list(rows), "duplicates": list(duplicates)}


class Page(HTMLParser):
    """Collects tags, attributes and visible text; checks that what opens is closed."""

    VOID = ("meta", "link", "path", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def test_every_track_has_its_row():
    page = Page(
        contact_sheet(
            document(
                row("/in/a.wav"),
                row("/in/sub/b c#1.wav"),
                row("/in/c.wav", "skipped"),
                row("/in/d.wav", "failed", measures=None, reason="unreadable: torn."),
            ),
            "Tracks",
        )
    )
    assert len(page.all("article")) == 4
    assert [a["src"] for a in page.all("audio")] == ["a.mp3", "b%20c%231.mp3"]
    assert "2 of 4 recordings are ready for training: 2 min 00 s of music." in page.text
    for said in ("too_short: 1.0 s long.", "unreadable: torn.", "−14.2 LUFS", "90.0 bpm", "sub"):
        assert said in page.text
    assert {b["data-show"] for b in page.all("button")} == {"all", "success", "skipped", "failed"}


def test_names_are_text_and_nothing_else():
    text = contact_sheet(document(row(f"/in/{NASTY}")), NASTY)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert page.text.count(NASTY) == 3  # the page's title, its heading, the track's
    assert page.all("audio")[0]["aria-label"] == NASTY


def test_the_page_loads_nothing_from_elsewhere():
    text = contact_sheet(document(row("/in/a.wav")), "T")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_duplicates_link_each_other():
    rows = [row("/in/a.wav"), row("/in/b.wav", notes=["the same recording as a.wav", "quiet"])]
    group = {"kept": "/in/a.wav", "others": [{"source": "/in/b.wav", "similarity": 0.91}]}
    page = Page(contact_sheet(document(*rows, duplicates=[group]), "T"))
    assert [a["href"] for a in page.all("a")] == ["#t1", "#t0"]
    assert page.text.count("the same recording as") == 2
    assert "91% alike" in page.text
    assert [a.get("data-duplicate") for a in page.all("article")] == ["yes", "yes"]


def test_many_beats_are_thinned_out():
    few = contact_sheet(document(row("/in/a.wav")), "T")
    many = contact_sheet(
        document(row("/in/a.wav", duration=240.0, beats=[i / 2 for i in range(480)])), "T"
    )
    assert "a line every beat" in few
    assert few.count("0V100") == 90
    assert "a line every 4 beats" in many
    assert many.count("0V100") == 120


def test_an_empty_report_is_a_page_too():
    page = Page(contact_sheet(document(), "T"))
    assert "0 of 0 recordings" in page.text


def test_curate_writes_it_beside_the_audio(tmp_path, capsys):
    write_audio(tmp_path / "in" / "<b>.wav", play(90, "C", 4.0), RATE)
    flags = ["--min-duration", "1", "--workers", "1", "--target-format", "flac", "--report"]
    assert main(["curate", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *flags]) == 0
    assert "contact_sheet.html" in capsys.readouterr().out
    page = Page((tmp_path / "out" / "contact_sheet.html").read_text())
    assert (tmp_path / "out" / page.all("audio")[0]["src"]).is_file()
    assert any("beats" in p.get("class", "") for p in page.all("path"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_only_our_script(tmp_path):
    write_audio(tmp_path / "a.mp3", play(90, "C", 4.0), RATE)
    path = tmp_path / "contact_sheet.html"
    rows = [row(f"/in/{NASTY}"), row("/in/a.wav"), row("/in/c.wav", "failed")]
    write_contact_sheet(path, document(*rows), "Tracks")
    probe = (
        "<script>document.querySelector('[data-show=failed]').click();"
        "const sound = document.querySelector('audio[src=\"a.mp3\"]');"
        "sound.addEventListener('loadedmetadata', () => document.body.dataset.heard = 'yes');"
        "sound.load();</script></body>"
    )
    path.write_text(path.read_text().replace("</body>", probe))
    found = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'chromium'}"),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert "<title>Tracks</title>" in found
    assert 'data-heard="yes"' in found
    assert found.count('<li hidden="">') == 2
