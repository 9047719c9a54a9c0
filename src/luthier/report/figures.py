"""Arrays → pictures for the page: a spectrogram as PNG, a loss curve and a waveform as SVG.

No plotting library: the PNG is written with zlib, the SVGs take their colours from the page's CSS
    classes.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luthier.audio.spectrum import log_mel

_BANDS = 128
_RANGE_DB = 72.0
_SILENCE_DB = -60.0
_LEVELS = 96  # shades; fewer compress better and look the same
# Ebony to bone; brightness rises all the way, so it reads without colour too.
_RAMP = (
    (11, 15, 20),
    (16, 44, 56),
    (28, 104, 101),
    (116, 148, 82),
    (228, 166, 58),
    (255, 244, 212),
)
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 30  # room for the axes, px
_FEW = 12  # points up to here are drawn as such


def png_bytes(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Encode palette indices (height, width) with their palette (≤ 256, 3) as an 8-bit PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bit, indexed
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter: 0, none
    rows[:, 1:] = pixels
    body = chunk(b"PLTE", palette.tobytes()) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def data_uri(data: bytes, media_type: str) -> str:
    """`data` as a data: URI, so that a page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def spectrogram_png(samples: NDArray[np.float32], sample_rate: int, *, width: int = 640) -> bytes:
    """A log-mel spectrogram of `samples` (channels, n) as PNG: pitch upwards, 72 dB of range."""
    shown_db = _log_mel_db(samples, sample_rate, hop=max(1, samples.shape[-1] // width))
    top = max(float(shown_db.max()), _SILENCE_DB)  # a silent clip stays dark
    shade = np.clip((shown_db - top + _RANGE_DB) / _RANGE_DB, 0.0, 1.0)
    return png_bytes((shade[::-1] * (_LEVELS - 1)).round().astype(np.uint8), _palette())


def _log_mel_db(samples: NDArray[np.float32], sample_rate: int, hop: int) -> NDArray[np.float32]:
    """Levels (bands, frames), lowest band first."""
    mono = samples.mean(axis=0, dtype=np.float32)
    return log_mel(mono, sample_rate, hop=hop, bands=_BANDS, floor_db=-140.0).T


def _palette() -> NDArray[np.uint8]:
    at = np.linspace(0, len(_RAMP) - 1, _LEVELS)
    stops = np.asarray(_RAMP, np.float64)
    channels = [np.interp(at, np.arange(len(_RAMP)), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """The mean of about `span` values around each, so that it does not lag; fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first = np.maximum(at - span // 2, 0)
    last = np.minimum(at + span // 2 + 1, len(values))
    means = (sums[last] - sums[first]) / (last - first)
    return [float(mean) for mean in means]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers between `low` and `high`, ends included where they are round."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def loss_svg(
    points: Sequence[tuple[int, float]],
    name: str = "training loss",
    size: tuple[int, int] = (720, 240),
) -> str:
    """A curve of (step, value) as SVG, points and smoothed course; empty below two points.

    Args:
        points: in the order of the steps.
        name: of the value, for those who cannot see the picture.
        size: width and height that its letters are made for, px; it scales with its place.
    """
    width, height = size
    kept = [(step, loss) for step, loss in points if math.isfinite(loss)]
    if len(kept) < 2:
        return ""
    steps, losses = [s for s, _ in kept], [v for _, v in kept]
    course = smoothed(losses, len(kept) // 12)
    # One spike must not flatten the curve: the axis ends at the 99th percentile.
    low, high = min(losses), float(np.percentile(losses, 99))
    high = high if high > low else low + max(abs(low) * 0.1, 1e-6)
    span = max(1, steps[-1] - steps[0])

    def place(step: float, loss: float) -> tuple[float, float]:
        x = _LEFT + (step - steps[0]) / span * (width - _LEFT - _RIGHT)
        share = min(1.0, max(0.0, (loss - low) / (high - low)))
        return x, _TOP + (1.0 - share) * (height - _TOP - _BOTTOM)

    grid = [_y_tick(tick, place(steps[0], tick)[1], width) for tick in ticks(low, high)]
    shown = [tick for tick in ticks(steps[0], steps[-1], width // 100) if tick == round(tick)]
    grid += [_x_tick(tick, place(tick, low)[0], height, tick == shown[0]) for tick in shown]
    thin = max(1, len(kept) // 900)  # a long run would make the page heavy
    raw = _path([place(s, v) for s, v in zip(steps[::thin], losses[::thin], strict=True)])
    line = _path([place(s, v) for s, v in zip(steps[::thin], course[::thin], strict=True)])
    dots = "".join(_dot(*place(s, v)) for s, v in kept) if len(kept) <= _FEW else ""
    label = f"{name} over {len(kept)} points, from {course[0]:.3g} to {course[-1]:.3g}"
    return (
        f'<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f"{''.join(grid)}"
        f'<path class="raw" d="{raw}"/><path class="line" d="{line}"/>{dots}</svg>'
    )


def _x_tick(value: float, x: float, height: int, is_first: bool) -> str:
    said = f"step {value:g}" if is_first else f"{value:g}"
    return f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{said}</text>'


def _y_tick(value: float, y: float, width: int) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
    )


def _dot(x: float, y: float) -> str:
    return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def waveform_svg(
    samples: NDArray[np.float32],
    sample_rate: int,
    beats_s: Sequence[float] = (),
    *,
    bins: int = 320,
) -> str:
    """The outline of `samples` (channels, n) as SVG, with a tick on every beat (seconds)."""
    mono = np.abs(samples.mean(axis=0))
    edges = np.linspace(0, len(mono), bins + 1).astype(int)
    peaks = [float(mono[a:b].max(initial=0.0)) for a, b in pairwise(edges)]
    scale = 19.0 / max(max(peaks), 1e-4)
    bars = "".join(f"M{i} {20 - p * scale:.1f}V{20 + p * scale:.1f}" for i, p in enumerate(peaks))
    duration_s = len(mono) / sample_rate
    grid = "".join(f"M{b / duration_s * bins:.1f} 33V40" for b in beats_s if 0 <= b <= duration_s)
    beats = f'<path class="beats" d="{grid}"/>' if grid else ""
    return (
        f'<svg class="wave" viewBox="0 0 {bins} 40" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="outline" d="{bars}"/>{beats}</svg>'
    )
