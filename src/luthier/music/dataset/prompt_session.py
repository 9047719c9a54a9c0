"""Writing the prompt of one track by hand: a draft, the steps that change it, undo and saving.

Knows no terminal: `luthier.cli.prompt_dialogue` is the dialogue over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luthier.audio.keynames import parse_key
from luthier.dataset.tracks import Music
from luthier.errors import PathError, RequestError
from luthier.music.dataset.captions import (
    SEPARATOR,
    Tag,
    arrange,
    fit,
    fit_octave,
    gather,
    is_instrumental,
    join,
    tempo_tags,
)
from luthier.music.dataset.lyrics import INSTRUMENTAL, language_of, lyric_sheet
from luthier.music.dataset.prompts import curated_music, music_of
from luthier.music.dataset.style_preset import TAG_FIELDS, StylePreset, nearest_style
from luthier.music.dataset.styles import DEFAULT_STYLE
from luthier.music.dataset.taxonomy import TAG_ORDER, CategoryName, Taxonomy, tag_problem
from luthier.music.dataset.track_files import Before, TrackPrompt, read_before, write_track
from luthier.spelling import nearest

_BY_HAND = -1  # rank of a tag that a person added: it gets in before all that styles give


@dataclass(frozen=True)
class Draft:
    """What the files of the track would hold.

    Attributes:
        own_bpm: the tempo that a person set; None takes the measured one, in the styles' octave.
        own_key: the key that a person set; None takes the measured one.
    """

    styles: tuple[StylePreset, ...]
    tags: tuple[Tag, ...]
    lyrics: str
    own_bpm: float | None = None
    own_key: str | None = None

    @property
    def caption(self) -> str:
        """The prompt: as many of the tags as fit."""
        return join(fit(self.tags))

    @property
    def left_out(self) -> tuple[Tag, ...]:
        """The tags that the prompt has no room for."""
        kept = fit(self.tags)
        return tuple(tag for tag in self.tags if tag not in kept)


@dataclass
class PromptSession:
    """One track whose prompt is being written. Steps return a sentence of what they did, and
    raise `RequestError` in a sentence where they cannot.
    """

    audio_file: Path
    output_dir: Path
    music: Music
    presets: Mapping[str, StylePreset]
    taxonomy: Taxonomy
    before: Before
    draft: Draft
    seed: int = 42
    _rolls: int = 0
    _past: list[Draft] = field(default_factory=list)
    _future: list[Draft] = field(default_factory=list)
    _saved: Draft | None = None

    def __post_init__(self) -> None:
        self._first = self.draft

    @property
    def track_id(self) -> str:
        """The name of the audio file without suffix."""
        return self.audio_file.stem

    @property
    def is_saved(self) -> bool:
        """Whether nothing would be lost: the draft is as it was saved, or as it was begun."""
        return self.draft == (self._saved or self._first)

    @property
    def bpm(self) -> float | None:
        """The tempo in force."""
        return self.draft.own_bpm or _fitted(self.music, self.draft.styles)

    @property
    def key(self) -> str | None:
        """The key in force, in its usual spelling."""
        key = self.draft.own_key or self.music.key
        return parse_key(key).name if key else None

    def choose_styles(self, words: Sequence[str]) -> str:
        """Take the styles with these ids, names or numbers; tags added by hand stay."""
        if not words:
            raise RequestError("a style is an id such as CORE-02, a name or a number of the list.")
        styles = tuple(dict.fromkeys(self._style(word) for word in words))
        own = [tag for tag in self.draft.tags if tag.rank == _BY_HAND]
        bpm = self.draft.own_bpm or _fitted(self.music, styles)
        tags = arrange([*gather(styles, bpm, self.key, self._mood_seed()), *own])
        names = " and ".join(style.name for style in styles)
        return self._step(replace(self.draft, styles=styles, tags=tags), f"The style is {names}.")

    def add(self, text: str) -> str:
        """Add tags, separated by commas; `category: tag` for one that the taxonomy lacks."""
        added = [self._own_tag(part) for part in text.split(",")]
        there = {tag.text for tag in self.draft.tags}
        for tag in added:
            if tag.text in there:
                raise RequestError(f"{tag.text!r} is among the tags already.")
        tags = arrange([*self.draft.tags, *added])
        said = ", ".join(f"{tag.text} ({tag.category})" for tag in added)
        return self._step(replace(self.draft, tags=tags), f"Added {said}.")

    def remove(self, text: str) -> str:
        """Remove tags by their text or number in the list, separated by commas."""
        gone = [self._present(part.strip()) for part in text.split(",")]
        tags = tuple(tag for tag in self.draft.tags if tag not in gone)
        if not tags:
            raise RequestError("a prompt needs a tag: add another before you remove the last.")
        said = ", ".join(tag.text for tag in gone)
        return self._step(replace(self.draft, tags=tags), f"Removed {said}.")

    def set_bpm(self, text: str) -> str:
        """Put another tempo in the place of the measured one."""
        try:
            bpm = float(text)
        except ValueError:
            bpm = 0.0
        if not 20 <= bpm <= 300:
            raise RequestError(f"a tempo is a number from 20 to 300 BPM, not {text!r}.")
        return self._retime(replace(self.draft, own_bpm=bpm), f"The tempo is {bpm:g} BPM.")

    def set_key(self, text: str) -> str:
        """Put another key in the place of the measured one."""
        key = parse_key(text).name
        return self._retime(replace(self.draft, own_key=key), f"The key is {key}.")

    def change_moods(self) -> str:
        """Draw other moods from those of the styles."""
        for _ in range(20):
            self._rolls += 1
            drawn = gather(self.draft.styles, self.bpm, self.key, self._mood_seed())
            moods = [tag for tag in drawn if tag.category == "mood"]
            others = [t for t in self.draft.tags if t.category != "mood" or t.rank == _BY_HAND]
            tags = arrange([*others, *moods])
            if set(tags) != set(self.draft.tags):
                said = ", ".join(tag.text for tag in moods)
                return self._step(replace(self.draft, tags=tags), f"The moods are {said}.")
        raise RequestError("the styles have no other moods.")

    def set_lyrics(self, text: str) -> str:
        """Take these lyrics; "sheet" for section headers to fill in, "none" for instrumental."""
        words = text.strip()
        if words.lower() in ("", "none", "instrumental"):
            lyrics = INSTRUMENTAL
        elif words.lower() == "sheet":
            lyrics = lyric_sheet(self.draft.styles, self.music.duration_s)
        else:
            lyrics = words
        said = "none: the track is instrumental" if lyrics == INSTRUMENTAL else "taken"
        return self._step(replace(self.draft, lyrics=lyrics), f"Lyrics: {said}.")

    def undo(self) -> str:
        """Take the last step back."""
        return self._swap(self._past, self._future, "undo", "The last step is undone.")

    def redo(self) -> str:
        """Take the last undo back."""
        return self._swap(self._future, self._past, "redo", "The step is done again.")

    def save(self, *, dry_run: bool = False) -> TrackPrompt:
        """Write the three files of the track; what they hold then counts as a person's."""
        draft = self.draft
        own_language = self.before.by_hand("language")
        language = language_of(draft.lyrics) or "en"
        prompt = TrackPrompt(
            caption=draft.caption,
            bpm=self.bpm,
            keyscale=self.key,
            timesignature=self.music.time_signature,
            duration=self.music.duration_s,
            style_ids=tuple(style.style_id for style in draft.styles),
            language=own_language or language,
            instrumental=draft.lyrics == INSTRUMENTAL and is_instrumental(draft.styles),
            needs_review=False,
            kept=("prompt",) if draft.lyrics == INSTRUMENTAL else ("prompt", "lyrics"),
        )
        if not dry_run:
            measured: dict[str, Any] = {
                "bpm": None if draft.own_bpm else self.bpm,
                "keyscale": None if draft.own_key else self.key,
                "timesignature": self.music.time_signature,
                "language": None if own_language else language,
            }
            if self.before.by_hand("timesignature"):
                measured["timesignature"] = None
            write_track(self.output_dir, self.track_id, prompt, draft.lyrics, measured, self.before)
        self._saved = draft
        return prompt

    def _step(self, draft: Draft, said: str) -> str:
        if draft == self.draft:
            return "That is how it was already."
        self._past.append(self.draft)
        self._future.clear()
        self.draft = draft
        return said

    def _swap(self, source: list[Draft], target: list[Draft], verb: str, said: str) -> str:
        if not source:
            raise RequestError(f"there is nothing to {verb}.")
        target.append(self.draft)
        self.draft = source.pop()
        return said

    def _retime(self, draft: Draft, said: str) -> str:
        bpm = draft.own_bpm or self.bpm
        key = draft.own_key or self.key
        others = [tag for tag in draft.tags if tag.category != "tempo" or tag.rank == _BY_HAND]
        tags = arrange([*others, *tempo_tags(draft.styles, bpm, key)])
        return self._step(replace(draft, tags=tags), said)

    def _mood_seed(self) -> str:
        # The first draw is the one that `generate` makes.
        return f"{self.seed}/{self.track_id}" + (f"/{self._rolls}" if self._rolls else "")

    def _style(self, word: str) -> StylePreset:
        listed = list(self.presets.values())
        if word.isdigit() and 1 <= int(word) <= len(listed):
            return listed[int(word) - 1]
        for style in listed:
            if word.lower() in (style.style_id.lower(), style.name.lower()):
                return style
        near = nearest_style(word, self.presets)
        raise RequestError(
            f"there is no style {word!r}; the nearest is {near} ({self.presets[near].name})."
        )

    def _own_tag(self, text: str) -> Tag:
        name, colon, rest = text.partition(":")
        category: CategoryName | None = None
        if colon:
            name = name.strip().lower()
            category = next((c for c in TAG_ORDER if c == name), None)
            if category is None:
                raise RequestError(
                    f"{name!r} is no category; the nearest is {nearest(name, TAG_ORDER)!r} of "
                    f"{', '.join(TAG_ORDER)}."
                )
        tag = self.taxonomy.canonical(rest if colon else text)
        if problem := tag_problem(tag):
            raise RequestError(f"{problem}.")
        category = category or self.taxonomy.category_of(tag)
        if category is None:
            raise RequestError(
                f"{tag!r} is not in the taxonomy; the nearest tag is "
                f"{self.taxonomy.nearest(tag)!r}. To take yours all the same, name its category: "
                f"add mood: {tag}"
            )
        return Tag(tag, category, _BY_HAND)

    def _present(self, text: str) -> Tag:
        tags = self.draft.tags
        if text.isdigit() and 1 <= int(text) <= len(tags):
            return tags[int(text) - 1]
        by_text = {tag.text.lower(): tag for tag in tags}
        for spelling in (text.lower(), self.taxonomy.canonical(text).lower()):
            if spelling in by_text:
                return by_text[spelling]
        near = nearest(text, by_text)
        raise RequestError(f"{text!r} is not among the tags; the nearest is {near!r}.")


