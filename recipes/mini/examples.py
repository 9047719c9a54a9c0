"""The demo's input: twelve lo-fi tracks, composed and rendered here, with their source record and
style mapping.

Run: python -m recipes.mini.examples  (writes examples/tracks; needs FluidSynth, see render.py)
"""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luthier.audio.encode import write_audio
from luthier.audio.resample import resample
from luthier.files import write_json

from .compose import Score, compose
from .lofi import age
from .render import Synth, mix
from .styles import LOFI

OUTPUT = Path(__file__).parents[2] / "examples" / "tracks"
_RATE = 44_100
_BITRATE_KBPS = 72
_FIRST_SEED = 30_000_000
_COMPOSED = date(2026, 11, 23)

TITLES = (
    "window-seat",
    "last-tram",
    "paper-lanterns",
    "slow-kettle",
    "attic-light",
    "corner-store",
    "wet-pavement",
    "second-cup",
    "borrowed-coat",
    "quiet-stairs",
    "tape-garden",
    "night-bakery",
)
_STYLE_OF_LEAD = {
    "saxophone": "INST-05",
    "flute": "INST-07",
    "jazz guitar": "CORE-02",
    "vibraphone": "THEME-02",
}


def make_track(synth: Synth, index: int) -> tuple[Score, NDArray[np.float32]]:
    """One track: a four-bar sketch without the lead as an introduction, then the whole band, faded
    out.
    """
    rng = random.Random(_FIRST_SEED + index)
    score = compose(_FIRST_SEED + index, styles=(LOFI,), duration_s=rng.uniform(31, 37))
    stems = synth.render(score, tail_s=1.5)
    intro = int(4 * score.metre * 60 / score.bpm * synth.sample_rate)
    for role in ("lead", "pads"):
        if role in stems:
            stems[role][:, :intro] = 0.0
    audio = age(mix(stems), synth.sample_rate, _FIRST_SEED + index)
    fade = int(2.0 * synth.sample_rate)
    audio[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32) ** 2
    return score, audio


def main() -> None:
    """Write the tracks, `sources.json`, `style_mapping.json` and `labels.json` (the exact tempo
    and key).
    """
    synth = Synth(_RATE)
    mapping, labels = {}, {}
    for index, title in enumerate(TITLES):
        score, audio = make_track(synth, index)
        path = OUTPUT / f"{title}.mp3"
        write_audio(path, resample(audio, _RATE, _RATE), _RATE, bitrate_kbps=_BITRATE_KBPS)
        leads = [stem.instrument for stem in score.stems if stem.role == "lead"]
        extra = [_STYLE_OF_LEAD[name] for name in leads if name in _STYLE_OF_LEAD]
        mapping[title] = ["CORE-01", *extra]
        labels[title] = {
            "bpm": score.bpm,
            "key": score.key,
            "time_signature": str(score.metre),
            "instruments": list(score.instruments),
        }
    write_json(OUTPUT / "style_mapping.json", mapping)
    write_json(OUTPUT / "labels.json", labels)
    record = {
        "source_id": "luthier-composer",
        "track_ids": list(TITLES),
        "source_type": "creative_commons",
        "provider": "the luthier developers",
        "license_type": "CC0-1.0",
        "date_acquired": _COMPOSED.isoformat(),
        "ai_training_allowed": True,
        "evidence": "examples/tracks/LICENSE.md",
        "notes": "composed by recipes/mini/compose.py, rendered with FluidSynth, FluidR3 GM (MIT)",
    }
    write_json(OUTPUT / "sources.json", [record])


if __name__ == "__main__":
    main()
