"""What luthier writes opens in diffusers: tried in a process that cannot import luthier."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tiny_ace
from luthier.cli.main import main
from luthier.files import read_json
from luthier.music.evaluation.checkpoint_player import torch_pipeline
from luthier.music.mini import torch_folder
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import request_from
from luthier.music.torch.autoencoder import MiniAutoencoder
from luthier.music.torch.model import load_model, save_model
from luthier.training.config import config_from
from luthier.training.weights_io import prepare, save_trained

SEED, FRAMES = 3, 300

# The process: no luthier, latents of text2music from the noise of a file.
_ELSEWHERE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "luthier":
            raise ImportError("luthier is not here")
sys.meta_path.insert(0, Blocked())
import numpy as np, torch
from diffusers import AceStepPipeline
folder, noise, out, seconds, rate, steps = sys.argv[1:7]
given = {"vae": None} if sys.argv[7:] else {}
pipeline = AceStepPipeline.from_pretrained(folder, **given)
missing = [name for name, part in pipeline.components.items() if part is None]
assert missing == list(given), missing
if given:
    pipeline.latents_per_second = float(rate)
pipeline.set_progress_bar_config(disable=True)
latents = torch.from_numpy(np.load(noise))
made = pipeline(
    prompt="calm piano", lyrics="[Instrumental]", bpm=90, keyscale="A minor",
    audio_duration=float(seconds), num_inference_steps=int(steps), guidance_scale=1.0, shift=1.0,
    latents=latents, output_type="latent",
)
np.save(out, made.audios.numpy())
assert not any(name.split(".")[0] == "luthier" for name in sys.modules)
"""


def elsewhere(model: Path, work: Path, pipeline: MusicPipeline, *more: str) -> NDArray[np.float32]:
    """Latents that diffusers makes of `model` where luthier is not installed."""
    spec = pipeline.spec
    noise = np.random.default_rng(SEED).standard_normal(
        (1, FRAMES, spec.latent_channels), dtype=np.float32
    )
    np.save(work / "noise.npy", noise)
    seconds, rate = FRAMES / spec.frames_per_second, spec.frames_per_second
    asked = (model, work / "noise.npy", work / "theirs.npy", seconds, rate, spec.default_steps)
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, *map(str, asked), *more],
        capture_output=True, text=True, check=False, cwd=work,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return np.load(work / "theirs.npy")


def here(pipeline: MusicPipeline) -> NDArray[np.float32]:
    asked = {
        **{"prompt": "calm piano", "instrumental": True, "bpm": 90, "key": "A minor"},
        **{"duration": FRAMES / pipeline.spec.frames_per_second, "seed": SEED, "shift": 1},
        **{"guidance_scale": 1},
    }
    return pipeline.generate(request_from(asked)).latents


def adapter(base: Path, folder: Path) -> Path:
    tuned = copy.deepcopy(load_model(base).transformer)
    generator = torch.Generator().manual_seed(5)
    settings = config_from({"rank": 2, "alpha": 4.0})
    with torch.no_grad():
        for _, value in prepare(tuned, settings):
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    folder.mkdir()
    save_trained(tuned, folder, "tiny", full=False)
    return folder


@pytest.mark.parametrize(
    ("layout", "turbo"),
    [
        ("original", True),
        ("diffusers", False),
        pytest.param("original", False, marks=pytest.mark.slow),
        pytest.param("diffusers", True, marks=pytest.mark.slow),
    ],
)
def test_a_merged_model_opens_whole_and_makes_the_same_latents(
    tmp_path: Path, layout: str, turbo: bool
) -> None:
    made = tiny_ace.parts(turbo=turbo)
    write = tiny_ace.write_original if layout == "original" else tiny_ace.write_diffusers
    name = "acestep-v15-turbo" if turbo else "acestep-v15-base"
    base = write(tmp_path / ("hub" if layout == "original" else name), made)
    lora, out = adapter(base, tmp_path / "adapter"), tmp_path / "merged"
    assert main(["merge", "--base-model", str(base), "--adapter", str(lora),
                 "--output-dir", str(out)]) == 0  # fmt: skip
    pipeline = torch_pipeline(out, load_model(out))
    ours, theirs = here(pipeline), elsewhere(out, tmp_path, pipeline)
    assert ours.shape == theirs.shape
    assert np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)) < 5e-4
    plain = here(torch_pipeline(base, load_model(base)))
    assert np.sqrt(np.mean((plain - theirs) ** 2) / np.mean(theirs**2)) > 1e-2


def test_a_saved_ace_step_opens_whole(tmp_path: Path) -> None:
    base = tiny_ace.write_original(tmp_path / "hub", tiny_ace.parts(turbo=True))
    save_model(load_model(base), tmp_path / "saved")
    pipeline = torch_pipeline(tmp_path / "saved", load_model(tmp_path / "saved"))
    ours, theirs = here(pipeline), elsewhere(tmp_path / "saved", tmp_path, pipeline)
    assert np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)) < 5e-4


def test_of_mini_everything_but_the_autoencoder_opens(tmp_path: Path) -> None:
    pipeline = torch_pipeline(torch_folder(), load_model(torch_folder()))
    ours, theirs = here(pipeline), elsewhere(torch_folder(), tmp_path, pipeline, "without vae")
    assert ours.shape == theirs.shape
    assert np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)) < 5e-4


def test_where_luthier_is_installed_mini_opens_whole() -> None:
    from diffusers import AceStepPipeline  # MiniAutoencoder is imported above, as the docs say

    pipeline = AceStepPipeline.from_pretrained(torch_folder())
    assert isinstance(pipeline.vae, MiniAutoencoder)
    kind = read_json(torch_folder() / "model_index.json")["vae"]
    assert kind == ["luthier.music.torch.autoencoder", "MiniAutoencoder"]