def open_session(
    audio_file: Path,
    presets: Mapping[str, StylePreset],
    taxonomy: Taxonomy,
    *,
    output_dir: Path | None = None,
    seed: int = 42,
) -> PromptSession:
    """A session for one audio file, begun from the files that the track has already.

    Args:
        audio_file: any format that luthier decodes.
        presets: from `load_presets`.
        taxonomy: from `load_taxonomy`.
        output_dir: None writes beside the audio.
        seed: with the track id, draws the moods.

    Raises:
        PathError: no such file.
        AudioError: it is not audio.
    """
    if not audio_file.is_file():
        raise PathError(f"the audio file {audio_file} does not exist.")
    target = output_dir or audio_file.parent
    before = read_before(target, audio_file.stem)
    music = music_of(audio_file, before, curated_music(audio_file.parent).get(audio_file.stem))
    chosen = [s for s in before.fields.get("style_ids") or [] if s in presets]
    styles = tuple(presets[style] for style in chosen or [DEFAULT_STYLE])
    bpm = before.by_hand("bpm")
    tags = gather(styles, bpm or _fitted(music, styles), music.key, f"{seed}/{audio_file.stem}")
    caption = before.fields.get("caption")
    draft = Draft(
        styles=styles,
        tags=_tags_of(caption, styles, taxonomy) if caption else tags,
        lyrics=before.fields.get("lyrics") or INSTRUMENTAL,
        own_bpm=bpm,
        own_key=before.by_hand("keyscale"),
    )
    return PromptSession(audio_file, target, music, presets, taxonomy, before, draft, seed=seed)


def _tags_of(caption: str, styles: Sequence[StylePreset], taxonomy: Taxonomy) -> tuple[Tag, ...]:
    """The tags of a prompt that is there; one that the taxonomy lacks is of the kind before it."""
    given = {tag for style in styles for name in TAG_FIELDS for tag in getattr(style, name)}
    tags: list[Tag] = []
    category: CategoryName = "genre"
    for place, text in enumerate(caption.split(SEPARATOR)):
        category = taxonomy.category_of(taxonomy.canonical(text)) or category
        from_style = text in given or category == "tempo"
        tags.append(Tag(text, category, place if from_style else _BY_HAND))
    return arrange(tags)


def _fitted(music: Music, styles: Sequence[StylePreset]) -> float | None:
    return fit_octave(music.bpm, styles) if music.bpm else None
