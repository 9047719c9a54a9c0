"""Train mini from scratch: text encoder, condition encoder and denoiser jointly, the audio
tokenizer alongside.

Resumable: `state.pt` holds weights, averages, optimiser and the random state; a second run goes on
from it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from luthier.audio.keynames import Key
from luthier.files import atomic_file
from luthier.music.attention import plain_attention
from luthier.music.denoiser import encode_conditions
from luthier.music.model import MusicModel, save_model
from luthier.music.templates import instruction_for, lyrics_text
from luthier.progress import Display
from luthier.training.objective import (
    Batch,
    draw_timesteps,
    drop_conditions,
    mean_square,
    velocity_error,
)

from .build import code_rates, prompt_for
from .hearing import Hearing

TRAINED = ("transformer", "condition_encoder", "text_encoder")
_PULSES = (0, 1, 2, 4)  # bar, beat, eighths, sixteenths: multiples of the beat's rate
_FROM_SILENCE = instruction_for("text2music")
_PULSE_LAYER, _PULSE_WEIGHT = 2, 1.0
_COVER_FROM_STEP = 1500  # the tokenizer needs a while before its hints say anything
_LYRICS = lyrics_text("")
_FACTS = re.compile(
    r"- bpm: (?P<bpm>\S+)\n- timesignature: (?P<metre>\S+)\n- keyscale: (?P<key>.+)\n"
)
_KEYS = [Key(tonic=tonic, mode=mode).name for tonic in range(12) for mode in ("major", "minor")]
_FACTS_WEIGHT, _KEY_WEIGHT, _BEAT_WEIGHT = 0.1, 1.0, 2.0


@dataclass(frozen=True)
class Plan:
    """How long and how fast: a warm-up, a plateau, then a linear fall to zero over the last
    `decay` steps.
    """

    steps: int
    decay: int
    batch: int = 16
    learning_rate: float = 1e-3
    warm_up: int = 200
    average: float = 0.998
    save_every: int = 250
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, (self.steps - step) / max(1, self.decay))
        return self.learning_rate * rise * max(fall, 0.0)


class Facts(nn.Module):
    """Reads tempo and key off the mean condition token; only for training.

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
        timed = [
            i for i, f in enumerate(found) if f and f["bpm"].isdigit() and f["metre"].isdigit()
        ]
        if timed:
            beat = torch.tensor([int(found[i]["bpm"]) / 60 for i in timed])
            bar = beat / torch.tensor([float(found[i]["metre"]) for i in timed])
            asked = torch.cat([beat[:, None].expand(-1, 16), bar[:, None].expand(-1, 16)], dim=1)
            bumps = torch.exp(-0.5 * ((asked - self.rates) / self.widths).square())
            total = total + 10 * (self.tempo(mean[timed]).float() - bumps).square().mean()
        return total


