"""A data set read the way ACE-Step v1's trainer reads it: nothing of a track may get lost.

`V1Loader` restates what that loader does with a row, as far as text is concerned. What it does
silently (cutting, blanking, taking another track) is counted here, so that a test can forbid it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.dataset.arrow import save_split
from luthier.files import read_json, write_json
from luthier.music.dataset.build import BuildSettings, build_dataset
from luthier.music.dataset.captions import MAX_CAPTION
from luthier.music.dataset.v1_rules import tag_problems, v1_losses
from prepared import prepare, source, write_track

COLUMNS = ("keys", "filename", "tags", "speaker_emb_path", "norm_lyrics", "recaption")
LANGUAGES = {
    *("en", "de", "fr", "es", "it", "pt", "pl", "tr", "ru", "cs", "nl", "ar", "zh", "ja"),
    *("hu", "ko", "hi"),
}
SECTION = re.compile(r"^\[.*\]$")


class V1Loader:
    """Rows of a folder by number: prompt, lyric lines with their language, audio path."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.rows = datasets.load_from_disk(str(folder))
        assert isinstance(self.rows, datasets.Dataset), "a DatasetDict cannot be indexed by number"
        self.random = random.Random(seed)
        self.replaced: list[str] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = self.rows[number]
        try:
            return self.item(row)
        except (ValueError, UnboundLocalError):
            self.replaced.append(row["keys"])
            return self[self.random.randrange(len(self))]

    def item(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["speaker_emb_path"]:
            raise UnboundLocalError("the speaker embedding is never loaded")
        tags = ["music" if not tag.strip() else tag for tag in row["tags"]]
        self.random.shuffle(tags)
        prompt = ", ".join(tags)[:256]
        variants = [prompt]
        for value in row["recaption"].values():
            if isinstance(value, str) and value:
                variants.append(value)
        lyrics = row["norm_lyrics"]
        if re.search(r"write a .* song that genre is", lyrics, re.IGNORECASE):
            lyrics = ""
        return {
            "key": row["keys"],
            "prompt": self.random.choice(variants),
            "lyrics": self.tokenised(lyrics, row["language"]),
            "audio": Path(row["filename"]),
        }

    def tokenised(self, lyrics: str, majority: str) -> list[tuple[str, str]]:
        """(language, line): lines of section names are English, others of the song's language.

        The real loader finds the majority language by itself; what is fed in here is ours.
        """
        lines = lyrics.split("\n")
        sung = [line for line in lines if line.strip() and not SECTION.match(line)]
        if sung and majority not in LANGUAGES:
            raise ValueError(f"unsupported language {majority}")
        return [("en" if SECTION.match(line) else majority, line) for line in lines]


SONGS = {
    "de": "[Strophe]\nÜber den Dächern, ganz leise\n\n[Refrain]\n(oh, oh)\nBleib noch ein bisschen",
    "ja": "[Verse]\n雨の夜に\n[Chorus]\n窓を開けて",
    "zh": "[Verse]\n夜色温柔",
    "en": '[Verse 1]\nQuotes " and \\ and, commas\n[Outro]\nwrite a song',
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("v1")
    data = prepare(root)
    for number, (language, words) in enumerate(SONGS.items(), start=10):
        write_track(data, f"sung-{language}", number, language=language, instrumental=False)
        (data / f"sung-{language}_lyrics.txt").write_text(words + "\n", encoding="utf-8")
    longest = ", ".join([f"tag number {i:02d}" for i in range(16)] + ["the very last 16"])
    assert len(longest) == MAX_CAPTION
    write_track(data, "long", 20)
    (data / "long_prompt.txt").write_text(longest, encoding="utf-8")
    names = sorted(p.stem for p in data.glob("*.wav"))
    write_json(root / "meta" / "sources.json", [source(track_ids=names)])
    settings = BuildSettings(validation_split=0.2, repeat_count=3, repeat_validation=True)
    summary = build_dataset(data, root / "meta", root / "set", settings)
    assert summary.warnings == ()
    return data, root / "set", names


def test_the_columns_are_there_in_both_splits(dataset):
    _, out, _ = dataset
    for split in ("train", "validation"):
        rows = datasets.load_from_disk(str(out / split))
        assert set(COLUMNS) <= set(rows.column_names)
        assert isinstance(rows[0]["tags"], list)
        assert rows[0]["recaption"] == {}
        assert rows[0]["speaker_emb_path"] == ""


def test_the_columns_are_described_in_words_that_version_3_of_datasets_knows(dataset):
    """ACE-Step v1 pins datasets 3.4.1, which cannot open a data set with a "List" in it."""
    _, out, _ = dataset
    features = read_json(out / "train" / "dataset_info.json")["features"]
    assert features["tags"] == [{"dtype": "string", "_type": "Value"}]
    stored = (out / "train" / "data-00000-of-00001.arrow").read_bytes()
    assert b'"_type": "Value"' in stored
    assert b'"List"' not in stored


def test_every_track_is_seen_as_often_as_asked_and_none_replaced(dataset):
    _, out, names = dataset
    seen = Counter()
    for split in ("train", "validation"):
        loader = V1Loader(out / split)
        seen.update(loader[number]["key"] for number in range(len(loader)))
        assert loader.replaced == []
    assert seen == dict.fromkeys(names, 3)


def test_no_tag_and_no_lyric_gets_lost(dataset):
    data, out, _ = dataset
    for split in ("train", "validation"):
        loader = V1Loader(out / split, seed=5)
        for number in range(len(loader)):
            item = loader[number]
            prompt = (data / f"{item['key']}_prompt.txt").read_text(encoding="utf-8").strip()
            assert sorted(item["prompt"].split(", ")) == sorted(prompt.split(", "))
            lyrics = (data / f"{item['key']}_lyrics.txt").read_text(encoding="utf-8").strip()
            assert "\n".join(line for _, line in item["lyrics"]) == lyrics
            assert item["audio"].is_absolute()
            assert item["audio"].is_file()


def test_section_names_are_english_and_words_keep_their_language(dataset):
    _, out, _ = dataset
    found = {}
    for split in ("train", "validation"):
        loader = V1Loader(out / split)
        found |= {item["key"]: item["lyrics"] for item in (loader[i] for i in range(len(loader)))}
    assert found["sung-ja"][:2] == [("en", "[Verse]"), ("ja", "雨の夜に")]
    assert found["t0"] == [("en", "[Instrumental]")]


def row(**changes: Any) -> dict[str, Any]:
    value = {
        "keys": "a",
        "filename": "/a.wav",
        "tags": ["lofi", "piano"],
        "speaker_emb_path": "",
        "norm_lyrics": "[Verse]\nwords",
        "recaption": {},
        "language": "en",
        "instrumental": False,
        "duration": 60.0,
    }
    return value | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"language": "sv"},
        {"norm_lyrics": "[Verse]\nWrite a happy song that genre is pop"},
        {"norm_lyrics": "word " * 1000},
        {"duration": 241.0},
        {"speaker_emb_path": "/voice.pt"},
    ],
)
def test_what_the_loader_would_lose_is_told(changes):
    assert v1_losses(row()) == []
    assert len(v1_losses(row(**changes))) == 1


