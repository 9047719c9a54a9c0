"""CLAP on a real model of random weights, saved and found as a downloaded one would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from luthier.audio.encode import write_audio
from luthier.errors import AudioError, ModelError
from luthier.evaluation.clap import Clap, clip_vector
from luthier.evaluation.embedding import get_embedding
from luthier.files import write_text
from luthier.music.evaluation.evaluate import EvaluateOptions, evaluate_folder

RATE = 16_000


def make_clap(folder: Path) -> Path:
    """A ClapModel with its processor: a second of 16 kHz a window, byte-level text."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        RobertaTokenizer,
    )

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = RobertaTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[])
    features = ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        max_length_s=1,
        frequency_max=7000,
        truncation="rand_trunc",
    )
    audio = {
        "window_size": 4,
        "num_mel_bins": 16,
        "spec_size": 64,
        "patch_size": 2,
        "patch_stride": [2, 2],
        "hidden_size": 32,
        "patch_embeds_hidden_size": 4,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "num_classes": 3,
    }
    text = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=8))
    model.save_pretrained(folder)
    ClapProcessor(features, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clap(tmp_path_factory.mktemp("clap") / "tiny-clap")


@pytest.fixture(scope="module")
def clap(folder: Path) -> Clap:
    return Clap(str(folder))


def tone(hz: float, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * hz * time))[None].astype(np.float32)


def test_windows_are_unit_vectors_that_cover_the_clip(clap: Clap) -> None:
    assert (clap.sample_rate, clap.window_s, clap.hop_s, clap.dim) == (RATE, 1.0, 0.5, 8)
    for seconds, count in ((0.3, 1), (1.0, 1), (1.2, 2), (2.0, 3), (2.1, 4)):
        windows = clap.embed(tone(440, seconds), RATE)
        assert windows.shape == (count, 8), seconds
        np.testing.assert_allclose(np.linalg.norm(windows, axis=1), 1, atol=1e-5)


def test_the_same_clip_gives_the_same_numbers(clap: Clap, folder: Path) -> None:
    """transformers alone would cut a random second out of it."""
    samples = np.random.default_rng(0).normal(0, 0.1, (1, 5 * RATE)).astype(np.float32)
    np.testing.assert_array_equal(clap.embed(samples, RATE), Clap(str(folder)).embed(samples, RATE))


def test_texts(clap: Clap) -> None:
    found = clap.embed_texts([f"prompt {i}" for i in range(11)])
    assert found.shape == (11, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(clap.embed_texts(["prompt 3"])[0], found[3], atol=1e-5)
    assert clap.embed_texts(["long " * 400]).shape == (1, 8)


def test_the_name_pins_the_weights(clap: Clap, folder: Path) -> None:
    name, _, digest = clap.name.partition("@")
    assert name == "clap:tiny-clap"
    assert len(digest) == 8
    assert get_embedding(f"clap:{folder}").name == clap.name


def test_no_samples_are_refused(clap: Clap) -> None:
    with pytest.raises(AudioError, match="no samples"):
        clap.embed(np.zeros((1, 0), np.float32), RATE)


@pytest.mark.parametrize("source", ["laion/clap-htsat-unfused", "no/such/model", "/nowhere"])
def test_weights_that_are_not_here_are_a_sentence(source: str) -> None:
    with pytest.raises(ModelError, match="not on this machine"):
        Clap(source)


def test_a_damaged_model_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Clap(str(broken))


def test_an_evaluation_with_clap(folder: Path, tmp_path: Path) -> None:
    for number, hz in enumerate((220, 330, 550)):
        write_audio(tmp_path / "real" / f"{number}.wav", tone(hz, 3), RATE)
        write_text(tmp_path / "real" / f"{number}_prompt.txt", f"a tone of {hz} hertz")
        write_audio(tmp_path / "clips" / f"{number}.wav", tone(1.5 * hz, 3), RATE)
    requests = [
        {"file": "0.wav", "prompt": "calm piano", "style_id": "CORE-01"},
        {"file": "1.wav", "prompt": "jazz", "style_id": "CORE-02"},
        {"file": "2.wav"},
    ]
    result = evaluate_folder(
        tmp_path / "clips",
        tmp_path / "real",
        requests=requests,
        embedding=f"clap:{folder}",
        options=EvaluateOptions(seed=0),
    )
    clap = get_embedding(f"clap:{folder}")
    assert isinstance(clap, Clap)
    vectors = [clip_vector(clap.embed(tone(1.5 * hz, 3), RATE)) for hz in (220, 330)]
    expected = np.mean(np.sum(np.stack(vectors) * clap.embed_texts(["calm piano", "jazz"]), axis=1))
    told = result.to_json()
    assert told["clap_score"] == pytest.approx(float(expected), abs=1e-3)
    assert (told["clap"]["n"], told["clap"]["anchors"]["tracks"]) == (2, 3)
    assert told["fad"]["embedding"] == told["clap"]["model"] == clap.name
    assert set(told["style_coverage"]) == {"CORE-01", "CORE-02"}
    assert None not in told["style_coverage"].values()
    assert told["styles"]["method"] == "clap retrieval"
    gate = told["gates"][1]
    assert (gate["name"], gate["raw"], gate["n"]) == ("clap", told["clap_score"], 2)


def test_the_environment_names_a_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, clap: Clap
) -> None:
    monkeypatch.setenv("LUTHIER_CLAP", str(folder))
    assert Clap().name == clap.name