class Pulse(nn.Module):
    """Reads the phase of bar, beat and its divisions off the denoiser's hidden states; only for
    training.

    To keep a tempo the denoiser has to turn a number and a time code into a beat. What the music
    says about that is faint and late; this asks an early layer for the phase itself.
    """

    def __init__(self, transformer: Any, frames_a_token: float, width: int) -> None:
        super().__init__()
        self.seconds_a_token = frames_a_token
        self.read = nn.Linear(width, 2 * len(_PULSES))
        self.hidden: Tensor | None = None
        transformer.layers[_PULSE_LAYER].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _given: Any, output: Tensor) -> None:
        self.hidden = output

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Mean squared error of the phases, over the rows that name tempo and metre: a scalar."""
        assert self.hidden is not None  # the denoiser has just run
        read = self.read(self.hidden).float()
        found = [(i, _FACTS.search(prompt)) for i, prompt in enumerate(prompts)]
        named = [(i, f["bpm"], f["metre"]) for i, f in found if f]
        timed = [(i, int(b) / 60, float(m)) for i, b, m in named if b.isdigit() and m.isdigit()]
        # Where there is a source, the time code is not, or not everywhere.
        if not timed or _FROM_SILENCE not in prompts[0]:
            return read.new_zeros(())
        rows, beats, metres = (torch.tensor(column) for column in zip(*timed, strict=True))
        multiples = [1 / metres if p == 0 else torch.full_like(metres, p) for p in _PULSES]
        hertz = beats[:, None] * torch.stack(multiples, dim=1)
        seconds = (torch.arange(read.shape[1]) + 0.5) * self.seconds_a_token
        phase = 2 * math.pi * hertz[:, None, :] * seconds[None, :, None]
        target = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        return (read[rows] - target).square().mean()


class Sampler:
    """Draws batches: crops that begin with a phrase, captions, a task."""

    def __init__(
        self, model: MusicModel, latents: NDArray[np.float16], labels: list[dict[str, Any]]
    ) -> None:
        self.model, self.latents, self.labels = model, latents, labels

    def batch(self, rng: random.Random, size: int, step: int) -> tuple[Batch, list[str]]:
        """A training batch and its prompts: one length, one task, mixed labels."""
        frames = rng.choice((100, 100, 150, 150, 200, 200, 300, 500))
        size = max(4, size * 200 // frames)
        task = rng.choices(("text2music", "repaint", "cover"), (0.88, 0.06, 0.06))[0]
        if task == "cover" and step < _COVER_FROM_STEP:
            task = "text2music"
        music = torch.zeros(size, frames, self.latents.shape[2])
        references = torch.zeros(size, self.model.spec.timbre_frames, self.latents.shape[2])
        prompts = []
        for i in range(size):
            index = rng.randrange(len(self.latents))
            row = self.labels[index] | {"task": task}
            clip = torch.from_numpy(self.latents[index].astype(np.float32))
            start = self._phrase_start(row, frames, len(clip), rng)
            music[i] = clip[start : start + frames]
            other = rng.randrange(len(clip) - references.shape[1] + 1)
            references[i] = clip[other : other + references.shape[1]]
            duration = frames / self.model.spec.frames_per_second
            prompts.append(prompt_for(row, rng.choice(row["captions"]), duration, rng))
        given = references if rng.random() < 0.1 else None
        states, mask = encode_conditions(self.model, prompts, [_LYRICS] * size, given)
        source, chunk = self._context(music, task, rng)
        context = torch.cat([source, chunk], dim=-1)
        return Batch(music, torch.ones(size, frames), states, mask, context), prompts

    def _phrase_start(
        self, row: dict[str, Any], frames: int, total: int, rng: random.Random
    ) -> int:
        """The first frame of a four-bar phrase: where the progression is back at the tonic."""
        phrase = 4 * row["timesignature"] * 60.0 / row["bpm"] * self.model.spec.frames_per_second
        return round(rng.randint(0, int((total - frames) / phrase)) * phrase)

    def _context(self, music: Tensor, task: str, rng: random.Random) -> tuple[Tensor, Tensor]:
        """Source latents and chunk mask of a task, as in playing."""
        frames = music.shape[1]
        silence = self.model.silence[:, :frames].expand_as(music)
        chunk = torch.ones_like(music)
        if task == "cover":
            with torch.no_grad():
                return hints(self.model, music), chunk
        if task == "repaint":
            width = rng.randint(frames // 6, frames // 2)
            start = rng.randint(0, frames - width)
            chunk = torch.zeros_like(music)
            chunk[:, start : start + width] = 1.0
            return torch.where(chunk > 0, silence, music), chunk
        return silence, chunk


def hints(model: MusicModel, music: Tensor) -> Tensor:
    """Music through the audio codes and back: (B, T, C), T a multiple of the pool window."""
    batch, frames, channels = music.shape
    window = model.spec.pool_window
    pooled = music[:, : frames // window * window].reshape(batch, -1, window, channels)
    quantized, _ = model.audio_tokenizer(pooled)
    decoded: Tensor = model.audio_detokenizer(quantized)
    return decoded


def tokenizer_loss(model: MusicModel, music: Tensor) -> Tensor:
    """Reconstruction error of the audio codes, with straight-through gradients past the
    rounding.
    """
    tokenizer, window = model.audio_tokenizer, model.spec.pool_window
    batch, frames, channels = music.shape
    pooled = music.reshape(batch, frames // window, window, channels)
    hidden = tokenizer.attention_pooler(tokenizer.audio_acoustic_proj(pooled))
    quantizer = tokenizer.quantizer
    levels = torch.tensor(quantizer.levels, dtype=torch.float32)
    bound = 1.0 + 1.0 / (levels - 1.0)
    codes = torch.tanh(quantizer.project_in(hidden) / bound) * bound
    rounded = codes + (quantizer._quantize(codes) - codes).detach()
    decoded = model.audio_detokenizer(quantizer.project_out(rounded))
    return (decoded - music).square().mean()


class Trainer:
    """The loop: one optimiser for what plays, one for the audio codes, running averages of the
    weights.
    """

    def __init__(self, model: MusicModel, plan: Plan, output: Path) -> None:
        self.model, self.plan, self.output = model, plan, output
        parts = model.modules()
        self.played = nn.ModuleDict({name: parts[name] for name in TRAINED})
        codes = nn.ModuleDict({n: parts[n] for n in ("audio_tokenizer", "audio_detokenizer")})
        self.played.train()
        codes.train()
        self.averages = {n: p.detach().clone() for n, p in self.played.named_parameters()}
        self.optimiser = torch.optim.AdamW(
            self.played.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
        )
        self.code_optimiser = torch.optim.AdamW(codes.parameters(), lr=1e-3, betas=(0.9, 0.98))
        self.codes = codes
        self.text_facts = Facts(model.condition_encoder.config.hidden_size)
        spec = model.spec
        token_s = spec.patch_size / spec.frames_per_second
        self.pulse = Pulse(model.transformer, token_s, model.transformer.config.hidden_size)
        self.facts = nn.ModuleDict({"text": self.text_facts, "pulse": self.pulse})
        self.facts_optimiser = torch.optim.AdamW(self.facts.parameters(), lr=1e-3)
        self.step = 0
        self.losses: list[tuple[int, float]] = []

    def run(self, sampler: Sampler, display: Display) -> None:
        """Train until the plan's last step, saving as it goes."""
        self._resume()
        sample = torch.from_numpy(sampler.latents[:256].astype(np.float32))
        hearing = Hearing(self.model.vae, sample)
        null = self.model.condition_encoder.null_condition_emb
        shown: dict[str, float] = {}
        # On a CPU in bfloat16 plain products train several times faster than the fused attention.
        plain = plain_attention(self.played)
        with plain, display.task("mini", self.plan.steps) as task:
            task.advance(self.step)
            while self.step < self.plan.steps:
                seed = self.plan.seed + self.step
                rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
                with torch.autocast("cpu", torch.bfloat16):
                    batch, prompts = sampler.batch(rng, self.plan.batch, self.step)
                    music = batch.music
                    told = self.text_facts(batch.encoder_states, batch.encoder_mask, prompts)
                    drop_conditions(batch, null, generator)
                    times = draw_timesteps(self.model.spec, len(music), generator)
                    noise = torch.randn(music.shape, generator=generator)
                    error = velocity_error(self.model.transformer, batch, times, noise)
                    pulse = self.pulse(prompts)
                loss = mean_square(error, batch.frame_mask)
                key_loss, beat_loss = hearing.loss(times[:, None, None] * error)
                with torch.autocast("cpu", torch.bfloat16):
                    code_loss = tokenizer_loss(self.model, music[:4])
                heard = _FACTS_WEIGHT * told + _KEY_WEIGHT * key_loss + _BEAT_WEIGHT * beat_loss
                heard = heard + _PULSE_WEIGHT * pulse
                self._update(loss + heard, code_loss)
                parts = {"loss": loss, "codes": code_loss, "facts": told, "pulse": pulse}
                for name, value in (parts | {"key": key_loss, "beat": beat_loss}).items():
                    shown[name] = 0.98 * shown.get(name, value.item()) + 0.02 * value.item()
                self.step += 1
                task.advance(note=" ".join(f"{n} {v:.3f}" for n, v in shown.items()))
                if self.step % self.plan.save_every == 0 or self.step == self.plan.steps:
                    self.losses.append((self.step, shown["loss"]))
                    self.save()

    def _update(self, loss: Tensor, code_loss: Tensor) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        self.code_optimiser.zero_grad(set_to_none=True)
        self.facts_optimiser.zero_grad(set_to_none=True)
        (loss + code_loss).backward()
        nn.utils.clip_grad_norm_(self.played.parameters(), 1.0)
        self.optimiser.step()
        self.code_optimiser.step()
        self.facts_optimiser.step()
        decay = min(self.plan.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.played.named_parameters():
                self.averages[name].lerp_(value, 1 - decay)

    def save(self) -> None:
        """Write the resumable state and, with averaged weights, the model folder."""
        state = {
            "played": self.played.state_dict(),
            "codes": self.codes.state_dict(),
            "facts": self.facts.state_dict(),
            "averages": self.averages,
            "optimiser": self.optimiser.state_dict(),
            "code_optimiser": self.code_optimiser.state_dict(),
            "step": self.step,
            "losses": self.losses,
        }
        with atomic_file(self.output / "state.pt") as path:
            torch.save(state, path)
        trained = {n: p.detach().clone() for n, p in self.played.named_parameters()}
        self._load_parameters(self.averages)
        save_model(self.model, self.output / "model")
        self._load_parameters(trained)

    def _load_parameters(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.played.named_parameters():
                parameter.copy_(values[name])

    def _resume(self) -> None:
        path = self.output / "state.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        silence = self.model.silence.clone()
        self.played.load_state_dict(state["played"])
        self.model.silence.copy_(silence)
        self.codes.load_state_dict(state["codes"])
        self.facts.load_state_dict(state["facts"])
        self.averages = state["averages"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.code_optimiser.load_state_dict(state["code_optimiser"])
        self.step, self.losses = state["step"], state["losses"]