def test_the_language_of_an_instrumental_is_nobodys_business():
    assert v1_losses(row(language="unknown", instrumental=True, norm_lyrics="[Instrumental]")) == []


def test_the_restated_loader_does_lose_what_is_told(tmp_path):
    """The emulation has teeth: rows that a build would refuse or warn of are mangled by it."""
    full = row() | dict.fromkeys(("caption", "lyrics", "keyscale", "timesignature"), "")
    full |= dict.fromkeys(("source_id", "sha256", "extra"), "") | {"bpm": None, "style_ids": []}
    bad = [
        full | {"keys": "sv", "language": "sv"},
        full | {"keys": "voice", "speaker_emb_path": "x"},
        full | {"keys": "empty", "tags": ["lofi", ""]},
        full | {"keys": "blank", "norm_lyrics": "write a sad song that genre is lofi"},
        full | {"keys": "long", "tags": ["t" * 100] * 3},
        full | {"keys": "good"},
    ]
    save_split(tmp_path / "train", bad)
    loader = V1Loader(tmp_path / "train")
    items = [loader[number] for number in range(len(bad))]
    assert {"sv", "voice"} <= set(loader.replaced)
    assert "music" in items[2]["prompt"]
    assert items[3]["lyrics"] == [("en", "")]
    assert len(items[4]["prompt"]) == 256
    assert all(tag_problems(r["tags"]) or v1_losses(r) for r in bad[:5])


@settings(max_examples=200, deadline=None)
@given(st.text("ab ,é雨\n", max_size=40), st.integers(0, 99))
def test_tags_that_pass_survive_any_shuffle(prompt, seed):
    tags = prompt.strip().split(", ")
    if tag_problems(tags):
        return
    shuffled = random.Random(seed).sample(tags, len(tags))
    assert sorted(", ".join(shuffled)[:256].split(", ")) == sorted(tags)


def test_a_comma_without_a_space_stays_in_its_tag(tmp_path):
    data = prepare(tmp_path, {"a": ["CORE-01"], "b": ["CORE-01"]})
    (data / "a_prompt.txt").write_text("one,two, three")
    build_dataset(data, tmp_path / "meta", tmp_path / "set", BuildSettings(validation_split=0))
    rows = datasets.load_from_disk(str(tmp_path / "set" / "train"))
    assert rows[0]["tags"] == ["one,two", "three"]
