from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrl_c import heed_ctrl_c
from luthier.audio.encode import write_audio
from luthier.errors import DatasetError, PathError, RequestError
from luthier.music.dataset.captions import MAX_CAPTION
from luthier.music.dataset.prompt_session import open_session
from luthier.music.dataset.prompts import write_prompts
from luthier.music.dataset.styles import load_presets, load_taxonomy

PRESETS, TAXONOMY = load_presets(), load_taxonomy()


@pytest.fixture
def track(tmp_path):
    path = tmp_path / "rain.wav"
    write_audio(path, np.zeros((2, 800), np.float32), 8000)
    row = {
        "status": "success",
        "source": "rain.wav",
        "output_path": "rain.wav",
        "duration": 90.0,
        "bpm": 140.0,
        "key": "C major",
    }
    (tmp_path / "curation.json").write_text(json.dumps({"results": [row]}))
    return path


@pytest.fixture
def session(track):
    return open_session(track, PRESETS, TAXONOMY)


def texts(session):
    return [tag.text for tag in session.draft.tags]


def test_it_begins_with_what_generate_would_write(session, track):
    prompts = write_prompts(track.parent, None, PRESETS)
    assert session.draft.caption == prompts["rain"].caption
    assert session.is_saved  # nothing to lose yet


def test_styles_by_id_name_or_number(session):
    assert session.choose_styles(["core-02"]) == "The style is Jazz Lofi."
    assert session.bpm == 70  # the octave that jazz has
    assert "70 bpm, C major" in session.draft.caption
    session.choose_styles(["rainy day lofi", "34"])
    assert [style.style_id for style in session.draft.styles] == ["SEASON-06", "VOCAL-01"]
    with pytest.raises(RequestError, match=r"no style 'Jaz'; the nearest is CORE-02 \(Jazz Lofi"):
        session.choose_styles(["Jaz"])


def test_tags_are_added_where_they_belong(session):
    said = session.add("Tenor Saxophone, forest")
    assert said == "Added saxophone (instruments), forest (atmosphere)."
    assert "saxophone" in session.draft.caption
    with pytest.raises(RequestError, match="'saxophone' is among the tags already"):
        session.add("sax")
    with pytest.raises(RequestError, match=r"'polka' is not in the taxonomy.*add mood: polka"):
        session.add("polka")
    session.add("genre: Polka")
    assert texts(session).index("polka") < texts(session).index("saxophone")
    with pytest.raises(RequestError, match="'gnre' is no category; the nearest is 'genre'"):
        session.add("gnre: polka")
    with pytest.raises(RequestError, match="a tag is not empty"):
        session.add("mood: ")
    session.choose_styles(["THEME-01"])
    assert {"polka", "saxophone", "forest"} <= set(texts(session))  # those by hand stay


def test_tags_are_removed_by_text_or_number(session):
    first = texts(session)[0]
    assert session.remove("1, Vinyl Noise") == f"Removed {first}, vinyl crackle."
    with pytest.raises(RequestError, match="'pianoo' is not among the tags"):
        session.remove("pianoo")
    everything = ", ".join(texts(session))
    with pytest.raises(RequestError, match="a prompt needs a tag"):
        session.remove(everything)


def test_tempo_key_moods_and_lyrics(session):
    session.set_bpm("91.4")
    session.set_key("f#m")
    assert "91 bpm, F# minor" in session.draft.caption
    for text in ("0", "fast", "nan"):
        with pytest.raises(RequestError, match="from 20 to 300 BPM"):
            session.set_bpm(text)
    with pytest.raises(RequestError, match="is not a key"):
        session.set_key("x")
    before = session.draft.caption
    session.change_moods()
    assert session.draft.caption != before
    session.choose_styles(["VOCAL-03"])
    session.set_lyrics("sheet")
    assert session.draft.lyrics.startswith("[Intro]")
    session.set_lyrics("none")
    assert session.draft.lyrics == "[Instrumental]"


def test_undo_and_redo(session):
    start = session.draft
    session.choose_styles(["CORE-02"])
    session.add("genre: polka")
    done = session.draft
    session.undo()
    session.undo()
    assert session.draft == start
    with pytest.raises(RequestError, match="nothing to undo"):
        session.undo()
    session.redo()
    session.redo()
    assert session.draft == done
    session.undo()
    session.set_bpm("80")
    with pytest.raises(RequestError, match="nothing to redo"):
        session.redo()  # another way was taken


_steps = st.lists(
    st.tuples(st.sampled_from(["choose", "add", "remove", "bpm", "mood"]), st.integers(1, 38)),
    max_size=12,
)


