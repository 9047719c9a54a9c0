"""The short-time Fourier transform as convolutions and matrix products: what trains here also
exports to ONNX.

A transform of N = P·Q points is P-point transforms and then, with the twist between folded into
their matrices, Q-point transforms (Cooley & Tukey 1965). The first is a convolution over blocks of
Q samples that takes framing and window along; its transpose joins frames by overlap-add. The second
is one matrix product for each residue of the bins modulo P, of which a real signal needs half.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

# Tables whose names begin so keep float32 in every precision: half a table is no table.
EXACT = "exact_"


class Spectrum(nn.Module):
    """Short-time Fourier transform with a window of four hops.

    Frame t is centred on the middle of hop t, so that T frames cover exactly `hop · T` samples.
    Inside, a spectrum is a grid (B, H, 2, Q, T): line k1 + P·k2 of the N lies at [k1, :, k2], real
    and imaginary part, for the H = P/2 + 1 smallest k1. Of every bin, the line or its mirror image
    is there. The tables follow the module from device to device and are no part of its saved state.

    Args:
        hop_length: samples from one frame to the next, even.
    """

    exact_small: Tensor
    exact_window: Tensor
    exact_twist: Tensor
    exact_large: Tensor
    exact_weight: Tensor
    exact_sign: Tensor
    bin_of: Tensor
    place_of: Tensor

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop = hop_length
        self.n_fft = 4 * hop_length
        self.bins = 2 * hop_length + 1
        self.p, self.q = _factors(self.n_fft)
        self.h = self.p // 2 + 1
        # P blocks a frame, a quarter of them a hop; half a frame less half a hop at either edge.
        self.stride, self.edge = (1, self.p // 4), (0, 3 * self.p // 8)
        n = torch.arange(self.n_fft, dtype=torch.float64).reshape(self.p, self.q)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi / self.n_fft * n)
        line = torch.arange(self.h)[:, None] + self.p * torch.arange(self.q)  # [k1, k2]
        lines, places = torch.arange(self.h)[:, None], torch.arange(self.q)
        small = _angles(lines * torch.arange(self.p), self.p)  # [k1, p]
        self._table("small", torch.stack([torch.cos(small), -torch.sin(small)], dim=1))
        self._table("window", window.T)
        self._table("twist", _both(_angles(lines * places, self.n_fft)))  # [part, k1, q]
        self._table("large", _both(_angles(places[:, None] * places, self.q)))  # [part, k2, q]
        # Two residues hold bins beside their mirror images; any other line stands for two.
        whole = 2 * torch.arange(self.h) % self.p == 0
        weight = torch.where(whole, 1.0, 2.0) / self.n_fft
        self._table("weight", weight[:, None, None, None])
        mirrored = (line > self.n_fft // 2).flatten()
        self._table("sign", torch.where(mirrored, -1.0, 1.0)[None, :, None])
        bins = torch.minimum(line, self.n_fft - line).flatten()
        place = torch.empty(self.bins, dtype=torch.int64)
        for chosen in (mirrored, ~mirrored):  # the bin itself where it is there
            place[bins[chosen]] = torch.arange(len(bins))[chosen]
        self.register_buffer("bin_of", bins, persistent=False)
        self.register_buffer("place_of", place, persistent=False)

    def _table(self, name: str, values: Tensor) -> None:
        table = values.to(torch.float32).contiguous()
        self.register_buffer(EXACT + name, table, persistent=False)

    def analyse(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Audio (B, hop·T) → real and imaginary part, each (B, T, bins)."""
        return self._parts(self._forward(self._blocks(audio)))

    def synthesise(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Least-squares inverse (Griffin & Lim, 1984): spectra (B, T, bins) → audio (B, hop·T)."""
        re, im = self._lines(real), self._lines(imaginary) * self.exact_sign
        grid = torch.stack([self._grid(re), self._grid(im)], dim=2)
        blocks = self._backward(grid * self.exact_weight) * self._inverse_energy(real.shape[1])
        return blocks.transpose(1, 3).reshape(real.shape[0], -1)

    def phase(
        self, magnitude: Tensor, iterations: int, momentum: float = 0.99
    ) -> tuple[Tensor, Tensor]:
        """Fast Griffin–Lim (Perraudin, Balazs & Søndergaard, 2013): cosine and sine of a phase for
        (B, T, bins).

        Starts from sinusoids at the bins' centres, which is what a steady tone would have. A round
        goes on from s + m·(s − s₀), the spectra of this round and of the last. Only its phase
        counts, and spectra are linear in audio: x − m/(1 + m)·x₀ of their audio does as well.
        """
        weighted = self._grid(self._lines(magnitude))[:, :, None] * self.exact_weight
        inverse_energy = self._inverse_energy(magnitude.shape[1])
        grid = self._tones(magnitude)
        last: Tensor | None = None
        for _ in range(iterations):
            blocks = self._backward(grid * (weighted / _length(grid))) * inverse_energy
            ahead = blocks if last is None else blocks - momentum / (1 + momentum) * last
            grid, last = self._forward(ahead), blocks
        return self._parts(grid / _length(grid))

    def _tones(self, magnitude: Tensor) -> Tensor:
        """What a steady tone at each bin's centre has: a grid (1, H, 2, Q, T)."""
        t = torch.arange(magnitude.shape[1], device=magnitude.device)
        quarters = (self.bin_of[:, None] * t) % 4
        turns = quarters.to(magnitude.dtype)[None] * (math.pi / 2)
        re, im = torch.cos(turns), torch.sin(turns) * self.exact_sign
        return torch.stack([self._grid(re), self._grid(im)], dim=2)

    def _blocks(self, audio: Tensor) -> Tensor:
        """Audio (B, hop·T) → (B, Q, 1, T·P/4), a row for each place in a block of Q samples."""
        return audio.reshape(audio.shape[0], 1, -1, self.q).permute(0, 3, 1, 2)

    def _forward(self, blocks: Tensor) -> Tensor:
        """Blocks → grid."""
        batch = blocks.shape[0]
        first = conv2d(
            blocks, self._kernels(), stride=self.stride, padding=self.edge, groups=self.q
        )
        first = first.reshape(batch, self.q, 2 * self.h, -1).transpose(1, 2)
        grid = self._matrices() @ first.reshape(batch, self.h, 2 * self.q, -1)
        return grid.reshape(batch, self.h, 2, self.q, -1)

    def _backward(self, grid: Tensor) -> Tensor:
        """Weighted grid → the sum of its windowed frames, in blocks: the adjoint of `_forward`."""
        batch = grid.shape[0]
        last = self._matrices().transpose(1, 2)
        first = last @ grid.reshape(batch, self.h, 2 * self.q, -1)
        first = first.reshape(batch, 2 * self.h, self.q, -1).transpose(1, 2)
        first = first.reshape(batch, 2 * self.h * self.q, 1, -1)
        return conv_transpose2d(
            first, self._kernels(), stride=self.stride, padding=self.edge, groups=self.q
        )

    def _kernels(self) -> Tensor:
        """P-point transforms of windowed blocks, for each q: (Q·2·H, 1, 1, P)."""
        small = self.exact_small.reshape(1, 2 * self.h, self.p)
        return (small * self.exact_window[:, None]).reshape(-1, 1, 1, self.p)

    def _matrices(self) -> Tensor:
        """Q-point transforms with the twist before them, for each k1: (H, 2·Q, 2·Q), from real and
        imaginary parts to the same.
        """
        (cos, sin), (large_cos, large_sin) = self.exact_twist[:, :, None], self.exact_large
        c = large_cos * cos - large_sin * sin  # [k1, k2, q]
        s = large_sin * cos + large_cos * sin
        return torch.cat([torch.cat([c, s], dim=2), torch.cat([-s, c], dim=2)], dim=1)

    def _inverse_energy(self, frames: int) -> Tensor:
        """One over the sum of the squared windows, in blocks."""
        squares = (self.exact_window * self.exact_window).reshape(self.q, 1, 1, self.p)
        ones = squares.new_ones(1, self.q, 1, 1).expand(-1, -1, -1, frames)
        energy = conv_transpose2d(
            ones, squares, stride=self.stride, padding=self.edge, groups=self.q
        )
        return 1.0 / energy.clamp_min(1e-3)

    def _lines(self, spectrum: Tensor) -> Tensor:
        """(B, T, bins) → (B, H·Q, T): every line's bin."""
        return spectrum.transpose(1, 2).index_select(1, self.bin_of)

    def _grid(self, lines: Tensor) -> Tensor:
        return lines.reshape(lines.shape[0], self.h, self.q, -1)

    def _parts(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Grid → real and imaginary part, each (B, T, bins)."""
        batch, frames = grid.shape[0], grid.shape[-1]
        re, im = (part.reshape(batch, -1, frames) for part in (grid[:, :, 0], grid[:, :, 1]))
        chosen = [
            part.index_select(1, self.place_of).transpose(1, 2)
            for part in (re, im * self.exact_sign)
        ]
        return chosen[0], chosen[1]


def _length(grid: Tensor) -> Tensor:
    """Magnitudes (B, H, 1, Q, T) of a grid, never 0."""
    return torch.sqrt((grid * grid).sum(dim=2, keepdim=True) + 1e-12)


def _both(angle: Tensor) -> Tensor:
    """Cosine and sine, stacked in front."""
    return torch.stack([torch.cos(angle), torch.sin(angle)])


def _factors(n: int) -> tuple[int, int]:
    """P · Q = n with P ≤ Q as close as can be, but P a multiple of eight: a hop and the edge beside
    the first frame are whole numbers of blocks. n is a multiple of eight.
    """
    p = max((p for p in range(8, math.isqrt(n) + 1, 8) if n % p == 0), default=8)
    return p, n // p


def _angles(product: Tensor, period: int) -> Tensor:
    """2π · product / period in float64; whole turns are taken off first, to stay exact."""
    return (2 * math.pi / period) * (product % period).to(torch.float64)
