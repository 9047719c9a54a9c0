"""`python -m recipes.mini`: mini from nothing, step by step; a step that is done is not done again.

Each step reads and writes under --work. The steps, in order: codec-audio, projection, corpus,
tokenizer, train, decoder, pack, graphs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from luthier.files import read_json, write_json
from luthier.music.export.export import export_model
from luthier.music.torch.autoencoder import MiniAutoencoder, autoencoder_from
from luthier.music.torch.model import load_model, save_model
from luthier.progress import Display

from . import corpus, fit_codec
from .build import SPEC, build_model, style_texts, train_tokenizer
from .compose import compose
from .sampler import Sampler
from .styles import LOFI
from .train import Plan, Trainer

STEPS = ("codec-audio", "projection", "corpus", "tokenizer", "train", "decoder", "pack", "graphs")
_CODEC_CLIPS = 800
PACKAGE = Path(__file__).parents[2] / "src" / "luthier" / "music" / "mini"


class Recipe:
    """One step a method; `work` holds everything in between."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work, self.display = args, args.work, Display()

    def codec_audio(self) -> None:
        """Render the audio that the codec is fitted on."""
        path = self.work / "codec_audio.npy"
        if not path.is_file():
            np.save(path, fit_codec.render_audio(_CODEC_CLIPS, 24_000, self.display))

    def projection(self) -> None:
        """Fit the encoder; from here on the latents are fixed."""
        if (self.work / "codec0" / "config.json").is_file():
            return
        model = MiniAutoencoder()
        fit_codec.fit_projection(model, np.load(self.work / "codec_audio.npy", mmap_mode="r"), 60)
        model.save_pretrained(self.work / "codec0")

    def corpus(self) -> None:
        """Render, encode and label the training music and its tracks."""
        corpus.make_corpus(
            self._start_codec() or self.work / "codec0",
            self.work / "latents",
            self.args.clips,
            self.args.workers,
            self.display,
        )

    def tokenizer(self) -> None:
        """Train the text tokenizer on the captions of the corpus and of the style that is held
        out.
        """
        path = self.work / "tokenizer.json"
        if path.is_file():
            return
        scores = [compose(seed) for seed in range(2000)]
        scores += [compose(seed, styles=(LOFI,)) for seed in range(200)]
        train_tokenizer([corpus.labels_of(s) for s in scores], style_texts()).save(str(path))

    def train(self) -> None:
        """Train denoiser, condition encoder, text encoder and audio tokenizer."""
        plan = Plan(self.args.steps_train, self.args.decay, learning_rate=self.args.learning_rate)
        latents = corpus.load_corpus(self.work / "latents")
        if self.args.start:
            model = load_model(self.args.start)
            sampler = Sampler(model, latents, all_tasks_from=0)
            plan = replace(plan, warm_up=100, probes_alone=150, codes=False)
        else:
            tokenizer = Tokenizer.from_file(str(self.work / "tokenizer.json"))
            model = build_model(tokenizer, self.work / "codec0")
            sampler = Sampler(model, latents)
        output = self.work / "train"
        output.mkdir(exist_ok=True)
        Trainer(model, plan, output).run(sampler, self.display)

    def decoder(self) -> None:
        """Train the decoder of the codec."""
        output = self.work / "codec"
        if (output / "done.json").is_file():
            return
        model = fit_codec.sized_decoder(self.work / "codec0")
        audio = np.load(self.work / "codec_audio.npy", mmap_mode="r")
        fit_codec.train_decoder(model, audio, self.args.decoder_steps, output, self.display)
        write_json(output / "done.json", fit_codec.held_out_error(model))

    def pack(self) -> None:
        """Join denoiser and decoder, and put the model into the package, in float16."""
        model = load_model(self.work / "train" / "model", verify=False)
        model.spec = SPEC
        model.vae = autoencoder_from(self._start_codec() or self.work / "codec")
        save_model(model, PACKAGE / "torch", dtype=torch.float16)

    def graphs(self) -> None:
        """Export the package's model: alone, this brings its graphs up to a newer exporter."""
        export_model(
            PACKAGE / "torch", PACKAGE / "onnx", precision="int8", verify=True, display=self.display
        )
        self._record()

    def _start_codec(self) -> Path | None:
        # Who goes on from a model keeps its latents, and so its autoencoder.
        return self.args.start / "vae" if self.args.start else None

    def _record(self) -> None:
        """What the shipped model was made from; no path of this machine."""
        path = PACKAGE / "onnx" / "run.json"
        record = read_json(path)
        record["inputs"][0]["path"] = "../torch"
        record["command"] = ["python", "-m", "recipes.mini"]
        record["licences"] = ["CC0-1.0 (composed by the recipe)", "MIT (FluidR3 GM sound font)"]
        write_json(path, record)


def _step(text: str) -> str:
    # argparse's own `choices` would refuse the empty list that stands for all steps.
    if text not in STEPS:
        raise argparse.ArgumentTypeError(f"{text!r} is no step: choose {', '.join(STEPS)}")
    return text


def main() -> None:
    """Run the steps that were asked for, in order."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini", description=__doc__)
    parser.add_argument("steps", nargs="*", type=_step, metavar="STEP", help="all by default")
    parser.add_argument("--work", type=Path, default=Path("work/mini"))
    parser.add_argument("--clips", type=int, default=4500, help="clips of training music")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--steps-train", type=int, default=5000)
    parser.add_argument("--decay", type=int, default=1500, help="last steps, learning rate to zero")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--start", type=Path, help="go on from this model folder, not from nothing")
    parser.add_argument("--decoder-steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(args)
    for step in STEPS:
        if step in (args.steps or STEPS):
            getattr(recipe, step.replace("-", "_"))()


if __name__ == "__main__":
    main()