@given(_steps)
@settings(max_examples=25, deadline=None)
def test_any_way_can_be_walked_back(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("s")
    write_audio(folder / "a.wav", np.zeros((2, 800), np.float32), 8000)
    fields = {"bpm": 80, "keyscale": "C major", "duration": 30}
    (folder / "a.json").write_text(json.dumps(fields))
    session = open_session(folder / "a.wav", PRESETS, TAXONOMY)
    drafts = [session.draft]
    for kind, number in steps:
        try:
            if kind == "choose":
                session.choose_styles([str(number)])
            elif kind == "add":
                session.add(TAXONOMY.tags("mood")[number])
            elif kind == "remove":
                session.remove(str(number))
            elif kind == "bpm":
                session.set_bpm(str(60 + number))
            else:
                session.change_moods()
        except RequestError:
            assert session.draft == drafts[-1]  # a refusal changes nothing
            continue
        if session.draft != drafts[-1]:
            drafts.append(session.draft)
        assert len(session.draft.caption) <= MAX_CAPTION
    for draft in reversed(drafts[:-1]):
        session.undo()
        assert session.draft == draft


def test_what_is_saved_survives_generate(session, track):
    session.choose_styles(["CORE-05"])
    session.add("genre: polka")
    session.set_lyrics("[Verse]\nhello\n")
    assert not session.is_saved
    session.save()
    assert session.is_saved
    caption = session.draft.caption
    assert (track.parent / "rain_prompt.txt").read_text() == caption + "\n"
    again = write_prompts(track.parent, None, PRESETS)["rain"]
    assert (again.caption, again.style_ids) == (caption, ("CORE-05",))
    assert not again.needs_review
    assert (track.parent / "rain_lyrics.txt").read_text() == "[Verse]\nhello\n"
    reopened = open_session(track, PRESETS, TAXONOMY)
    assert reopened.draft.caption == caption
    assert "polka" in texts(reopened)
    reopened.choose_styles(["CORE-02"])
    assert "polka" in texts(reopened)


def test_a_tempo_set_by_hand_is_kept_as_a_person_s(session, track):
    session.set_bpm("99")
    session.save()
    again = write_prompts(track.parent, {"rain": ["CORE-01"]}, PRESETS)["rain"]
    assert again.bpm == 99


def test_a_dry_run_saves_nothing(session, track):
    before = sorted(p.name for p in track.parent.iterdir())
    session.save(dry_run=True)
    assert sorted(p.name for p in track.parent.iterdir()) == before


def test_wrong_files_are_said(track, tmp_path):
    with pytest.raises(PathError, match="does not exist"):
        open_session(tmp_path / "none.wav", PRESETS, TAXONOMY)
    (tmp_path / "rain.json").write_text('{"bpm": "fast"}')
    with pytest.raises(DatasetError, match=r"rain\.json:1:9: bpm is \"fast\""):
        open_session(track, PRESETS, TAXONOMY)


class Terminal:
    """A pseudo-terminal with the dialogue on it."""

    def __init__(self, *words):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "luthier", "prompts", "--interactive", *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
            start_new_session=True,
            preexec_fn=self._take_terminal,
        )
        os.close(slave)
        self.text, self.seen = "", 0

    @staticmethod
    def _take_terminal():
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # becomes its terminal
        heed_ctrl_c()

    def until(self, pattern, timeout_s=60.0):
        """Read until `pattern` shows; return what came up to it since the last time."""
        end = time.monotonic() + timeout_s
        while not (match := re.compile(pattern).search(self.text, self.seen)):
            assert time.monotonic() < end, self.text[self.seen :]
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode()
                except OSError:  # the dialogue has ended
                    end = 0.0
        start, self.seen = self.seen, match.end()
        return self.text[start : self.seen]

    def type(self, line):
        os.write(self.master, line.encode() + b"\n")

    def press(self, key, pattern):
        """Press a key until it is answered: one that comes just before readline waits is only
        noticed with the next.
        """
        for _ in range(5):
            os.write(self.master, key.encode())
            try:
                return self.until(pattern, timeout_s=12.0)
            except AssertionError:
                continue
        return self.until(pattern, timeout_s=0.0)

    def leave(self):
        code = self.process.wait(timeout=60)
        os.close(self.master)
        return code


def test_a_dialogue_on_a_terminal(track):
    terminal = Terminal(track)
    assert "rain.wav: 90 s" in terminal.until("\n> ")
    terminal.type("style CORE-02")
    terminal.until("The style is Jazz Lofi")
    terminal.until(r"\d+ of 256 characters")
    terminal.type("add polka")
    terminal.until("not in the taxonomy.*add mood: polka")
    terminal.type("bpm 77")
    terminal.until("77 bpm")
    terminal.type("undo")
    terminal.until("The last step is undone")
    terminal.type("quit")
    terminal.until("Leave all the same")
    terminal.type("n")
    terminal.type("save")
    terminal.until("Saved: ")
    terminal.type("quit")
    assert terminal.leave() == 0
    assert (track.parent / "rain_prompt.txt").read_text().startswith("jazz lofi")
    assert "\x1b[" in terminal.text  # in colours


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 0)])
def test_leaving_in_the_middle_writes_nothing(track, key, code):
    before = sorted(p.name for p in track.parent.iterdir())
    terminal = Terminal(track)
    terminal.until("\n> ")
    terminal.type("style CORE-02")
    terminal.until("The style is Jazz Lofi")
    terminal.until("\n> ")
    # One that readline notices only with the next key ends the command all the same, after seconds.
    terminal.press(key, "without saving|stopped")
    assert terminal.leave() == code
    assert sorted(p.name for p in track.parent.iterdir()) == before
