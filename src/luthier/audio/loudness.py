"""Integrated loudness by ITU-R BS.1770-4: K-weighting, 400 ms blocks, two gates."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BLOCK_S, _STEP_S = 0.4, 0.1
_OFFSET_LU = -0.691
_ABSOLUTE_LUFS, _RELATIVE_LU = -70.0, -10.0
_FFT_SECONDS = 8  # filtered in pieces of about this length: bounds memory for long tracks


def integrated_loudness(samples: NDArray[np.float32], sample_rate: int) -> float | None:
    """Loudness of (channels, n) in LUFS; None when every block of 400 ms is below -70 LUFS.

    Channels count equally, which is BS.1770 for mono and stereo; a track below 400 ms is one block.
    """
    power = _step_powers(samples, sample_rate)
    width = round(_BLOCK_S / _STEP_S)
    if len(power) < width:
        blocks = np.array([power.mean()])
    else:
        blocks = np.convolve(power, np.full(width, 1 / width), mode="valid")
    loud = blocks[_lufs(blocks) > _ABSOLUTE_LUFS]
    if not loud.size:
        return None
    gated = loud[_lufs(loud) > float(_lufs(loud.mean())) + _RELATIVE_LU]
    return float(_lufs(gated.mean()))


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return _OFFSET_LU + 10 * np.log10(np.maximum(power, 1e-20))


def _step_powers(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Mean square of the K-weighted signal in every 100 ms step, summed over channels.

    An incomplete last step counts only when it is the only one.
    """
    step = round(_STEP_S * sample_rate)
    total = np.zeros(max(1, samples.shape[1] // step))
    for channel in samples:
        filtered = np.square(k_weighted(channel, sample_rate), dtype=np.float64)
        whole = filtered[: len(total) * step]
        if whole.size < step:
            total += whole.mean()
        else:
            total += whole.reshape(-1, step).mean(axis=1)
    return total


def k_weighted(channel: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """The K-weighting filter on one channel (n,).

    Both stages are recursive filters, slow in numpy: their impulse response, below -120 dB after
    half a second, is convolved by FFT instead (overlap-save).
    """
    response = _impulse_response(sample_rate)
    size = 1 << int(np.ceil(np.log2(_FFT_SECONDS * sample_rate)))
    size = min(size, 1 << int(np.ceil(np.log2(channel.size + response.size))))
    spectrum = np.fft.rfft(response, size).astype(np.complex64)
    history = response.size - 1
    useful = size - history
    padded = np.concatenate([np.zeros(history, np.float32), channel])
    out = np.empty(channel.size, np.float32)
    for start in range(0, channel.size, useful):
        piece = np.fft.irfft(np.fft.rfft(padded[start : start + size], size) * spectrum, size)
        count = min(useful, channel.size - start)
        out[start : start + count] = piece[history : history + count]
    return out


@lru_cache(maxsize=8)
def _impulse_response(sample_rate: int) -> NDArray[np.float32]:
    impulse = np.zeros(max(64, sample_rate // 2))
    impulse[0] = 1
    for numerator, denominator in k_coefficients(sample_rate):
        impulse = _filtered(impulse, numerator, denominator)
    result = impulse.astype(np.float32)
    result.setflags(write=False)
    return result


def _filtered(
    signal: NDArray[np.float64], b: tuple[float, ...], a: tuple[float, ...]
) -> NDArray[np.float64]:
    """A biquad, sample by sample (transposed direct form II); `a` without its leading 1."""
    out = np.empty_like(signal)
    first = second = 0.0
    for i, x in enumerate(signal.tolist()):
        y = b[0] * x + first
        first = b[1] * x - a[0] * y + second
        second = b[2] * x - a[1] * y
        out[i] = y
    return out


def k_coefficients(sample_rate: int) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """(b, a without the leading 1) of the high shelf and the high pass, for any rate.

    The analogue prototypes behind BS.1770's 48 kHz tables by the bilinear transform, as
    libebur128 does.
    """
    shelf_hz, shelf_gain_db, shelf_q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k = np.tan(np.pi * shelf_hz / sample_rate)
    high = 10 ** (shelf_gain_db / 20)
    band = high**0.4996667741545416
    norm = 1 + k / shelf_q + k * k
    shelf_b = (
        (high + band * k / shelf_q + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - band * k / shelf_q + k * k) / norm,
    )
    shelf_a = (2 * (k * k - 1) / norm, (1 - k / shelf_q + k * k) / norm)
    pass_hz, pass_q = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * pass_hz / sample_rate)
    norm = 1 + k / pass_q + k * k
    pass_a = (2 * (k * k - 1) / norm, (1 - k / pass_q + k * k) / norm)
    return [(shelf_b, shelf_a), ((1.0, -2.0, 1.0), pass_a)]
