"""One audio file → everything that luthier can say about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from luthier.audio.excerpt import EXCERPT_RATE, LONGEST_S, MonoExcerpt
from luthier.audio.key import estimate_key
from luthier.audio.keynames import Key
from luthier.audio.measure import Measures, Meter, quality_score
from luthier.audio.reader import AudioReader
from luthier.audio.tempo import Tempo, estimate_tempo
from luthier.dataset.curate_file import remarks


@dataclass(frozen=True)
class Inspection:
    """Levels, quality, tempo and key of one file.

    Attributes:
        path: the file.
        codec: FFmpeg's name of what it is encoded with.
        bit_rate: of a lossy file, bit/s; None where the container does not say.
        measures: of the samples as decoded.
        quality_score: 0..100.
        reasons: what every lost point is for.
        remarks: what is worth knowing though it costs no points.
        tempo, key: of the first five minutes.
    """

    path: Path
    codec: str
    bit_rate: int | None
    measures: Measures
    quality_score: int
    reasons: list[str]
    remarks: list[str]
    tempo: Tempo
    key: Key

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "file": str(self.path),
            "quality_score": self.quality_score,
            "reasons": self.reasons,
            "remarks": self.remarks,
            "codec": self.codec,
            "bit_rate": self.bit_rate,
            **asdict(self.measures),
            "bpm": self.tempo.bpm or None,
            "bpm_confidence": self.tempo.confidence,
            "metre": self.tempo.metre or None,
            "beats_s": list(self.tempo.beats_s),
            "key": self.key.name,
            "key_confidence": self.key.confidence,
        }

    def to_text(self) -> str:
        """All of it, for people."""
        m = self.measures
        loudness = "silent" if m.loudness_lufs is None else f"{m.loudness_lufs:.1f} LUFS"
        coded = self.codec + (f", {self.bit_rate / 1000:.0f} kbit/s" if self.bit_rate else "")
        rows = {
            "file": str(self.path),
            "quality": f"{self.quality_score} of 100",
            "duration": f"{m.duration_s:.2f} s",
            "format": f"{coded}, {m.sample_rate} Hz, {m.channels} channels ({m.image})",
            "level": f"peak {m.peak_db:.1f} dB, true peak {m.true_peak_db:.1f} dB, "
            f"RMS {m.rms_db:.1f} dB",
            "loudness": loudness,
            "clipping": f"{m.clipping_ratio:.3%} of the samples, in {m.clips} runs",
            "silence": f"{m.silence_ratio:.1%} of the time",
            "DC offset": f"{m.dc_offset:+.4f}",
            "bandwidth": f"up to {(m.bandwidth_hz or 0) / 1000:.1f} kHz",
            "tempo": self._tempo_text(),
            "key": f"{self.key.name} (confidence {self.key.confidence:.2f})",
        }
        lines = [f"{name:<11}{value}" for name, value in rows.items()]
        return "\n".join(lines + [f"{'':<11}- {line}" for line in self.reasons + self.remarks])

    def _tempo_text(self) -> str:
        if not self.tempo.bpm:
            return "no pulse found"
        metre = f", {self.tempo.metre} beats a bar" if self.tempo.metre else ""
        return f"{self.tempo.bpm:.1f} BPM{metre} (confidence {self.tempo.confidence:.2f})"


def inspect_file(path: Path) -> Inspection:
    """Decode and measure one file of any length in bounded memory.

    Raises:
        AudioError, PathError: it cannot be decoded, in a sentence.
    """
    with AudioReader(path) as audio:
        meter = Meter(audio.sample_rate, audio.channel_names)
        excerpt = MonoExcerpt(audio.sample_rate, LONGEST_S)
        for block in audio.blocks(meter.block):
            meter.add(block)
            excerpt.add(block)
    measures = meter.result()
    score, reasons = quality_score(measures)
    samples = excerpt.samples()
    return Inspection(
        path=path,
        codec=audio.codec,
        bit_rate=audio.bit_rate,
        measures=measures,
        quality_score=score,
        reasons=reasons,
        remarks=remarks(measures),
        tempo=estimate_tempo(samples, EXCERPT_RATE),
        key=estimate_key(samples, EXCERPT_RATE),
    )
