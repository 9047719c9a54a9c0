"""Train mini, from nothing or from weights it has: text encoder, condition encoder and denoiser
jointly, the audio tokenizer alongside.

Resumable: `state.pt` holds weights, averages and optimisers, and every step draws from a seed of
its own; a second run goes on from it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from luthier.files import atomic_file
from luthier.music.torch.attention import plain_attention
from luthier.music.torch.model import MusicModel, save_model
from luthier.music.training.objective import (
    draw_timesteps,
    drop_conditions,
    mean_square,
    velocity_error,
)
from luthier.progress import Display

from .codes import tokenizer_loss
from .hearing import Hearing
from .probes import Facts, Pulse
from .sampler import Sampler

_HEARD_CLIPS = 256  # to scale the hearing losses by
TRAINED = ("transformer", "condition_encoder", "text_encoder")
# What each loss counts; the audio codes share no weight with the others.
WEIGHTS = {"loss": 1.0, "facts": 0.1, "key": 1.0, "beat": 2.0, "pulse": 1.0, "codes": 1.0}


@dataclass(frozen=True)
class Plan:
    """How long and how fast: a warm-up, a plateau, then a linear fall to zero over the last
    `decay` steps.

    `probes_alone` are first steps in which the probes learn to read a model that is there already,
    before they may teach it. Without `codes` the audio codes stay as they are.
    """

    steps: int
    decay: int
    batch: int = 16
    learning_rate: float = 1e-3
    warm_up: int = 200
    average: float = 0.998
    save_every: int = 100
    seed: int = 0
    probes_alone: int = 0
    codes: bool = True

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, (self.steps - step) / max(1, self.decay))
        return self.learning_rate * rise * max(fall, 0.0)


class Trainer:
    """The loop: one optimiser for what plays, one for the audio codes, one for the probes, and
    running averages of the weights.
    """

    def __init__(self, model: MusicModel, plan: Plan, output: Path) -> None:
        self.model, self.plan, self.output = model, plan, output
        parts, spec = model.modules(), model.spec
        self.played = nn.ModuleDict({name: parts[name] for name in TRAINED})
        self.codes = nn.ModuleDict({n: parts[n] for n in ("audio_tokenizer", "audio_detokenizer")})
        self.played.train()
        self.codes.train()
        self.averages = {n: p.detach().clone() for n, p in self.played.named_parameters()}
        self.text_facts = Facts(model.condition_encoder.config.hidden_size)
        token_s = spec.patch_size / spec.frames_per_second
        self.pulse = Pulse(model.transformer, token_s, model.transformer.config.hidden_size)
        self.facts = nn.ModuleDict({"text": self.text_facts, "pulse": self.pulse})
        self.optimiser = torch.optim.AdamW(
            self.played.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
        )
        self.code_optimiser = torch.optim.AdamW(self.codes.parameters(), lr=1e-3, betas=(0.9, 0.98))
        self.facts_optimiser = torch.optim.AdamW(self.facts.parameters(), lr=1e-3)
        self.step = 0
        self.losses: list[tuple[int, float]] = []

    def run(self, sampler: Sampler, display: Display) -> None:
        """Train until the plan's last step, saving as it goes."""
        self._resume()
        hearing = Hearing(self.model.vae, torch.from_numpy(sampler.corpus.mixes(_HEARD_CLIPS)))
        shown: dict[str, float] = {}
        # On a CPU in bfloat16 plain products train several times faster than the fused attention.
        plain = plain_attention(self.played)
        with plain, display.task("mini", self.plan.steps) as task:
            task.advance(self.step)
            while self.step < self.plan.steps:
                parts = self._losses(sampler, hearing)
                self._update(parts)
                for name, value in parts.items():
                    shown[name] = 0.98 * shown.get(name, value.item()) + 0.02 * value.item()
                self.step += 1
                task.advance(note=" ".join(f"{n} {v:.3f}" for n, v in shown.items()))
                if self.step % self.plan.save_every == 0 or self.step == self.plan.steps:
                    self.losses.append((self.step, shown["loss"]))
                    self.save()

    def _losses(self, sampler: Sampler, hearing: Hearing) -> dict[str, Tensor]:
        """Draw the batch of this step; every loss on it by its name in `WEIGHTS`, unweighted."""
        seed = self.plan.seed + self.step
        rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        null = self.model.condition_encoder.null_condition_emb
        alone = self.step < self.plan.probes_alone
        with torch.autocast("cpu", torch.bfloat16):
            batch, prompts = sampler.batch(rng, self.plan.batch, self.step)
            music = batch.music
            states = batch.encoder_states
            told = self.text_facts(
                states.detach() if alone else states, batch.encoder_mask, prompts
            )
            drop_conditions(batch, null, generator)
            times = draw_timesteps(self.model.spec, len(music), generator)
            noise = torch.randn(music.shape, generator=generator)
            error = velocity_error(self.model.transformer, batch, times, noise)
            pulse = self.pulse(prompts, detached=alone)
        loss = mean_square(error, batch.frame_mask)
        key, beat = hearing.loss(times[:, None, None] * error)
        losses = {"loss": loss, "facts": told, "pulse": pulse, "key": key, "beat": beat}
        if self.plan.codes:
            with torch.autocast("cpu", torch.bfloat16):
                losses["codes"] = tokenizer_loss(self.model, music[:4])
        return losses

    def _update(self, parts: dict[str, Tensor]) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        optimisers = (self.optimiser, self.code_optimiser, self.facts_optimiser)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.played.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
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
            "facts_optimiser": self.facts_optimiser.state_dict(),
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
        self.facts_optimiser.load_state_dict(state["facts_optimiser"])
        self.step, self.losses = state["step"], state["losses"]
