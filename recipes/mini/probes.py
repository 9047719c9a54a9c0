"""Two readers that exist only while mini is trained: is what the prompt asks for in its states?

Their errors are losses. They teach the text encoder to spread tempo and key, and the denoiser to
keep time, long before the music itself would.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from luthier.audio.keynames import Key
from luthier.music.templates import instruction_for

from .build import code_rates

_FACTS = re.compile(
    r"- bpm: (?P<bpm>\S+)\n- timesignature: (?P<metre>\S+)\n- keyscale: (?P<key>.+)\n"
)
_KEYS = [Key(tonic=tonic, mode=mode).name for tonic in range(12) for mode in ("major", "minor")]
_PULSES = (0, 1, 2, 4)  # bar, beat, eighths, sixteenths: multiples of the beat's rate
_PULSE_LAYER = 2
_FROM_SILENCE = instruction_for("text2music")


class Facts(nn.Module):
    """Reads tempo and key off the mean condition token.

    Cross-attention starts out even over some seventy tokens, in which the one that names the key
    is lost. This teaches the text encoder to spread tempo and key over the tokens that follow, so
    that the denoiser hears them from its first steps. Tempo is asked for as a bump over the rates
    of silence's time code: what it takes to pick the wave that goes with the beat.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        beats, bars = code_rates(32)
        self.register_buffer("rates", torch.cat([beats, bars]), persistent=False)
        widths = torch.cat([beats[1:2] - beats[:1]] * 16 + [bars[1:2] - bars[:1]] * 16)
        self.register_buffer("widths", widths, persistent=False)
        self.key = nn.Linear(width, 24)
        self.tempo = nn.Linear(width, 32)

    def forward(self, states: Tensor, mask: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cross-entropy of the key, squared error of the tempo's bumps, where named: a scalar."""
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        found = [_FACTS.search(prompt) for prompt in prompts]
        key = torch.tensor(
            [_KEYS.index(f["key"]) if f and f["key"] in _KEYS else -100 for f in found]
        )
        total = mean.new_zeros(()).float()
        if key.max() >= 0:
            total = total + nn.functional.cross_entropy(self.key(mean).float(), key)
        rows, beats, metres = _times(prompts)
        if rows:
            beat, bar = torch.tensor(beats), torch.tensor(beats) / torch.tensor(metres)
            asked = torch.cat([beat[:, None].expand(-1, 16), bar[:, None].expand(-1, 16)], dim=1)
            bumps = torch.exp(-0.5 * ((asked - self.rates) / self.widths).square())
            total = total + 10 * (self.tempo(mean[rows]).float() - bumps).square().mean()
        return total


class Pulse(nn.Module):
    """Reads the phase of bar, beat and its divisions off the denoiser's hidden states.

    To keep a tempo the denoiser has to turn a number and a time code into a beat. What the music
    says about that is faint and late; this asks an early layer for the phase itself.
    """

    def __init__(self, transformer: Any, seconds_a_token: float, width: int) -> None:
        super().__init__()
        self.seconds_a_token = seconds_a_token
        self.read = nn.Linear(width, 2 * len(_PULSES))
        self.hidden: Tensor | None = None
        transformer.layers[_PULSE_LAYER].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _given: Any, output: Tensor) -> None:
        self.hidden = output

    def forward(self, prompts: Sequence[str], *, detached: bool = False) -> Tensor:
        """Mean squared error of the phases, over the rows that name tempo and metre: a scalar.
        `detached` lets the reader learn, but not the denoiser.
        """
        assert self.hidden is not None  # the denoiser has just run
        read = self.read(self.hidden.detach() if detached else self.hidden).float()
        rows, beats, metres = _times(prompts)
        # Where there is a source, the time code is not, or not everywhere.
        silent = [_FROM_SILENCE in prompts[row] for row in rows]
        if not any(silent):
            return read.new_zeros(())
        rows = [row for row, kept in zip(rows, silent, strict=True) if kept]
        kept = torch.tensor(silent)
        beat, metre = torch.tensor(beats)[kept], torch.tensor(metres)[kept]
        multiples = [1 / metre if p == 0 else torch.full_like(metre, p) for p in _PULSES]
        hertz = beat[:, None] * torch.stack(multiples, dim=1)
        seconds = (torch.arange(read.shape[1]) + 0.5) * self.seconds_a_token
        phase = 2 * math.pi * hertz[:, None, :] * seconds[None, :, None]
        target = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        return (read[rows] - target).square().mean()


def _times(prompts: Sequence[str]) -> tuple[list[int], list[float], list[float]]:
    """The prompts that name tempo and metre: their numbers, beats a second, beats a bar."""
    found = [(i, _FACTS.search(prompt)) for i, prompt in enumerate(prompts)]
    named = [(i, f["bpm"], f["metre"]) for i, f in found if f]
    timed = [(i, int(b) / 60, float(m)) for i, b, m in named if b.isdigit() and m.isdigit()]
    return [i for i, _, _ in timed], [b for _, b, _ in timed], [m for _, _, m in timed]
