"""Paths that lead out of what was registered: by dots, links, encodings, addresses, look-alikes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacked import SECRET, Target

from luthier.audio.bounded import check_place
from luthier.audio.encode import write_audio
from luthier.errors import PathError, RequestError
from luthier.mcp.places import Places as ToolPlaces
from luthier.server.config import WorkerSetup
from luthier.server.http.errors import Refusal
from luthier.server.http.paths import recording_named
from luthier.server.queue.retention import Places
from luthier.server.workers.work import Musician

# {root} and {outside} are folders of the target.
HOSTILE = {
    "dots": "../outside/secret.wav",
    "dots behind a folder": "deep/../../outside/secret.wav",
    "encoded dots": "..%2foutside%2fsecret.wav",
    "doubly encoded dots": "..%252foutside%252fsecret.wav",
    "overlong dots": "..\xc0\xafoutside\xc0\xafsecret.wav",
    "backslashes": "..\\outside\\secret.wav",
    "a drive": "C:\\Windows\\win.ini",
    "a share": "\\\\server\\share\\a.wav",
    "two slashes": "//{outside}/secret.wav",
    "absolute": "{outside}/secret.wav",
    "absolute, by dots": "{root}/../outside/secret.wav",
    "a link": "link.wav",
    "a linked folder": "door/secret.wav",
    "a linked folder, absolute": "{root}/door/secret.wav",
    "null byte": "deep/a.wav\0.txt",
    "a name too long": "x" * 5000 + ".wav",
    "too many folders": "x/" * 3000 + "a.wav",
    "full-width dots": "\uff0e\uff0e/outside/secret.wav",
    "dot leaders": "\u2025/outside/secret.wav",
    "full-width slash": "..\uff0foutside\uff0fsecret.wav",
    "home": "~/a.wav",
    "variable": "$HOME/a.wav",
    "device": "/dev/zero",
    "process": "/proc/self/environ",
    "descriptor": "/dev/fd/0",
    "file address": "file:///{outside}/secret.wav",
    "web address": "http://127.0.0.1:1/a.wav",
    "concat": "concat:{outside}/secret.wav",
    "pipe": "pipe:0",
    "subfile": "subfile,,start,0,end,9,,:{outside}/secret.wav",
    "a result that is none": "/v1/audio?path={outside}/secret.wav",
    "a result by dots": "/v1/audio?path=..%2Flinks.secret",
}
hostile = pytest.mark.parametrize("named", HOSTILE.values(), ids=HOSTILE.keys())


def filled(named: str, target: Target) -> str:
    return named.replace("{root}", str(target.root)).replace("{outside}", str(target.outside))


def is_refused(response: Any, target: Target, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    assert SECRET not in response.content
    assert str(target.service.config.worker.home) not in response.text


@hostile
@pytest.mark.parametrize(
    "field", ["src_audio_path", "reference_audio_path", "ctx_audio_path", "ref_audio_path"]
)
def test_a_task_s_recordings(target: Target, field: str, named: str) -> None:
    path = filled(named, target)
    for body in ({field: path}, {"param_obj": {field: path}}, {"metas": f'{{"{field}": 7}}'}):
        is_refused(target.client.post("/release_task", json={"prompt": "x"} | body), target, 400)
    assert target.tasks == 0


@hostile
def test_a_download(target: Target, named: str) -> None:
    path = filled(named, target)
    is_refused(target.client.get("/v1/audio", params={"path": path}), target, 403, 404)


@hostile
def test_an_adapter(target: Target, named: str) -> None:
    path = filled(named, target).replace("secret.wav", "lora")
    client = target.client
    is_refused(client.post("/v1/lora/load", json={"lora_path": path}), target, 400)
    is_refused(client.post("/release_task", json={"prompt": "x", "lora": [path]}), target, 400)
    is_refused(client.post("/release_task", json={"lora": {"path": path}}), target, 400)


FOLDERS = {name: text.replace("/secret.wav", "") for name, text in HOSTILE.items()}
OUT = {
    *("dots", "dots behind a folder", "two slashes", "absolute", "absolute, by dots"),
    *("a linked folder", "a linked folder, absolute", "null byte", "device", "process"),
}


@pytest.mark.parametrize("named", [FOLDERS[name] for name in sorted(OUT)], ids=sorted(OUT))
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"command": "curate", "arguments": {"input_dir": "?", "out": "out"}}),
        ("/v1/jobs", {"command": "curate", "arguments": {"input_dir": "deep", "out": "?"}}),
        ("/v1/jobs", {"command": "export", "arguments": {"model": "?", "out": "out"}}),
        ("/v1/jobs", {"command": "merge", "arguments": {
            "base_model": "mini", "adapters": [{"path": "?"}], "output_dir": "out"}}),
        ("/v1/training/start", {"tensor_dir": "?"}),
        ("/v1/training/start_lokr", {"tensor_dir": "?"}),
        ("/v1/training/load_tensor_info", {"tensor_dir": "?"}),
        ("/v1/training/export", {"lora_output_dir": "?", "export_path": "out"}),
        ("/v1/training/export", {"lora_output_dir": "deep", "export_path": "?"}),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)  # fmt: skip
def test_the_folders_of_jobs(target: Target, path: str, body: dict[str, Any], named: str) -> None:
    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [put(inner) for inner in value]
        return filled(named, target) if value == "?" else value

    is_refused(target.client.post(path, json=put(body)), target, 400)
    assert target.service.desk.jobs.page() == []


@pytest.mark.parametrize(
    "name", ["--config=x", "../x", "x/../../y", "x\ny", "$(id)", "a;b", "", ".", "-x", "x" * 101]
)
def test_a_name_of_a_run_is_no_path_and_no_flag(target: Target, name: str) -> None:
    body = {"dataset": "deep", "logs_dir": "runs", "exp_name": name}
    answer = target.client.post("/v1/jobs", json={"command": "train", "arguments": body})
    is_refused(answer, target, 400)


def test_a_checkpoint_that_is_a_link_is_not_exported(target: Target) -> None:
    place = target.root / "run" / "checkpoints"
    place.mkdir(parents=True)
    (place / "epoch=1-step=9_lora").symlink_to(target.outside / "lora")
    body = {"lora_output_dir": "run", "export_path": "stolen"}
    is_refused(target.client.post("/v1/training/export", json=body), target, 400)
    assert not (target.root / "stolen").exists()


@hostile
@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/init", "model"), ("/v1/transcribe", "audio_path"), ("/v1/init", "lm_model_path")],
)
def test_models_and_transcripts(target: Target, path: str, field: str, named: str) -> None:
    answer = target.client.post(path, json={field: filled(named, target)})
    is_refused(answer, target, 400, 500, 503)
    assert target.tasks == 0


def test_a_task_s_model_is_a_name_and_never_a_place(target: Target) -> None:
    body = {"prompt": "x", "model": str(target.outside)}
    answer = target.client.post("/release_task", json=body).json()
    assert "there is no model" in answer["extra"]["notes"][0]
    task = target.service.queue.get(answer["data"]["task_id"])
    assert task.request["options"].get("model") is None
    target.service.queue.cancel(task.id)
    target.service.queue.delete(task.id)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/studio/{d}/../index.html",
            "/studio/{d}/..%2f..%2fassets.py",
            "/studio/{d}//etc/passwd",
        ),
        *("/studio/{d}/%2e%2e/%2e%2e/assets.py", "/studio/{d}/js/%00", "/studio/x/js/main.js"),
        *("/studio/{d}/..%5c..%5cassets.py", "/studio/../app.py", "/..%2f..%2fetc%2fpasswd"),
        *("/v1/tasks/..%2f..%2flinks.secret", "/v1/jobs/..%2f..%2fx/log", "/v1/tasks/%00"),
    ],
)
def test_addresses(target: Target, path: str) -> None:
    from luthier.server.routes.studio import assets

    is_refused(target.client.get(path.replace("{d}", assets().digest)), target, 404)


def test_nothing_but_a_plain_file_is_a_recording(target: Target) -> None:
    os.mkfifo(target.root / "pipe.wav")  # opening it would wait for ever
    with pytest.raises(Refusal, match="not allowed"):
        recording_named("pipe.wav", [target.root], target.root)


def test_a_link_that_is_put_in_after_the_check(tmp_path: Path) -> None:
    """A task waits long enough for somebody to change what its path means."""
    tmp_path = tmp_path.resolve()
    sound = np.zeros((2, 24000), np.float32)
    for place in ("root/deep", "outside"):
        (tmp_path / place).mkdir(parents=True)
        write_audio(tmp_path / place / "a.wav", sound, 24000)
    accepted = recording_named("deep/a.wav", [tmp_path / "root"], tmp_path / "none")
    check_place(accepted)
    (tmp_path / "root" / "deep").rename(tmp_path / "root" / "was")
    (tmp_path / "root" / "deep").symlink_to(tmp_path / "outside")
    with pytest.raises(PathError, match="replaced by a link"):
        check_place(accepted)
    (tmp_path / "root" / "deep").unlink()
    (tmp_path / "root" / "deep").mkdir()
    accepted.symlink_to(tmp_path / "outside" / "a.wav")
    with pytest.raises(PathError, match="replaced by a link"):
        check_place(accepted)


def test_a_worker_looks_again(tmp_path: Path, target: Target, worker: Musician) -> None:
    from luthier.server.queue.task import Task

    music = {"task": "cover", "source_audio": str(target.root.resolve() / "link.wav")}
    request = {"kind": "music", "music": music, "options": {}}
    task = Task("x", 1, "running", 0.0, 0.0, request=request)
    with pytest.raises(PathError, match="replaced by a link"):
        worker.do(task, tmp_path, lambda *_: None, lambda: False)


@pytest.fixture(scope="module")
def worker(attacked: Target) -> Musician:
    setup: WorkerSetup = attacked.service.config.worker
    return Musician(setup)


@hostile
def test_the_tools_of_a_language_model(target: Target, named: str) -> None:
    places = ToolPlaces(target.root, target.root / "made")
    with pytest.raises(RequestError, match="is no recording below"):
        places.recording(filled(named, target))


@pytest.mark.parametrize("prompt", ["../../x", "/etc/passwd", "a\0b\x1b[2J\n", "\u202e gnp", "con"])
def test_a_prompt_names_no_file_elsewhere(tmp_path: Path, prompt: str) -> None:
    path = ToolPlaces(tmp_path, tmp_path / "made").new(prompt)
    assert path.parent == (tmp_path / "made").resolve()
    assert path.name.replace("-", "").replace(".", "").isalnum()
    assert path.name.isascii()


def test_the_home_of_a_server_is_its_own(tmp_path: Path) -> None:
    from luthier.server.serve import _alone

    home = tmp_path / "new" / "home"
    with _alone(home):
        assert home.stat().st_mode & 0o077 == 0
    assert Places(home).results.parent == home
