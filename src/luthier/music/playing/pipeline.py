"""A request → music, on ONNX Runtime: prompts, conditions, noise, denoising, decoding. No torch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luthier.music.mini import onnx_folder
from luthier.music.playing.adapters import AdapterShelf, base_note, check_fit, feeds_of
from luthier.music.playing.encoder import Encoder
from luthier.music.playing.loaded_model import PlayableModel, open_exported
from luthier.music.playing.onnx_denoiser import Denoiser
from luthier.music.playing.pieces import Piece, Plan, plan_of
from luthier.music.playing.prepare import prepare, read_source, splice_of, with_seed
from luthier.music.playing.rendered_audio import Ending, Sound, Splice
from luthier.music.playing.sampler import sample
from luthier.music.request import MAX_SEED, MusicRequest
from luthier.music.request_lora import Lora
from luthier.music.spec import DENOISER
from luthier.progress import SILENT, Display
from luthier.runtime.cancel import Cancel, stop_if_asked
from luthier.runtime.pool import SessionPool
from luthier.runtime.runner import Placed
from luthier.runtime.tiles import decode_tiles

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Generated:
    """One piece of music and how it came about."""

    sound: Sound = field(repr=False)
    latents: Array = field(repr=False)  # [1, T, C]
    seed: int
    request: MusicRequest  # with everything resolved
    timings_s: dict[str, float]  # per stage, seconds; a batch's divided by its pieces

    @property
    def audio(self) -> Array:
        """The whole sound (2, n); `sound.blocks()` reads a long one without holding it."""
        return self.sound.read()

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.sound.sample_rate


class _Timer:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, share: int = 1) -> Iterator[None]:
        started = time.perf_counter()
        yield
        spent = self.seconds.get(name, 0.0) + (time.perf_counter() - started) / share
        self.seconds[name] = round(spent, 4)


@dataclass
class _Job:
    """A piece with what its sound needs, and the time it took so far."""

    piece: Piece
    splice: Splice | None
    timer: _Timer


class MusicPipeline:
    """Generates with one exported model.

    Args:
        folder: exported graphs; the built-in model when not given.
        threads: of ONNX Runtime; all cores when not given.
        provider: where to run: cpu, cuda, coreml, directml, or auto.
        pool: of the open graphs, with its memory limit; the process's own when not given.

    Raises:
        ModelError: the folder is missing, incomplete, damaged or of another version.
        RequestError: the provider is not there.
    """

    def __init__(
        self,
        folder: Path | None = None,
        threads: int | None = None,
        *,
        provider: str = "auto",
        pool: SessionPool | None = None,
    ) -> None:
        model = open_exported(folder or onnx_folder(), threads, provider=provider, pool=pool)
        self._play(model)

    @classmethod
    def of(cls, model: PlayableModel) -> MusicPipeline:
        """A pipeline over a model that is open already."""
        pipeline = cls.__new__(cls)
        pipeline._play(model)
        return pipeline

    def _play(self, model: PlayableModel) -> None:
        self.folder = model.folder
        self.graphs = model.graphs
        self.spec = model.spec
        self.tokenizer = model.tokenizer
        self.silence_latent = model.silence_latent
        self.null_condition = model.null_condition
        self.adapters = AdapterShelf()

    @property
    def encoder(self) -> Encoder:
        """What turns words and recordings into conditions."""
        return Encoder(self.graphs, self.spec, self.tokenizer, self.silence_latent)

    def adapted(self, request: MusicRequest) -> MusicRequest:
        """The request with the digests of its adapters, each of which was opened and fits.

        Raises:
            AdapterError: one cannot be opened, has changed, or is of another model.
        """
        if not request.lora:
            return request
        pinned = self.adapters.pinned(request.lora)
        for one in pinned:
            check_fit(
                self.adapters.get(one.path).facts, self.graphs.linears(DENOISER), self.spec.name
            )
        return request.model_copy(update={"lora": pinned})

    def generate(
        self, request: MusicRequest, display: Display = SILENT, cancel: Cancel | None = None
    ) -> Generated:
        """Make one piece (`batch_size` is for `generate_batch`).

        Args:
            display: shows the steps.
            cancel: an event or a function, looked at between steps.

        Raises:
            RequestError: the model cannot do what is asked for.
            ModelError: the graphs are damaged, or what they made is not a number or silent.
            AdapterError: an adapter is not there, damaged, or of another model.
            AudioError, PathError: a recording is no audio, or not there.
            CancelledError: `cancel` asked to stop.
        """
        return next(self.generate_many([request], display, cancel))

    def generate_batch(
        self, request: MusicRequest, display: Display = SILENT, cancel: Cancel | None = None
    ) -> Iterator[Generated]:
        """Make `batch_size` pieces, denoised together; each sounds as it would alone.

        The seeds are `seeds`, or count up from `seed`. Raises what `generate` raises.
        """
        one = {"batch_size": 1, "seeds": ()}
        first = secrets.randbelow(MAX_SEED + 1)
        seeds = [
            (first + index) % (MAX_SEED + 1) if seed is None else seed
            for index, seed in enumerate(request.piece_seeds)
        ]
        requests = [request.model_copy(update={**one, "seed": seed}) for seed in seeds]
        return self.generate_many(requests, display, cancel)

    def generate_many(
        self,
        requests: Sequence[MusicRequest],
        display: Display = SILENT,
        cancel: Cancel | None = None,
    ) -> Iterator[Generated]:
        """Make a piece of each request, in order. Neighbours that are sampled alike (same steps,
        guidance, method and adapters) are denoised together, padded to the longest. Raises what
        `generate` raises.
        """
        jobs = self._jobs(requests, cancel)
        for note in self._notes(jobs):
            display.say(note)
        for (plan, lora), group in groupby(jobs, key=self._sampled):
            alike = list(group)
            pieces = [job.piece for job in alike]
            timer = _Timer()
            with timer.stage("denoise", len(alike)):
                denoiser = Denoiser(
                    self.graphs,
                    pieces,
                    self.null_condition,
                    self.spec.patch_size,
                    self._placed(lora),
                )
                latents = sample(denoiser, plan, pieces, display, cancel)
                del denoiser
            for job, found in zip(alike, latents, strict=True):
                job.timer.seconds |= timer.seconds
                yield self._generated(job, found, display, cancel)

    def decode(
        self, latents: Array, display: Display = SILENT, cancel: Cancel | None = None
    ) -> Iterator[Array]:
        """Latents [1, T, C] → audio in blocks (2, k), hop·T samples in all, tile by tile."""

        def run(tile: Array) -> Array:
            stop_if_asked(cancel)
            made = self.graphs.run("vae_decoder", {"latents": tile}, is_part=workers > 1)
            audio: Array = made["audio"]
            return audio

        spec, frames, hop = self.spec, latents.shape[1], self.spec.hop_length
        # Tiles whose overlap is long, because they do not agree at their borders, stay few.
        workers = self.graphs.workers if spec.tile_overlap < spec.tile_frames // 8 else 1
        if frames <= spec.tile_frames:
            display = SILENT
        tiles = decode_tiles(
            run,
            latents.transpose(0, 2, 1),
            hop,
            tile=spec.tile_frames,
            overlap=spec.tile_overlap,
            workers=workers,
        )
        with display.task("decode", total=frames) as task:
            for block in tiles:
                yield block
                task.advance(block.shape[1] // hop)

    def _sampled(self, job: _Job) -> tuple[Plan, tuple[Lora, ...]]:
        """What pieces that are denoised together have in common."""
        return plan_of(job.piece.request, self.spec), job.piece.request.lora

    def _placed(self, lora: Sequence[Lora]) -> Placed | None:
        """What adapters add, where the denoiser runs; None where they add nothing."""
        active = self.adapters.chosen(lora)
        if not active:
            return None
        feeds = feeds_of(active, self.graphs.linears(DENOISER), self.spec.name)
        return self.graphs.placed(DENOISER, feeds)

    def _notes(self, jobs: Sequence[_Job]) -> list[str]:
        named = dict.fromkeys(one.path for job in jobs for one in job.piece.request.lora)
        notes = [base_note(self.adapters.get(path).facts, self.spec.name) for path in named]
        return [note for note in notes if note]

    def _jobs(self, requests: Sequence[MusicRequest], cancel: Cancel | None) -> list[_Job]:
        jobs: list[_Job] = []
        asked: MusicRequest | None = None  # the request before, apart from its seed
        for request in requests:
            stop_if_asked(cancel)
            timer = _Timer()
            seed = request.piece_seeds[0]
            seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
            same = self.adapted(
                request.model_copy(update={"seed": None, "seeds": (), "batch_size": 1})
            )
            if same == asked:
                piece = with_seed(jobs[-1].piece, self.spec, seed)
                timer.seconds = {"source": 0.0, "conditions": 0.0}
                jobs.append(_Job(piece, jobs[-1].splice, timer))
                continue
            asked = same
            with timer.stage("source"):
                resolved, source = read_source(self.encoder, same)
            with timer.stage("conditions"):
                seeded = resolved.model_copy(update={"seed": seed})
                piece = prepare(self.encoder, seeded, source)
            jobs.append(_Job(piece, splice_of(resolved, source, self.spec), timer))
        return jobs

    def _generated(
        self, job: _Job, latents: Array, display: Display, cancel: Cancel | None
    ) -> Generated:
        request = job.piece.request
        rescaled = latents * np.float32(request.latent_rescale) + np.float32(request.latent_shift)
        with job.timer.stage("decode"):
            sound = Sound(
                self.decode(rescaled, display, cancel),
                job.piece.extent.samples,
                self.spec.sample_rate,
                Ending(request.normalization_db, request.fade_in_s, request.fade_out_s),
                job.splice,
            )
        return Generated(
            sound=sound,
            latents=latents,
            seed=request.seed or 0,
            request=request,
            timings_s=job.timer.seconds,
        )
