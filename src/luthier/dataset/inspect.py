"""One audio file → everything that luthier can say about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.audio.decode import read_audio
from luthier.audio.key import estimate_key
from luthier.audio.keynames import Key
from luthier.audio.measure import Measures, measure, quality_score
from luthier.audio.tempo import Tempo, estimate_tempo


@dataclass(frozen=True)
class Inspection:
    """Levels, quality, tempo and key of one file."""

    path: Path
    measures: Measures
    quality_score: int
    reasons: list[str]
    tempo: Tempo
    key: Key

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "file": str(self.path),
            "quality_score": self.quality_score,
            "reasons": self.reasons,
            **asdict(self.measures),
            "bpm": self.tempo.bpm or None,
            "bpm_confidence": self.tempo.confidence,
            "beats_s": list(self.tempo.beats_s),
            "key": self.key.name,
            "key_confidence": self.key.confidence,
        }

    def to_text(self) -> str:
        """All of it, for people."""
        m = self.measures
        loudness = "silent" if m.loudness_lufs is None else f"{m.loudness_lufs:.1f} LUFS"
        bpm = f"{self.tempo.bpm:.1f} BPM" if self.tempo.bpm else "no pulse found"
        rows = {
            "file": str(self.path),
            "quality": f"{self.quality_score} of 100",
            "duration": f"{m.duration_s:.2f} s, {m.sample_rate} Hz, {m.channels} channels",
            "level": f"peak {m.peak_db:.1f} dB, RMS {m.rms_db:.1f} dB, {loudness}",
            "clipping": f"{m.clipping_ratio:.3%} of the samples",
            "silence": f"{m.silence_ratio:.1%} of the time",
            "DC offset": f"{m.dc_offset:+.4f}",
            "tempo": f"{bpm} (confidence {self.tempo.confidence:.2f})",
            "key": f"{self.key.name} (confidence {self.key.confidence:.2f})",
        }
        lines = [f"{name:<10}{value}" for name, value in rows.items()]
        return "\n".join(lines + [f"{'':<10}- {reason}" for reason in self.reasons])


def inspect_file(path: Path) -> Inspection:
    """Decode and measure one file; `AudioError` or `PathError` in a sentence when it cannot be."""
    samples, rate = read_audio(path)
    measures = measure(samples, rate)
    score, reasons = quality_score(measures)
    return Inspection(
        path=path,
        measures=measures,
        quality_score=score,
        reasons=reasons,
        tempo=estimate_tempo(samples, rate),
        key=estimate_key(samples, rate),
    )
