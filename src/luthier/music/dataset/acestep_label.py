"""ACE-Step 1.5's data set file → the same file with labels: what is heard in each recording, and a
caption made of that and the track's styles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.audio.decode import read_audio
from luthier.errors import AudioError, PathError
from luthier.files import check_place, write_json
from luthier.music.dataset.acestep_json import AceStepFile, read_acestep, sample_facts
from luthier.music.dataset.acestep_places import require_below
from luthier.music.dataset.captions import SEPARATOR, build_caption, fit_octave
from luthier.music.dataset.style_preset import StylePreset, find
from luthier.music.dataset.styles import DEFAULT_STYLE
from luthier.progress import SILENT, Display

_WRITE_EVERY_S = 5.0


@dataclass(frozen=True)
class LabelSettings:
    """How samples are labelled.

    Attributes:
        only_unlabelled: samples that have a caption and count as labelled stay as they are.
        keep_music: tempo, key and metre stay as the file says them; only captions are made.
        seed: with the track id, chooses among a style's moods.
    """

    only_unlabelled: bool = False
    keep_music: bool = False
    seed: int = 42


@dataclass(frozen=True)
class LabelReport:
    """What was labelled.

    Attributes:
        labelled: names of recordings.
        notes: what a person should look at, a sentence each.
    """

    labelled: tuple[str, ...]
    notes: tuple[str, ...]


def is_labelled(sample: Mapping[str, Any]) -> bool:
    """Whether a sample says of itself that it is labelled, and has a caption."""
    return bool(sample.get("labeled")) and bool(str(sample.get("caption") or "").strip())


def label_acestep(
    path: Path,
    output: Path,
    mapping: Mapping[str, Sequence[str]],
    presets: Mapping[str, StylePreset],
    settings: LabelSettings | None = None,
    *,
    below: Sequence[Path] = (),
    display: Display = SILENT,
) -> LabelReport:
    """Write `output`, a data set file, anew every few seconds: whoever reads it sees what is done.

    Lyrics, language and fields that are not known here stay. A recording that cannot be heard
    stays unlabelled, with a note.

    Args:
        path: the file to read.
        output: the file to write; may be the same.
        mapping: style ids by track id (the recording's name without suffix).
        presets: from `load_presets`.
        settings: None takes the defaults.
        below: folders that recordings must lie in; empty for anywhere.
        display: shows the samples.

    Raises:
        PathError: the file cannot be read, or a recording lies elsewhere.
        DatasetError: it has another form, or the mapping names an unknown style.
    """
    settings = settings or LabelSettings()
    file = read_acestep(path)
    require_below(file, below)
    check_place(output)
    labeller = _Labeller(file, mapping, presets, settings)
    samples = [dict(sample) for sample in file.samples]
    wanted = [
        place
        for place, sample in enumerate(samples)
        if not (settings.only_unlabelled and is_labelled(sample))
    ]
    written = time.monotonic()
    with display.task("samples", len(wanted)) as task:
        for place in wanted:
            samples[place] = labeller.labelled(samples[place])
            if time.monotonic() - written > _WRITE_EVERY_S:
                _write(output, file, samples)
                written = time.monotonic()
            task.advance(note=str(samples[place].get("filename") or ""))
    _write(output, file, samples)
    return labeller.report()


def _write(output: Path, file: AceStepFile, samples: Sequence[Mapping[str, Any]]) -> None:
    write_json(output, {"metadata": file.metadata, "samples": list(samples), **file.rest})


class _Labeller:
    """Labels samples one by one and remembers what there is to say of them."""

    def __init__(
        self,
        file: AceStepFile,
        mapping: Mapping[str, Sequence[str]],
        presets: Mapping[str, StylePreset],
        settings: LabelSettings,
    ) -> None:
        self._file, self._settings = file, settings
        self._mapping = {t: [find(s, presets) for s in styles] for t, styles in mapping.items()}
        self._default = [find(DEFAULT_STYLE, presets)]
        self._labelled: list[str] = []
        self._unstyled: list[str] = []
        self._unheard: list[str] = []

    def labelled(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The sample with its labels; as it was where the recording cannot be heard."""
        path = Path(sample_facts(sample, self._file)["filename"])
        styles = self._mapping.get(path.stem) or self._default
        try:
            music = _heard(path, styles, keep=sample if self._settings.keep_music else None)
        except (AudioError, PathError) as error:
            self._unheard.append(f"{path.name} cannot be heard: {error}")
            return dict(sample)
        known = dict(sample) | music
        said = sample_facts(known, self._file)
        seed = f"{self._settings.seed}/{path.stem}"
        caption = build_caption(styles, said["bpm"], said["keyscale"], seed)
        self._labelled.append(path.name)
        if path.stem not in self._mapping:
            self._unstyled.append(path.name)
        genres = dict.fromkeys(tag for style in styles for tag in style.base_tags)
        return known | {"caption": caption, "genre": SEPARATOR.join(genres), "labeled": True}

    def report(self) -> LabelReport:
        """What was labelled so far."""
        return LabelReport(tuple(self._labelled), tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        if self._unstyled:
            yield (
                f"{len(self._unstyled)} recordings have no style in the mapping and were described "
                f"as {DEFAULT_STYLE}: look at their captions. The first is {self._unstyled[0]}."
            )
        yield from self._unheard


def _heard(
    path: Path, styles: Sequence[StylePreset], keep: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Duration, and unless `keep` has them tempo, key and metre, by the file's field names."""
    from luthier.audio.key import estimate_key
    from luthier.audio.tempo import estimate_tempo

    samples, rate = read_audio(path)
    duration = round(samples.shape[1] / rate, 3)
    if keep is not None:
        return {"duration": duration}
    tempo = estimate_tempo(samples, rate)
    return {
        "duration": duration,
        "bpm": round(fit_octave(tempo.bpm, styles)) if tempo.bpm else None,
        "keyscale": estimate_key(samples, rate).name,
        "timesignature": str(tempo.metre) if tempo.metre else "",
    }
