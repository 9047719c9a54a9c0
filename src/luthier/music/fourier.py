"""The short-time Fourier transform as matrix products: what trains here also exports to ONNX.

A transform of N = P·Q points is P-point transforms, a twist, and Q-point transforms (Cooley & Tukey
1965). Against products with N × N/2 matrices that is a tenth of the arithmetic, and tables of
kilobytes, not megabytes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Tables whose names begin so keep float32 in every precision: half a table is no table.
EXACT = "exact_"


class Spectrum(nn.Module):
    """Short-time Fourier transform with a window of four hops.

    Frame t is centred on the middle of hop t, so that T frames cover exactly `hop · T` samples.
    Inside, bin k = k1 + P·k2 lies at [k1, k2] of a P × (Q/2 + 1) grid. The tables follow the module
    from device to device and are no part of its saved state.

    Args:
        hop_length: samples from one frame to the next, even.
    """

    exact_first: Tensor
    exact_twist_cos: Tensor
    exact_twist_sin: Tensor
    exact_last_cos: Tensor
    exact_last_sin: Tensor
    exact_back: Tensor
    exact_back_cos: Tensor
    exact_back_sin: Tensor
    exact_weight: Tensor
    exact_window: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop = hop_length
        self.n_fft = 4 * hop_length
        self.bins = 2 * hop_length + 1
        self.p, self.q = _factors(self.n_fft)
        self.rows = self.q // 2 + 1
        small = _angles(self.p, self.p, self.p)  # [k1, p]
        twist = _angles(self.p, self.q, self.n_fft)  # [k1, q]
        large = _angles(self.q, self.rows, self.q)  # [q, k2]
        self._table("first", torch.cat([torch.cos(small), -torch.sin(small)]))
        self._table("twist_cos", torch.cos(twist))
        self._table("twist_sin", torch.sin(twist))
        self._table("last_cos", torch.cos(large))
        self._table("last_sin", torch.sin(large))
        self._table("back", torch.cat([torch.cos(small), -torch.sin(small)], dim=1))
        self._table("back_cos", torch.cos(large).T)
        self._table("back_sin", torch.sin(large).T)
        weight = torch.full((self.bins,), 2.0)  # a bin stands for its mirror image too
        weight[0] = weight[-1] = 1.0
        self._table("weight", self._to_grid(weight / self.n_fft))
        n = torch.arange(self.n_fft, dtype=torch.float64)
        self._table("window", 0.5 - 0.5 * torch.cos(2 * math.pi / self.n_fft * n))

    def _table(self, name: str, values: Tensor) -> None:
        table = values.to(torch.float32).contiguous()
        self.register_buffer(EXACT + name, table, persistent=False)

    def analyse(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Audio (B, hop·T) → real and imaginary part, each (B, T, bins)."""
        re, im = self._forward(self._frames(audio))
        return self._from_grid(re), self._from_grid(im)

    def synthesise(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Least-squares inverse (Griffin & Lim, 1984): spectra (B, T, bins) → audio (B, hop·T)."""
        weight = self.exact_weight
        frames = self._backward(self._to_grid(real) * weight, self._to_grid(imaginary) * weight)
        return self._audio(frames, self._inverse_energy(real.shape[1]))

    def phase(
        self, magnitude: Tensor, iterations: int, momentum: float = 0.99
    ) -> tuple[Tensor, Tensor]:
        """Fast Griffin–Lim (Perraudin, Balazs & Søndergaard, 2013): cosine and sine of a phase for
        (B, T, bins).

        Starts from sinusoids at the bins' centres, which is what a steady tone would have.
        """
        t = torch.arange(magnitude.shape[1], device=magnitude.device)
        k = torch.arange(self.bins, device=magnitude.device)
        turns = ((t[:, None] * k[None, :]) % 4).to(magnitude.dtype) * (math.pi / 2)
        c, s = self._to_grid(torch.cos(turns))[None], self._to_grid(torch.sin(turns))[None]
        weighted = self._to_grid(magnitude) * self.exact_weight
        inverse_energy = self._inverse_energy(magnitude.shape[1])
        last_re = last_im = torch.zeros_like(weighted)
        for i in range(iterations):
            audio = self._audio(self._backward(weighted * c, weighted * s), inverse_energy)
            re, im = self._forward(self._frames(audio))
            c, s = re, im
            if i:
                c, s = c + momentum * (re - last_re), s + momentum * (im - last_im)
            norm = torch.rsqrt(c * c + s * s + 1e-12)
            c, s, last_re, last_im = c * norm, s * norm, re, im
        return self._from_grid(c), self._from_grid(s)

    def _forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, N) → real and imaginary grid."""
        x = frames.reshape(*frames.shape[:-1], self.p, self.q)
        first = self.exact_first @ x
        re, im = first[..., : self.p, :], first[..., self.p :, :]
        cos, sin = self.exact_twist_cos, self.exact_twist_sin
        re, im = re * cos + im * sin, im * cos - re * sin
        cos, sin = self.exact_last_cos, self.exact_last_sin
        return re @ cos + im @ sin, im @ cos - re @ sin

    def _backward(self, re: Tensor, im: Tensor) -> Tensor:
        """Real and imaginary grid, already weighted → frames (B, T, N)."""
        cos, sin = self.exact_back_cos, self.exact_back_sin
        re, im = re @ cos - im @ sin, im @ cos + re @ sin
        cos, sin = self.exact_twist_cos, self.exact_twist_sin
        re, im = re * cos - im * sin, im * cos + re * sin
        x = self.exact_back @ torch.cat([re, im], dim=-2)
        return x.reshape(*x.shape[:-2], self.n_fft)

    def _to_grid(self, spectrum: Tensor) -> Tensor:
        """(…, bins) → (…, P, Q/2 + 1); what is beyond the last bin is zero."""
        padded = nn.functional.pad(spectrum, (0, self.p * self.rows - self.bins))
        return padded.reshape(*spectrum.shape[:-1], self.rows, self.p).transpose(-1, -2)

    def _from_grid(self, grid: Tensor) -> Tensor:
        flat = grid.transpose(-1, -2).reshape(*grid.shape[:-2], self.rows * self.p)
        return flat[..., : self.bins]

    def _frames(self, audio: Tensor) -> Tensor:
        """Audio (B, hop·T) → windowed frames (B, T, N)."""
        side = (self.n_fft - self.hop) // 2
        edge = audio.new_zeros(1).expand(audio.shape[0], side)
        blocks = torch.cat([edge, audio, edge], dim=1).reshape(audio.shape[0], -1, self.hop)
        count = blocks.shape[1] - 3
        frames = torch.cat([blocks[:, i : i + count] for i in range(4)], dim=-1)
        return frames * self.exact_window

    def _audio(self, frames: Tensor, inverse_energy: Tensor) -> Tensor:
        audio = self._overlap(frames * self.exact_window) * inverse_energy
        side = (self.n_fft - self.hop) // 2
        return audio[:, side : side + frames.shape[1] * self.hop]

    def _inverse_energy(self, frames: int) -> Tensor:
        squares = (self.exact_window * self.exact_window).expand(1, frames, -1)
        return 1.0 / self._overlap(squares).clamp_min(1e-3)

    def _overlap(self, frames: Tensor) -> Tensor:
        """Overlap-add frames (B, T, N) → (B, hop·(T+3))."""
        parts = frames.reshape(frames.shape[0], frames.shape[1], 4, self.hop)
        edge = parts[:, :1, 0] * 0.0
        total: Tensor | None = None
        for i in range(4):
            shifted = torch.cat([edge] * i + [parts[:, :, i]] + [edge] * (3 - i), dim=1)
            total = shifted if total is None else total + shifted
        assert total is not None
        return total.reshape(frames.shape[0], -1)


def _factors(n: int) -> tuple[int, int]:
    """P · Q = n with P ≤ Q as close as can be, and Q even; n is a multiple of four."""
    p = next(p for p in range(math.isqrt(n), 0, -1) if n % p == 0 and n // p % 2 == 0)
    return p, n // p


def _angles(rows: int, columns: int, period: int) -> Tensor:
    """2π·r·c / period in float64; the product is reduced first, to stay exact."""
    product = torch.arange(rows)[:, None] * torch.arange(columns)[None, :]
    return (2 * math.pi / period) * (product % period).to(torch.float64)
