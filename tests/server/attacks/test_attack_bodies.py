"""Bodies that lie, swell, nest or never fit: JSON, forms, files, encodings."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import pytest
from attacked import Target
from test_server_routes import error_of

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
PATHS = (
    *("/release_task", "/query_result", "/v1/chat/completions", "/v1/jobs", "/v1/training/start"),
    *("/v1/lora/load", "/v1/init", "/format_input", "/create_random_sample", "/v1/create_sample"),
)


def part(name: str, content: str = "", more: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return f"{head}{content}\r\n".encode("utf-8", "surrogateescape")


def sent(target: Target, body: bytes | str, kind: dict[str, str] | None = None) -> Any:
    return target.client.post("/release_task", content=body, headers=kind or JSON)


def leaves_nothing(target: Target) -> None:
    assert target.uploads == []
    assert target.tasks == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("depth", [100, 900, 200_000])
@pytest.mark.parametrize("marks", ["[]", "{}"])
def test_depth_without_end(target: Target, path: str, depth: int, marks: str) -> None:
    opening, closing = ("[", "]") if marks == "[]" else ('{"a":', "}")
    deep = opening * depth + "1" + closing * depth
    for name in (
        "prompt",
        "task_id_list",
        "messages",
        "settings",
        "lora",
        "metas",
        "src_audio_path",
    ):
        body = f'{{"prompt":"x","command":"train","arguments":{{}},"{name}":{deep}}}'
        answer = target.client.post(path, content=body, headers=JSON)
        assert answer.status_code in (400, 413), answer.text
        assert len(answer.content) < 2000
    leaves_nothing(target)


@pytest.mark.parametrize("field", ["param_obj", "metas", "lora"])
def test_depth_within_a_text(target: Target, field: str) -> None:
    deep = "[" * 5000 + "]" * 5000
    answer = sent(target, json.dumps({"prompt": "x", field: '{"a":' + deep + "}"}))
    assert "nested deeper" in error_of(answer, 400) or "recursion" in answer.text
    leaves_nothing(target)


def test_values_without_end(target: Target) -> None:
    """Three bytes of a body become sixty of memory: 64 MB of a chat would take more than 1 GB."""
    bomb = b'{"model":"x","messages":[' + b"{}," * 5_000_000 + b"{}]}"
    started = time.monotonic()
    answer = target.client.post("/v1/chat/completions", content=bomb, headers=JSON)
    assert "values: send fewer" in error_of(answer, 400)
    assert time.monotonic() - started < 5  # reading it takes ten times as long
    assert "values" in error_of(sent(target, b"[" + b"1," * 300_000 + b"1]"), 400)


NUMBERS = {
    "1e400": "1e400",
    "minus 1e400": "-1e400",
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "401 digits": "1" + "0" * 400,
    "10,000 digits": "9" * 10_000,
    "a denormal": "1e-400",
    "2^63": str(2**63),
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())
@pytest.mark.parametrize(
    "field",
    [
        *("bpm", "guidance_scale", "seed", "seeds", "audio_duration", "timesteps", "lora_scale"),
        *("inference_steps", "shift", "batch_size", "repainting_end", "lm_temperature"),
    ],
)
def test_numbers_beyond_all_bounds(target: Target, field: str, number: str) -> None:
    for value in (number, f"[{number}]", f'"{number}"', f'"[{number}]"'):
        answer = sent(target, f'{{"prompt":"x","{field}":{value}}}')
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:  # as text it may be no number, which is a note
            identity = answer.json()["data"]["task_id"]
            kept = target.service.queue.get(identity)
            assert not kept.damaged
            assert "inf" not in json.dumps(kept.request).lower().replace("inference", "")
            target.service.queue.delete(identity)


@pytest.mark.parametrize(
    "number", ["1e400", "1" + "0" * 400, "NaN"], ids=["1e400", "digits", "NaN"]
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", '{"command":"curate","arguments":{"input_dir":"deep","out":"o","workers":?}}'),
        ("/v1/lora/scale", '{"scale":?}'),
        ("/v1/training/start", '{"tensor_dir":"deep","learning_rate":?}'),
        (
            "/v1/chat/completions",
            '{"model":"x","messages":[{"role":"user","content":"x"}],"seed":?}',
        ),
    ],
)
def test_numbers_beyond_all_bounds_elsewhere(
    target: Target, path: str, body: str, number: str
) -> None:
    answer = target.client.post(path, content=body.replace("?", number), headers=JSON)
    assert answer.status_code == 400, answer.text
    listed = target.client.get("/v1/jobs")  # nothing that cannot be answered was kept
    assert listed.json()["data"]["jobs"] == []


LETTERS = {
    "no UTF-8": b'{"prompt":"\xff\xfe"}',
    "overlong UTF-8": b'{"prompt":"\xc0\xaf"}',
    "half a letter": b'{"prompt":"\\ud800"}',
    "half a letter as a name": b'{"\\udfff":1,"prompt":"x"}',
    "half a letter within": b'{"metas":"{\\"prompt\\":\\"\\\\ud800\\"}"}',
    "a bare line end": b'{"prompt":"a\nb"}',
    "a comment": b'{"prompt":"x"} // y',
    "two documents": b'{"prompt":"x"}{"prompt":"y"}',
    "an array": b'[{"prompt":"x"}]',
    "a single quote": b"{'prompt':'x'}",
}


@pytest.mark.parametrize("body", LETTERS.values(), ids=LETTERS.keys())
def test_letters_that_are_none(target: Target, body: bytes) -> None:
    error_of(sent(target, body), 400)
    leaves_nothing(target)


def test_of_two_equal_names_the_last_counts_for_the_check_and_for_the_use(target: Target) -> None:
    twice = '{{"src_audio_path":"{}","src_audio_path":"{}"}}'
    for one, two in (("deep/a.wav", "link.wav"), ("link.wav", "deep/a.wav")):
        answer = sent(target, twice.format(one, two))
        if two == "link.wav":
            error_of(answer, 400)
            continue
        task = target.service.queue.get(answer.json()["data"]["task_id"])
        assert "link" not in json.dumps(task.request)
        target.service.queue.delete(task.id)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-unknown"])
def test_a_compressed_body_is_not_unpacked(target: Target, coding: str) -> None:
    """10 kB that would become 10 MB."""
    pack = zlib.compress if coding == "deflate" else gzip.compress
    body = pack(b'{"prompt":"' + b" " * 10_000_000 + b'"}')
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        headers = {"content-type": kind, "content-encoding": coding}
        assert "compressed" in error_of(sent(target, body, headers), 415)
    leaves_nothing(target)


def test_a_regular_expression_that_never_ends(target: Target) -> None:
    """20,000 opening tags: with one search for both tags this took three minutes."""
    for text in ("<prompt>" * 20_000, "<lyrics>" * 20_000, "<prompt>" + "<lyrics>" * 20_000):
        body = {"model": "x", "messages": [{"role": "user", "content": text}]}
        started = time.monotonic()
        assert target.client.post("/v1/chat/completions", json=body).status_code == 400
        assert time.monotonic() - started < 5


FORMS = {
    "20,000 parts of one name": part("a") * 20_000,
    "300 parts without a name": part("") * 300,
    "300 files that are empty": part("src_audio", more='; filename="a.wav"') * 300,
    "5,000 headers of a part": b"--b\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n\r\n",
    "a header of 1 MB": b"--b\r\nX-A: " + b"b" * 2**20 + b"\r\n\r\n\r\n",
    "a name of 1 MB": part("x" * 2**20),
    "no end": part("prompt", "x"),
    "no boundary within": b"prompt=x",
    "a file that is nested": part("src_audio", part("src_audio").decode(), '; filename="a/b.exe"'),
    "a part in parts": b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx",
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
def test_forms_that_are_traps(target: Target, body: bytes) -> None:
    started = time.monotonic()
    is_open = body in (FORMS["no end"], FORMS["no boundary within"], FORMS["a part in parts"])
    answer = sent(target, body if is_open else body + b"--b--\r\n", FORM)
    assert answer.status_code in (400, 413), answer.text
    assert time.monotonic() - started < 10
    leaves_nothing(target)


@pytest.mark.parametrize(
    "kind",
    [
        *("multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=b"),
        *("multipart/form-data; boundary=" + "b" * 5000, "text/plain", "application/xml"),
        *("application/x-yaml", "text/html", "image/png", "application/octet-stream"),
        "multipart/form-data; boundary=" + "b;" * 5000,
    ],
)
def test_content_types_that_are_not_read(target: Target, kind: str) -> None:
    answer = sent(target, b"<!DOCTYPE x>", {"content-type": kind})
    assert answer.status_code in (400, 413, 415)
    leaves_nothing(target)


NAMES = {
    "a path": "../../../../tmp/evil.wav",
    "absolute": "/etc/cron.d/evil.wav",
    "backslashes": "..\\..\\evil.wav",
    "a null byte": "a.php\0.wav",
    "a line end": "a%0d%0aX-Evil: 1.wav",
    "quotes": 'a\\".wav',
    "another letter order": "\u202evaw.exe.wav",
    "nothing but the ending": ".wav",
    "very long": "x" * 3000 + ".wav",
    "a device": "CON.wav",
    "a stream": "a.wav::$DATA.wav",
    "markup": "<img src=x onerror=alert(1)>.wav",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_file_s_name_is_not_ours(target: Target, name: str) -> None:
    body = part("task_type", "cover") + part("src_audio", "sound", f'; filename="{name}"')
    answer = sent(target, body + b"--b--\r\n", FORM)
    assert answer.status_code == 200, answer.text
    files = [path for path in target.uploads if path.is_file()]
    assert [path.name.removesuffix(".wav") for path in files] == ["source_audio"]
    identity = answer.json()["data"]["task_id"]
    assert name not in json.dumps(target.service.queue.get(identity).request)
    target.client.delete(f"/v1/tasks/{identity}")
    leaves_nothing(target)


@pytest.mark.parametrize(
    "name", ["a.exe", "a.wav.html", "a.m3u8", "a.pls", "a.svg", "a.wav/../x.sh"]
)
def test_a_file_of_another_kind_is_not_kept(target: Target, name: str) -> None:
    body = part("src_audio", "sound", f'; filename="{name}"') + b"--b--\r\n"
    error_of(sent(target, body, FORM), 400)
    leaves_nothing(target)


@pytest.mark.parametrize(
    "key", ["", "x" * 257, "x" * 60_000], ids=["empty", "257 letters", "60,000 letters"]
)
def test_idempotency_keys_have_a_length(target: Target, key: str) -> None:
    headers = {"Idempotency-Key": key}
    error_of(target.client.post("/release_task", json={"prompt": "x"}, headers=headers), 400)
    leaves_nothing(target)


@pytest.mark.parametrize(
    "ranges",
    [
        "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 8000, 2)),
        "bytes=" + ",".join("0-" for _ in range(5000)),
        "bytes=" + "0-0," * 17,
        "bytes=" + "," * 10_000,
    ],
    ids=["many", "overlapping", "a few too many", "empty"],
)
def test_many_ranges(target: Target, ranges: str) -> None:
    recording = result(target)
    answer = target.client.get("/v1/audio", params={"path": recording}, headers={"Range": ranges})
    assert "at most 16 ranges" in error_of(answer, 400)


@pytest.mark.parametrize(
    "ranges",
    [
        *("bytes=-0", "bytes=--1", "bytes=5-1", "bytes=99999999999999999999-", "bytes=a-b"),
        *("bytes=0-99999999999999999999999", "bytes=-99999999999", "lines=0-1", "bytes", "="),
        *("bytes=0-0,0-0,0-", "bytes=0x1-2", "bytes=\u0661-2", "bytes=1-1,"),
    ],
)
def test_ranges_that_are_none(target: Target, ranges: str) -> None:
    headers = {"Range": ranges.encode("utf-8")}
    answer = target.client.get("/v1/audio", params={"path": result(target)}, headers=headers)
    assert answer.status_code in (200, 206, 400, 416), answer.text
    assert len(answer.content) <= 3 * 1000 + 1000  # never more than was asked for


def result(target: Target) -> str:
    folder = target.service.places.results / "t" / "f"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.mp3").write_bytes(bytes(1000))
    return "t/f/1.mp3"
