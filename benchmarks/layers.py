"""Does a layer follow its song, and does a track come out of a mix?

    python benchmarks/layers.py [--model DIR] [--told] [--any-task]

Held-out scores of mini's recipe are rendered track by track (needs FluidSynth, see
`recipes/mini/render.py`), so that the truth is known. `lego` is given a song without one track, and
no tempo or key: both can only come from the song. `extract` is given the song, `complete` one of
its tracks. Beside what is made stand the true track, which is the ceiling, and the track of another
song, which is the floor. `--told` names tempo and key after all; `--any-task` asks also a model
that was not trained for these tasks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write_result
from layer_measures import (
    Audio,
    Recogniser,
    distance_db,
    in_key,
    likeness,
    means_of,
    mono_of,
    on_beat,
)

from luthier.audio.encode import write_audio
from luthier.audio.key import estimate_key
from luthier.audio.tempo import estimate_tempo
from luthier.music.evaluation.adherence import check_key, check_tempo
from luthier.music.playing.pipeline import MusicPipeline
from luthier.music.request import request_from
from luthier.music.templates import TASKS
from luthier.progress import Display

sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.mini.compose import Score
from recipes.mini.corpus import CLIP_S, HELD_OUT_SEED, render_clip
from recipes.mini.layers import Part, summed
from recipes.mini.render import Synth

CLIPS = 24
LEARNT_FROM = 160  # clips that the recogniser hears, of the training seeds
STEM_TASKS = ("lego", "extract", "complete")


@dataclass(frozen=True)
class Case:
    """One song, and the track of it that is asked for (of `complete`: the one that is given)."""

    score: Score
    parts: list[Part]
    asked: int

    @property
    def part(self) -> Part:
        """The track itself."""
        return self.parts[self.asked]

    @property
    def rest(self) -> list[Part]:
        """All the others."""
        return [part for part in self.parts if part is not self.part]


class Bench:
    """Pipeline, cases and recogniser."""

    def __init__(self, pipeline: MusicPipeline, args: argparse.Namespace, work: Path) -> None:
        self.pipeline, self.args, self.work = pipeline, args, work
        self.rate = pipeline.spec.sample_rate
        synth, samples = Synth(self.rate), int(CLIP_S * self.rate)
        self.cases = []
        for i in range(args.clips):
            score, parts = render_clip(synth, HELD_OUT_SEED + i, samples)
            self.cases.append(Case(score, parts, i % len(parts)))
        known = [part for i in range(LEARNT_FROM) for part in render_clip(synth, i, samples)[1]]
        self.recognise = Recogniser(
            [mono_of(part.audio, self.rate) for part in known], [part.track for part in known]
        )

    def made(self, task: str, case: Case, source: Audio, tracks: tuple[str, ...]) -> Audio:
        """What the model makes, as the measures hear it."""
        path = self.work / "source.wav"
        write_audio(path, source * np.float32(0.9 / np.abs(source).max()), self.rate)
        given = {
            "task": task,
            "source_audio": str(path),
            "tracks": ",".join(tracks),
            "prompt": "" if task == "complete" else ", ".join(case.part.instruments),
            "seed": self.args.seed + self.cases.index(case),
            "guidance_scale": self.args.guidance,
        }
        if self.args.told:
            given |= {"bpm": case.score.bpm, "key": case.score.key}
        found = self.pipeline.generate(request_from(given)).audio
        if self.args.keep:
            name = f"{task}-{self.cases.index(case):02d}-{case.part.track}.wav"
            write_audio(self.args.keep / name, found, self.rate)
        return mono_of(found, self.rate)

    def through_codec(self, audio: Audio) -> Audio:
        """What the autoencoder leaves of audio: no model that plays through it can do better."""
        latents = self.pipeline.encoder.latents_of(audio)
        return mono_of(np.concatenate(list(self.pipeline.decode(latents)), axis=1), self.rate)

    def lego(self, case: Case, other: Case) -> dict[str, Any]:
        """A track to the rest of its song."""
        context = summed(case.rest)
        made = self.made("lego", case, context, (case.part.track,))
        truth, heard = mono_of(case.part.audio, self.rate), mono_of(context, self.rate)
        foreign = next((p for p in other.parts if p.track == case.part.track), other.part)
        row: dict[str, Any] = {"track": case.part.track}
        for name, sound in (
            ("made", made),
            ("true", truth),
            ("foreign", mono_of(foreign.audio, self.rate)),
        ):
            row[f"{name}_on_beat"] = on_beat(sound, case.score.bpm)
            if case.part.track != "drums":
                harmony = case.score.harmony
                row[f"{name}_in_key"] = in_key(sound, harmony.tonic, harmony.mode)
            row[f"{name}_recognised"] = self.recognise(sound) == case.part.track
            row[f"{name}_like_context"] = likeness(sound, heard)
            row[f"{name}_distance_db"] = distance_db(sound, truth)
        return row

    def extract(self, case: Case, other: Case) -> dict[str, Any]:
        """A track out of its song."""
        mix = summed(case.parts)
        made = self.made("extract", case, mix, (case.part.track,))
        truth = mono_of(case.part.audio, self.rate)
        sounds = {
            "made": made,
            "mix": mono_of(mix, self.rate),
            "codec": self.through_codec(case.part.audio),
        }
        row: dict[str, Any] = {"track": case.part.track}
        for name, sound in sounds.items():
            row[f"{name}_distance_db"] = distance_db(sound, truth)
            row[f"{name}_likeness"] = likeness(sound, truth)
            row[f"{name}_recognised"] = self.recognise(sound) == case.part.track
        row["nearer_than_mix"] = row["made_distance_db"] < row["mix_distance_db"]
        return row

    def complete(self, case: Case, other: Case) -> dict[str, Any]:
        """A song around one of its tracks."""
        tracks = tuple(part.track for part in case.rest)
        made = self.made("complete", case, case.part.audio, tracks)
        mix = mono_of(summed(case.parts), self.rate)
        source = mono_of(case.part.audio, self.rate)
        score, row = case.score, {"track": case.part.track}
        for name, sound in (("made", made), ("true", mix), ("source", source)):
            row[f"{name}_tempo"] = check_tempo("", score.bpm, estimate_tempo(sound, 22_050)).passed
            row[f"{name}_key"] = check_key("", score.key, estimate_key(sound, 22_050)).passed
            row[f"{name}_on_beat"] = on_beat(sound, score.bpm)
            row[f"{name}_like_source"] = likeness(sound, source)
            row[f"{name}_distance_db"] = distance_db(sound, mix)
        foreign = mono_of(other.part.audio, self.rate)
        row["made_like_foreign"] = likeness(made, foreign)
        return row


def main() -> None:
    """Run the tasks and write results/layers.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of exported graphs (default: built in)")
    parser.add_argument("--any-task", action="store_true", help="also tasks it was not trained for")
    parser.add_argument("--tasks", nargs="+", default=STEM_TASKS, choices=STEM_TASKS)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--guidance", type=float, help="instead of the model's own")
    parser.add_argument("--told", action="store_true", help="name tempo and key in the requests")
    parser.add_argument("--seed", type=int, default=1000, help="of the first clip")
    parser.add_argument("--keep", type=Path, help="write what is made to this folder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    parser.add_argument("--name", default="layers", help="of the result")
    args = parser.parse_args()
    display, pipeline = Display(), MusicPipeline(args.model)
    if args.any_task:
        pipeline.spec = pipeline.spec.model_copy(update={"tasks": TASKS})
    value: dict[str, Any] = {
        "model": pipeline.spec.name,
        "told": args.told,
        "guidance": args.guidance,
    }
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(pipeline, args, Path(work))
        for task in args.tasks:
            rows = []
            with display.task(task, args.clips) as shown:
                for i, case in enumerate(bench.cases):
                    rows.append(getattr(bench, task)(case, bench.cases[(i + 1) % args.clips]))
                    shown.advance(note=case.part.track)
            value[task] = means_of(rows) | {"rows": rows}
            print(task, means_of(rows))
    print(write_result(args.results, args.name, value))


if __name__ == "__main__":
    main()
