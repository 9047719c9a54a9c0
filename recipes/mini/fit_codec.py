"""Fit mini's autoencoder: the projection in closed form, then the decoder by gradient descent.

The projection fixes the latents, so the denoiser can be trained while the decoder is still
learning.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from luthier.music.torch.autoencoder import MiniAutoencoder
from luthier.progress import Display

from .compose import compose
from .corpus import CLIP_S, HELD_OUT_SEED
from .lofi import age
from .render import Synth, mix
from .styles import LOFI

_FIT_SEED = 20_000_000


def render_audio(clips: int, sample_rate: int, display: Display) -> NDArray[np.int16]:
    """Clips for the codec alone (clips, 2, samples); one in eight is lo-fi, so that its noise can
    be decoded too.
    """
    synth = Synth(sample_rate)
    samples = int(CLIP_S * sample_rate)
    audio = np.zeros((clips, 2, samples), np.int16)
    with display.task("codec audio", clips) as task:
        for i in range(clips):
            seed = _FIT_SEED + i
            if i % 8 == 7:
                score = compose(seed, styles=(LOFI,), duration_s=CLIP_S)
                clip = age(mix(synth.render(score)), sample_rate, seed)
            else:
                clip = mix(synth.render(compose(seed, duration_s=CLIP_S)))
            audio[i] = np.round(clip[:, :samples] * 32767)
            task.advance()
    return audio


def fit_projection(
    model: MiniAutoencoder, audio: NDArray[np.int16], frames_a_clip: int = 120
) -> None:
    """Fit the encoder on a random sample of frames."""
    rng = np.random.default_rng(0)
    chosen = []
    with torch.no_grad():
        for clip in audio:
            features = model.features(_batch(clip[None]))[0]
            chosen.append(
                features[torch.from_numpy(rng.permutation(len(features))[:frames_a_clip])]
            )
        model.fit_projection(torch.cat(chosen))


def _batch(clips: NDArray[np.int16]) -> torch.Tensor:
    return torch.from_numpy(clips.astype(np.float32) / 32767)


def train_decoder(
    model: MiniAutoencoder,
    audio: NDArray[np.int16],
    steps: int,
    output: Path,
    display: Display,
) -> None:
    """Train the decoder on compressed magnitudes: L1 + L2, weighted towards where hearing is
    fine.
    """
    rng = np.random.default_rng(1)
    hop, rate = model.config.hop_length, model.config.sample_rate
    length, batch = 100 * hop, 12
    bins = model.spectrum.bins
    hertz = torch.linspace(0, rate / 2, bins)
    weight = (1 + hertz / 1000.0).pow(-0.5).repeat(2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1e-3, total_steps=steps, pct_start=0.05
    )
    model.train()
    average = 0.0
    with display.task("codec", steps) as task:
        for step in range(steps):
            rows = rng.integers(0, len(audio), batch)
            starts = rng.integers(0, (audio.shape[2] - length) // hop, batch) * hop
            clips = np.stack(
                [audio[r, :, s : s + length] for r, s in zip(rows, starts, strict=True)]
            )
            with torch.no_grad():
                target = model.features(_batch(clips) * float(rng.uniform(0.5, 1.2)))
                latents = ((target - model.mean) @ model.basis).transpose(1, 2)
                # A denoiser's latents are never exact: the decoder learns to live with that.
                latents = latents + 0.05 * torch.randn_like(latents)
            with torch.autocast("cpu", torch.bfloat16):
                decoded = model.decode_features(latents)
            error = (decoded.float() - target) * weight
            loss = error.abs().mean() + 2.0 * error.square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
            task.advance(note=f"loss {average:.4f}")
            if step % 500 == 499:
                model.save_pretrained(output)
    model.eval()
    model.save_pretrained(output)


def held_out_error(model: MiniAutoencoder, clips: int = 24) -> dict[str, float]:
    """Normalised error of decoded compressed magnitudes on held-out clips, by projection alone and
    with the network.
    """
    synth = Synth(model.config.sample_rate)
    linear = network = total = 0.0
    with torch.no_grad():
        for i in range(clips):
            clip = mix(synth.render(compose(HELD_OUT_SEED + i, duration_s=CLIP_S)))
            samples = clip.shape[1] // model.config.hop_length * model.config.hop_length
            target = model.features(torch.from_numpy(clip[None, :, :samples]))
            latents = ((target - model.mean) @ model.basis).transpose(1, 2)
            total += float((target - model.mean).square().sum())
            linear += float(
                (latents.transpose(1, 2) @ model.inverse + model.mean - target).square().sum()
            )
            network += float((model.decode_features(latents) - target).square().sum())
    return {"projection": (linear / total) ** 0.5, "network": (network / total) ** 0.5}


def sized_decoder(fitted: Path) -> MiniAutoencoder:
    """The autoencoder as it ships, smaller than the default, with the fitted projection.

    All of mini has 40 MB in the package: torch weights in float16, and once more as ONNX, where
    the autoencoder is float16 again. Denoiser, encoders and codes take 31 MB of that, so that every
    parameter here costs four bytes of the rest. At width 192 and depth 5 it takes 7.5 MB; at the
    default's 256 and 6 it would take 13.1 MB.
    """
    model = MiniAutoencoder(width=192, depth=5)
    source = MiniAutoencoder.from_pretrained(fitted)
    for name in ("mean", "basis", "inverse"):
        getattr(model, name).copy_(getattr(source, name))
    return model
