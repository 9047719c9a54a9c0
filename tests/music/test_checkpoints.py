"""The layouts of ACE-Step 1.5: the same weights give the same model, whichever way they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AceStepPipeline
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError
from luthier.export.weights import StoredWeights
from luthier.files import read_json, write_json
from luthier.music.torch.denoiser import denoise, encode_conditions
from luthier.music.torch.model import MusicModel, load_model, save_model
from luthier.music.torch.model_folder import open_model
from luthier.music.torch.original_layout import diffusers_name, original_name
from luthier.music.torch.weight_files import safetensors_files
from luthier.training.merge_base import shards_of
from tiny_ace import CHANNELS, parts, write_diffusers, write_original

SHAPES = [(True, False), (False, False), (True, True)]
NAMES = ["turbo", "base", "xl-turbo"]


@pytest.fixture(scope="module", params=SHAPES, ids=NAMES)
def both(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    turbo, xl = request.param
    made = parts(turbo=turbo, xl=xl)
    root = tmp_path_factory.mktemp("ace")
    return made, write_diffusers(root / "diffusers", made), write_original(root / "hub", made)


def assert_same(a: MusicModel, b: MusicModel) -> None:
    for name, module in a.modules().items():
        twin = b.modules()[name].state_dict()
        state = module.state_dict()
        assert state.keys() == twin.keys()
        for key, value in state.items():
            assert torch.equal(value, twin[key]), (name, key)


@torch.no_grad()
def velocity(model: MusicModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    states, mask = encode_conditions(model, ["calm piano"], ["[Instrumental]"])
    noisy, context = (torch.randn(1, 20, c, generator=generator) for c in (CHANNELS, 2 * CHANNELS))
    times = torch.tensor([0.7])
    return denoise(model.transformer, noisy, times, times, torch.ones(1, 20), states, mask, context)


def test_both_layouts_are_one_model(both: tuple[Any, Path, Path], tmp_path: Path) -> None:
    made, diffusers, original = both
    first, second = load_model(diffusers), load_model(original)
    assert_same(first, second)
    for name, value in made["transformer"].state_dict().items():
        assert torch.equal(value, second.transformer.state_dict()[name]), name
    assert torch.equal(first.silence, made["condition_encoder"].silence_latent)
    assert first.tokenizer.encode("calm piano").ids == second.tokenizer.encode("calm piano").ids
    assert all(p.device.type == "cpu" for m in second.modules().values() for p in m.parameters())
    # Timbre is 30 s by diffusers' rule, and what the original's configuration says.
    same = {"name", "timbre_frames", "tasks"}
    assert first.spec.model_dump(exclude=same) == second.spec.model_dump(exclude=same)
    assert (first.spec.timbre_frames, second.spec.timbre_frames) == (1500, 40)
    save_model(second, tmp_path / "ours")
    third = load_model(tmp_path / "ours")
    assert_same(second, third)
    assert third.spec == second.spec
    torch.testing.assert_close(velocity(third), velocity(second))
    audio = torch.randn(1, 2, 1280, generator=torch.Generator().manual_seed(2))
    for model in (first, second, third):
        latents = model.vae.encode(audio)
        assert latents.shape == (1, CHANNELS, 10)
        assert model.vae.decode(latents).shape == (1, 2, 1280)
    mode = made["vae"].encode(audio).latent_dist.mode()
    torch.testing.assert_close(second.vae.encode(audio), mode)


def test_the_numbers_follow_the_kind(both: tuple[Any, Path, Path]) -> None:
    made, diffusers, original = both
    turbo = bool(made["transformer"].config.is_turbo)
    for folder in (diffusers, original):
        spec = open_model(folder).spec
        assert (spec.sample_rate, spec.hop_length, spec.latent_channels) == (6400, 128, CHANNELS)
        assert (spec.is_turbo, spec.default_steps) == (turbo, 8 if turbo else 50)
        assert (spec.default_shift, spec.default_guidance) == ((3.0, 1.0) if turbo else (1.0, 7.0))
        assert ("lego" in spec.tasks) is not turbo
        assert (spec.pool_window, spec.max_frames) == (5, 15000)
        # Of the XL models, whose denoiser is wider than its encoders.
        assert spec.timbre_token is (made["transformer"].config.hidden_size == 48)
    assert open_model(original.parent).folder == original


@torch.no_grad()
def test_the_denoiser_computes_what_diffusers_pipeline_does(both: tuple[Any, Path, Path]) -> None:
    _, diffusers, original = both
    model = load_model(original)
    pipeline = AceStepPipeline.from_pretrained(diffusers)
    pipeline.set_progress_bar_config(disable=True)
    seen: list[dict[str, Any]] = []
    forward = pipeline.transformer.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        seen.append(kwargs | {"result": result[0]})
        return result

    pipeline.transformer.forward = spy
    audio = pipeline(
        prompt="calm piano", audio_duration=1.0, num_inference_steps=2, guidance_scale=1.0,
        bpm=84, keyscale="A minor", timesignature="4",
        generator=torch.Generator().manual_seed(0), output_type="pt",
    ).audios  # fmt: skip
    assert torch.isfinite(audio).all()
    for call in seen:
        states = call["encoder_hidden_states"]
        ours = denoise(
            model.transformer, call["hidden_states"], call["timestep"], call["timestep_r"],
            torch.ones(call["hidden_states"].shape[:2]), states,
            torch.ones(states.shape[:2]), call["context_latents"],
        )  # fmt: skip
        torch.testing.assert_close(ours, call["result"], rtol=1e-4, atol=1e-5)


def test_names_go_there_and_back(both: tuple[Any, Path, Path]) -> None:
    _, _, original = both
    for path in original.glob("*.safetensors"):
        for name in load_file(path):
            place = diffusers_name(name)
            assert place is not None
            assert original_name(*place) == name
    assert diffusers_name("decoder.rotary_emb.inv_freq") is None
    with pytest.raises(ModelError, match=r"'lm\.head', which is none of ACE-Step 1\.5"):
        diffusers_name("lm.head")


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    folder = write_original(tmp_path / "hub", parts(turbo=True))
    before = open_model(folder).identity
    assert open_model(folder).identity == before
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] += 1
    save_file(tensors, path)
    assert open_model(folder).identity != before


def test_only_is_turbo_decides_what_is_turbo(tmp_path: Path) -> None:
    folder = write_original(tmp_path / "hub", parts(turbo=False))
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"model_version": "turbo", "is_turbo": False})
    assert open_model(folder).spec.is_turbo is False
    write_json(folder / "config.json", config | {"model_version": "base", "is_turbo": True})
    spec = open_model(folder).spec
    assert (spec.is_turbo, spec.default_steps, "lego" in spec.tasks) == (True, 8, False)


def test_only_the_word_base_makes_a_base_model(tmp_path: Path) -> None:
    written = write_original(tmp_path / "hub", parts(turbo=False))
    config = read_json(written / "config.json")
    write_json(written / "config.json", config | {"model_version": "sft"})
    for name, six in (("acestep-v15-base", True), ("xl_base", True), ("my-sft-baseline", False)):
        folder = written.rename(written.with_name(name))
        assert ("lego" in open_model(folder).spec.tasks) is six
        written = folder


def test_a_stray_file_beside_the_shards_is_not_read(tmp_path: Path) -> None:
    made = parts(turbo=True)
    folder = write_original(tmp_path / "hub", made)
    shards = sorted(folder.glob("*.safetensors"))
    tensors = {path.name: load_file(path) for path in shards}
    index = {name: shard for shard, held in tensors.items() for name in held}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    identity = open_model(folder).identity
    # What a trainer or a converter leaves: the same names with other values, and an unknown one.
    wrong = {name: value + 1 for held in tensors.values() for name, value in held.items()}
    save_file(wrong, folder / "zz-merged.safetensors")
    save_file({"lm.head": torch.zeros(1)}, folder / "model.fp16.safetensors")
    assert open_model(folder).identity == identity
    assert_same(load_model(folder), load_model(write_diffusers(tmp_path / "diffusers", made)))
    assert [slot.name for shard in shards_of(open_model(folder)) for slot in shard.slots].count(
        "norm_out.weight"
    ) == 1
    stored = StoredWeights(open_model(folder), "transformer")["norm_out.weight"]
    assert np.array_equal(stored, made["transformer"].state_dict()["norm_out.weight"].numpy())


@pytest.mark.parametrize("stem", ["diffusion_pytorch_model", "model"])
def test_variants_beside_a_single_file_are_not_read(tmp_path: Path, stem: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / f"{stem}.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / f"{stem}.fp16.safetensors")
    assert [path.name for path in safetensors_files(tmp_path)] == [f"{stem}.safetensors"]


def test_an_index_is_believed_only_as_far_as_it_goes(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    write_json(index, {"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    with pytest.raises(ModelError, match=r"model-00001-of-00002.* is missing.* incomplete"):
        safetensors_files(tmp_path)
    for wrong in ({"a": "../elsewhere.safetensors"}, {"a": 1}, {}, []):
        write_json(index, {"weight_map": wrong})
        with pytest.raises(ModelError, match="is damaged: its weight_map"):
            safetensors_files(tmp_path)
    write_json(index, [])
    with pytest.raises(ModelError, match="is damaged: its weight_map"):
        safetensors_files(tmp_path)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    made = parts(turbo=True)
    folder = write_original(tmp_path / "hub", made)
    write_original(tmp_path / "hub", parts(turbo=False))
    with pytest.raises(ModelError, match="several models: name one of acestep-v15-base, acestep"):
        open_model(tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"head_dim": 16}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps({"timbre_hidden_dim": 8}))
    with pytest.raises(ModelError, match=r"lacks num_attention_heads"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"run": Path("x")}, folder / "silence_latent.pt")
    with pytest.raises(ModelError, match=r"silence_latent\.pt is damaged or holds more"):
        load_model(folder)
    (tmp_path / "hub" / "vae").rename(tmp_path / "vae")
    with pytest.raises(ModelError, match="keep both as they were downloaded"):
        load_model(folder)


def test_diffusers_without_audio_tokenizers_still_trains_text_to_music(tmp_path: Path) -> None:
    made = parts(turbo=True) | {"audio_tokenizer": None, "audio_token_detokenizer": None}
    folder = write_diffusers(tmp_path / "model", made)
    model = open_model(folder)
    assert not model.has("audio_tokenizer")
    assert model.spec.pool_window == 5
    model.part("transformer")
    with pytest.raises(ModelError, match="audio_tokenizer/config"):
        load_model(folder)
