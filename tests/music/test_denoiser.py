"""Denoiser and conditions with masks: diffusers' result, whatever is padded."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder

from luthier.music.templates import lyrics_text
from luthier.music.torch.attention import plain_attention
from luthier.music.torch.denoiser import denoise, encode_conditions, pack, tokenize
from tiny import denoiser_inputs, diffusers_velocity, tiny_model

MODEL = tiny_model()
PROMPTS = ["# Caption\ncalm piano<|endoftext|>\n", "# Caption\na much longer prompt, with drums\n"]


@torch.no_grad()
def test_without_padding_it_is_diffusers_forward() -> None:
    given = denoiser_inputs()
    ours = denoise(MODEL.transformer, **given)
    theirs = diffusers_velocity(MODEL, given)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_plain_attention_is_the_same_attention() -> None:
    given = denoiser_inputs()
    fused = denoise(MODEL.transformer, **given)
    with plain_attention(MODEL.transformer):
        plain = denoise(MODEL.transformer, **given)
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padded_tokens_and_frames_change_nothing() -> None:
    given = denoiser_inputs()
    plain = denoise(MODEL.transformer, **given)
    padded = dict(given)
    for name, extra in (("encoder_states", 5), ("noisy", 6), ("context", 6)):
        filler = 9.0 * torch.ones(2, extra, given[name].shape[2])
        padded[name] = torch.cat([given[name], filler], dim=1)
    padded["encoder_mask"] = torch.cat([given["encoder_mask"], torch.zeros(2, 5)], dim=1)
    padded["latent_mask"] = torch.cat([given["latent_mask"], torch.zeros(2, 6)], dim=1)
    result = denoise(MODEL.transformer, **padded)[:, :24]
    torch.testing.assert_close(result, plain, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_prompt_is_encoded_the_same_in_any_batch() -> None:
    lyrics = [lyrics_text("")] * 2
    states, mask = encode_conditions(MODEL, PROMPTS, lyrics)
    alone, alone_mask = encode_conditions(MODEL, PROMPTS[:1], lyrics[:1])
    length = int(alone_mask.sum())
    assert int(mask[0].sum()) == length
    torch.testing.assert_close(states[0, :length], alone[0, :length], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_conditions_are_those_of_the_condition_encoder() -> None:
    encoder: AceStepConditionEncoder = MODEL.condition_encoder
    words = ["# Languages\nen\n\n# Lyric\nla la<|endoftext|>", lyrics_text("")]
    states, mask = encode_conditions(MODEL, PROMPTS, words)
    ids, text_mask = tokenize(MODEL.tokenizer, PROMPTS, 256)
    text = MODEL.text_encoder(input_ids=ids, attention_mask=text_mask).last_hidden_state
    lyric_ids, lyric_mask = tokenize(MODEL.tokenizer, words, 256)
    silence = MODEL.silence[:, : MODEL.spec.timbre_frames].expand(2, -1, -1)
    expected, expected_mask = encoder(
        text,
        text_mask,
        MODEL.text_encoder.get_input_embeddings()(lyric_ids),
        lyric_mask,
        silence,
        torch.arange(2),
    )
    torch.testing.assert_close(mask, expected_mask.float())
    kept = mask.bool()
    torch.testing.assert_close(states[kept], expected[kept], atol=1e-5, rtol=1e-4)


def test_pack_moves_padding_to_the_end_and_keeps_order() -> None:
    states = torch.arange(6.0).reshape(1, 6, 1)
    mask = torch.tensor([[1, 0, 1, 0, 0, 1]])
    moved, moved_mask = pack([states[:, :2], states[:, 2:]], [mask[:, :2], mask[:, 2:]])
    assert moved.flatten().tolist()[:3] == [0.0, 2.0, 5.0]
    assert moved_mask.tolist() == [[1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("text", ["", "word"])
def test_tokens_are_cut_and_empty_text_is_a_space(text: str) -> None:
    ids, mask = tokenize(MODEL.tokenizer, [text], limit=2)
    assert 1 <= ids.shape[1] <= 2
    assert mask.sum() == ids.numel()
