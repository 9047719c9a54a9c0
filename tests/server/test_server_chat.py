"""Music by OpenRouter's chat completions: what a message means, and what comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from test_server_routes import claimed, error_of

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from luthier.server.acestep.chat import words_of
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Queue
from luthier.server.workers.work import Musician

CHAT = "/v1/chat/completions"


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "acestep/mini", "messages": [{"role": "user", "content": content}]} | fields


@pytest.fixture
def impatient(config: ServerConfig) -> Iterator[TestClient]:
    """A server without workers that hardly waits: it answers 504, and the task stays."""
    app = create_app(replace(config, answer_s=0.05))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def asked(client: TestClient, queue: Queue, body: dict[str, Any]) -> dict[str, Any]:
    assert "goes on" in error_of(client.post(CHAT, json=body), 504)
    (task,) = queue.page()
    return task.request


@pytest.mark.parametrize(
    ("text", "prompt", "lyrics"),
    [
        ("<prompt>house</prompt><lyrics>la la</lyrics>", "house", "la la"),
        ("<PROMPT> house </PROMPT> with an organ", "house with an organ", ""),
        ("<lyrics>la</lyrics>", "", "la"),
        ("[Verse]\nThe rain falls", "", "[Verse]\nThe rain falls"),
        ("one\ntwo\nthree\nfour", "", "one\ntwo\nthree\nfour"),
        ("an upbeat song about summer", "an upbeat song about summer", ""),
        ("three\nshort\nlines", "three\nshort\nlines", ""),
    ],
)
def test_what_a_message_says(text: str, prompt: str, lyrics: str) -> None:
    found = words_of(text)
    assert (found.prompt, found.lyrics) == (prompt, lyrics)


def test_every_field_reaches_the_task(impatient: TestClient, queue: Queue) -> None:
    piece = {"duration": 7, "format": "flac", "bpm": 90, "key_scale": "Am"}
    piece |= {"time_signature": "3/4", "vocal_language": "de", "instrumental": True}
    body = said("<prompt>waltz</prompt>", audio_config=piece, seed="4,5", guidance_scale=3)
    body |= {"temperature": 0.5, "top_p": 0.8, "top_k": 9, "use_cot_caption": False}
    request = asked(impatient, queue, body | {"modalities": ["audio"], "max_tokens": 9})
    assert request["options"] == {
        "model": "mini",
        "audio_format": "flac",
        "lm_temperature": 0.5,
        "lm_top_p": 0.8,
        "lm_top_k": 9,
        "use_cot_caption": False,
    }
    assert request["music"] == {
        "prompt": "waltz",
        "instrumental": True,
        "vocal_language": "de",
        "bpm": 90,
        "key": "A minor",
        "time_signature": "3",
        "duration_s": 7.0,
        "seeds": [4, 5],
        "batch_size": 2,
        "guidance_scale": 3.0,
    }


def test_one_piece_is_made_where_nobody_says_how_many(impatient: TestClient, queue: Queue) -> None:
    assert asked(impatient, queue, said("<prompt>x</prompt>"))["music"]["batch_size"] == 1


def test_lyrics_of_their_own_make_the_message_the_prompt(
    impatient: TestClient, queue: Queue
) -> None:
    music = asked(impatient, queue, said("[hook] of brass", lyrics="la la"))["music"]
    assert (music["prompt"], music["lyrics"]) == ("[hook] of brass", "la la")


def test_plain_words_describe_the_piece_without_a_planner(
    impatient: TestClient, queue: Queue
) -> None:
    assert asked(impatient, queue, said("a waltz"))["music"]["prompt"] == "a waltz"
    asking = said("a waltz", sample_mode=True)
    assert "planner" in error_of(impatient.post(CHAT, json=asking), 400)


def test_plain_words_are_for_the_planner_where_there_is_one(
    config: ServerConfig, queue: Queue, tmp_path: Path
) -> None:
    setup = replace(config.worker, planner=tmp_path)
    app = create_app(replace(config, worker=setup, answer_s=0.05))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        assert asked(client, queue, said("a waltz"))["options"]["sample_query"] == "a waltz"


def test_the_last_message_of_the_user_counts(impatient: TestClient, queue: Queue) -> None:
    body = said("<prompt>last</prompt>")
    before = [
        {"role": "system", "content": "you are a band"},
        {"role": "user", "content": "<prompt>first</prompt>"},
        {"role": "assistant", "content": "here it is"},
    ]
    body["messages"] = before + body["messages"]
    assert asked(impatient, queue, body)["music"]["prompt"] == "last"


def audio_part(data: bytes, kind: str = "wav") -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    return {"type": "input_audio", "input_audio": {"data": text, "format": kind}}


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("text2music", ["reference_audio"]),
        ("cover", ["source_audio"]),
        ("cover", ["source_audio", "reference_audio"]),
    ],
)
def test_recordings_go_where_the_task_needs_them(
    impatient: TestClient, queue: Queue, task: str, fields: list[str]
) -> None:
    parts = [audio_part(f"sound {n}".encode()) for n in range(len(fields))]
    content = [{"type": "text", "text": "<prompt>x</prompt>"}, *parts]
    music = asked(impatient, queue, said(content, task_type=task))["music"]
    assert [Path(music[field]).read_bytes() for field in fields] == [
        f"sound {n}".encode() for n in range(len(fields))
    ]
    assert {name for name in music if name.endswith("_audio")} == set(fields)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"model": "m"}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, 400, "model"),
        ({"model": "m", "messages": []}, 400, "messages"),
        ({"model": "m", "messages": [{"role": "system", "content": "x"}]}, 400, "role user"),
        (said([audio_part(b"x", "exe")]), 400, "exe"),
        (said([{"type": "input_audio", "input_audio": {"data": "%%%"}}]), 400, "base64"),
        (said([{"type": "input_audio", "input_audio": "x"}]), 400, "empty"),
        (said([audio_part(b"x")] * 3), 413, "at most 2"),
        (said([audio_part(b"x" * 20_000)]), 413, "MB"),
        (said("x", audio_config={"bpm": 3}), 400, "30 to 300"),
        (said("x", task_type="repaint"), 400, "source_audio"),
        (said("x", temperature=9), 400, "temperature"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_stays(
    impatient: TestClient, queue: Queue, config: ServerConfig, body: Any, status: int, told: str
) -> None:
    assert told in error_of(impatient.post(CHAT, json=body), status)
    assert queue.counts().total == 0
    uploads = config.worker.home / "uploads"
    assert not uploads.exists() or not list(uploads.iterdir())


def test_a_full_queue_says_when_to_come_again(impatient: TestClient) -> None:
    for _ in range(4):
        assert impatient.post(CHAT, json=said("x")).status_code == 504
    refused = impatient.post(CHAT, json=said("x"))
    assert "queue is full" in error_of(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_nothing_is_played_for_strangers(locked: TestClient, queue: Queue) -> None:
    assert locked.post(CHAT, json=said("x")).status_code == 401
    assert locked.post(CHAT, json=said("x", ai_token="one")).status_code == 401
    assert queue.counts().total == 0


@pytest.fixture
def playing(config: ServerConfig) -> Iterator[TestClient]:
    app = create_app(replace(config, workers=1, upload_bytes=10**6))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


SHORT = {"duration": 1, "format": "wav", "bpm": 120, "key_scale": "C major"}


def test_music_comes_back(playing: TestClient, tmp_path: Path) -> None:
    words = "<prompt>soft house</prompt><lyrics>la la</lyrics>"
    answer = playing.post(CHAT, json=said(words, audio_config=SHORT, seed=3))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["object"], body["model"]) == ("chat.completion", "acestep/mini")
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    told = choice["message"]["content"]
    assert told.startswith("## Metadata\n**Caption:** soft house\n**BPM:** 120")
    assert told.endswith("## Lyrics\nla la")
    (part,) = choice["message"]["audio"]
    kind, _, text = part["audio_url"]["url"].partition(";base64,")
    assert kind == "data:audio/wav"
    tmp_path.joinpath("out.wav").write_bytes(base64.b64decode(text))
    audio, rate = read_audio(tmp_path / "out.wav")
    assert audio.shape[1] / rate == pytest.approx(1, abs=0.1)
    assert np.abs(audio).max() > 0.1


def test_music_is_streamed(playing: TestClient) -> None:
    body = said("<prompt>x</prompt>", audio_config=SHORT, stream=True)
    with playing.stream("POST", CHAT, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    first, *middle, content, audio, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": "Generating music"}
    assert all(choice["delta"] == {"content": "."} for choice in middle)
    assert "## Metadata" in content["delta"]["content"]
    assert audio["delta"]["audio"][0]["audio_url"]["url"].startswith("data:audio/wav;base64,")
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")


def test_a_stream_tells_what_went_wrong(impatient: TestClient) -> None:
    with impatient.stream("POST", CHAT, json=said("x", stream=True)) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    *_, told, last = [json.loads(line)["choices"][0] for line in lines]
    assert "Error: " in told["delta"]["content"]
    assert last["finish_reason"] == "error"


def test_a_recording_in_a_message_is_heard(
    impatient: TestClient, queue: Queue, config: ServerConfig, tmp_path: Path
) -> None:
    write_audio(tmp_path / "in.flac", np.full((2, 2400), 0.1, np.float32), 24000)
    part = audio_part(tmp_path.joinpath("in.flac").read_bytes(), "flac")
    body = said([{"type": "text", "text": "<prompt>x</prompt>"}, part], task_type="cover")
    asked(impatient, queue, body | {"audio_config": {"format": "wav"}})
    task = claimed(queue)
    folder = tmp_path / "out"
    folder.mkdir()
    result = Musician(config.worker).do(task, folder, lambda *_: None, lambda: False)
    assert result["pieces"][0]["duration_s"] == pytest.approx(0.1, abs=0.01)
    Leases(queue).finish(task, {"folder": "out", **result})


def test_openrouter_s_list_of_models(client: TestClient) -> None:
    body = client.get("/api/v1/models").json()
    (model,) = body["data"]
    assert (body["object"], model["id"]) == ("list", "acestep/mini")
    assert (model["context_length"], model["max_output_length"]) == (4096, 300)
    assert model["output_modalities"] == ["audio", "text"]
