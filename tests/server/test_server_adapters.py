"""Adapters over HTTP: upstream's routes, the field of a task, what may be named, what is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from luthier.audio.decode import read_audio
from luthier.cli.main import main
from luthier.errors import StorageError
from luthier.music.adapters.convert import convert
from luthier.music.mini import onnx_folder
from luthier.music.request import request_from
from luthier.runtime.adaptable import Linear
from luthier.runtime.session import Graphs
from luthier.server.acestep.answers import _without_places
from luthier.server.acestep.lora_catalogue import Adapters
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup
from luthier.server.queue.queue import Queue
from luthier.server.queue.retention import Places
from luthier.server.queue.task import Task
from luthier.server.workers.supervisor import Supervisor
from tiny_adapters import write_adapter

LINEARS: dict[str, Linear] = dict(Graphs(onnx_folder(), 1).linears("dit_decoder"))
Wait = Callable[..., Task]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two adapters of mini, one of another model, and one outside."""
    folder = tmp_path / "loras"
    write_adapter(folder / "lofi", LINEARS, base_model_name_or_path="mini")
    write_adapter(folder / "run" / "step=10_lora", LINEARS, seed=1, size=0.1)
    other = {"layers.0.self_attn.to_q": Linear(32, 32, "", "")}
    write_adapter(folder / "other", other)
    write_adapter(tmp_path / "outside", LINEARS)
    return folder


@pytest.fixture
def config(config: ServerConfig, root: Path) -> ServerConfig:
    return replace(config, lora_roots=(root,), queue_limit=50)


def release(client: TestClient, **fields: Any) -> Any:
    body = {"prompt": "calm piano", "duration": 1, "inference_steps": 2, "batch_size": 1}
    return client.post("/release_task", json=body | fields)


def accepted(client: TestClient, **fields: Any) -> list[dict[str, Any]]:
    """The adapters of a task as it lies in the queue."""
    answer = release(client, **fields)
    assert answer.status_code == 200, answer.text
    task = client.app.state.service.queue.get(answer.json()["data"]["task_id"])  # type: ignore[attr-defined]
    lora: list[dict[str, Any]] = task.request["music"].get("lora", [])
    return lora


def told(answer: Any, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"])


def status(client: TestClient) -> dict[str, Any]:
    data: dict[str, Any] = client.get("/v1/lora/status").json()["data"]
    return data


NOTHING = {
    "lora_loaded": False,
    "use_lora": False,
    "lora_scale": 1.0,
    "adapter_type": None,
    "scales": {},
    "active_adapter": None,
    "adapters": [],
    "synthetic_default_mode": False,
}


def test_load_scale_toggle_unload_as_upstream(client: TestClient, root: Path) -> None:
    assert status(client) == NOTHING
    answer = client.post("/v1/lora/load", json={"lora_path": "lofi"}).json()
    assert answer["data"] == {
        "message": "lofi is loaded: LoRA of rank 3.",
        "lora_path": "lofi",
        "adapter_name": "lofi",
    }
    answer = client.post(
        "/v1/lora/load", json={"lora_path": str(root / "run/step=10_lora"), "adapter_name": "ten"}
    )
    assert "trained on tiny, and is played with mini" in answer.json()["extra"]["notes"][0]
    answer = client.post("/v1/lora/scale", json={"scale": 0.25, "adapter_name": "lofi"}).json()
    assert answer["data"] == {
        "message": "lofi plays at 0.25.",
        "scale": 0.25,
        "adapter_name": "lofi",
    }
    assert client.post("/v1/lora/scale", data={"scale": "0.5"}).json()["data"]["scale"] == 0.5
    assert status(client) == {
        "lora_loaded": True,
        "use_lora": True,
        "lora_scale": 0.5,
        "adapter_type": "lora",
        "scales": {"lofi": 0.25, "ten": 0.5},
        "active_adapter": "ten",
        "adapters": ["lofi", "ten"],
        "synthetic_default_mode": False,
    }
    answer = client.post("/v1/lora/toggle", json={"use_lora": False}).json()
    assert (answer["code"], answer["data"]["use_lora"]) == (200, False)
    assert status(client)["use_lora"] is False
    assert client.post("/v1/lora/unload").json()["data"] == {"message": "2 adapters were unloaded."}
    assert status(client) == NOTHING
    assert client.post("/v1/lora/unload").json()["data"] == {"message": "no adapter was loaded."}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("toggle", {"use_lora": True}),
        ("scale", {"scale": 1}),
        ("scale", {"scale": 1, "adapter_name": "nobody"}),
    ],
)
def test_without_an_adapter_upstream_says_400_in_a_200(
    client: TestClient, route: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"/v1/lora/{route}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (200, 400)
    assert "no adapter is loaded" in answer.json()["error"]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("load", {}),
        ("load", {"lora_path": ""}),
        ("load", {"lora_path": 3}),
        ("load", {"lora_path": "lofi", "adapter_name": ""}),
        ("toggle", {}),
        ("toggle", {"use_lora": "perhaps"}),
        ("scale", {}),
        ("scale", {"scale": 1.5}),
        ("scale", {"scale": -0.1}),
        ("scale", {"scale": "nan"}),
    ],
)
def test_a_body_that_says_nothing_sound_is_400(
    client: TestClient, route: str, body: dict[str, Any]
) -> None:
    told(client.post(f"/v1/lora/{route}", json=body))


def test_what_is_loaded_plays_where_a_task_names_nothing(client: TestClient, root: Path) -> None:
    assert accepted(client) == []
    client.post("/v1/lora/load", json={"lora_path": "lofi"})
    client.post("/v1/lora/scale", json={"scale": 0.5})
    (one,) = accepted(client)
    assert (one["path"], one["scale"]) == (str(root / "lofi"), 0.5)
    assert len(one["sha256"]) == len(one["config_sha256"]) == 64
    assert accepted(client, lora=[]) == []
    assert [row["scale"] for row in accepted(client, lora="run/step=10_lora:0.3")] == [0.3]
    client.post("/v1/lora/toggle", json={"use_lora": False})
    assert accepted(client) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"lora": "lofi"}, [("lofi", 1.0)]),
        ({"lora": "lofi:0.5"}, [("lofi", 0.5)]),
        ({"lora": "lofi", "lora_scale": 0.4}, [("lofi", 0.4)]),
        ({"lora": "lofi", "lora_scale": "0.4"}, [("lofi", 0.4)]),
        ({"lora": {"name": "lofi", "scale": 2}}, [("lofi", 2.0)]),
        ({"lora": {"path": "lofi"}}, [("lofi", 1.0)]),
        ({"loras": ["lofi", "run/step=10_lora:-1"]}, [("lofi", 1.0), ("step=10_lora", -1.0)]),
        (
            {"lora": ["lofi", {"name": "run/step=10_lora"}], "lora_scale": [0.1, 0.2]},
            [("lofi", 0.1), ("step=10_lora", 0.2)],
        ),
        ({"lora": '[{"name": "lofi", "scale": 0.7}]'}, [("lofi", 0.7)]),
        ({"param_obj": {"lora": "lofi"}}, [("lofi", 1.0)]),
        ({"lora": ""}, []),
    ],
)
def test_a_task_names_its_adapters_in_many_ways(
    client: TestClient, fields: dict[str, Any], expected: list[tuple[str, float]]
) -> None:
    found = accepted(client, **fields)
    assert [(Path(row["path"]).name, row["scale"]) for row in found] == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"lora": "lofi", "lora_scale": 11},
        {"lora": "lofi", "lora_scale": "much"},
        {"lora": "lofi", "lora_scale": [1, 2]},
        {"lora": {"name": "lofi", "sha256": "0"}},
        {"lora": {"name": ["lofi"]}},
        {"lora": {}},
        {"lora": [["lofi"]]},
        {"lora": 3},
        {"lora": "[not JSON"},
        {"lora": ["lofi"] * 9},
    ],
)
def test_what_names_no_adapter_is_400(client: TestClient, fields: dict[str, Any]) -> None:
    told(release(client, **fields))


OUTSIDE = "there is no adapter"


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "lofi/../../outside",
        "{tmp}/outside",
        "{root}/../outside",
        "link",
        "half",
        "nowhere",
        "",
        ".",
        "/",
        "/etc",
        "lofi\0",
        "~root",
        "file:///etc/passwd",
        "lofi/adapter_config.json",
        "x" * 5000,
    ],
)
@pytest.mark.parametrize("way", ["load", "field"])
def test_nothing_outside_the_roots_can_be_named(
    client: TestClient, root: Path, tmp_path: Path, name: str, way: str
) -> None:
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "half").mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (root / "half" / file).symlink_to(tmp_path / "outside" / file)
    named = name.format(tmp=tmp_path, root=root)
    if way == "load":
        text = told(client.post("/v1/lora/load", json={"lora_path": named}))
    else:
        text = told(release(client, lora=[{"name": named}]))
    assert OUTSIDE in text or "name (or path)" in text or "lora_path" in text
    assert str(tmp_path / "outside") not in text.replace(named, "")


def test_a_server_without_roots_offers_none(config: ServerConfig) -> None:
    with TestClient(
        create_app(replace(config, lora_roots=())), base_url="http://127.0.0.1:8001"
    ) as client:
        assert "--lora-root" in told(client.post("/v1/lora/load", json={"lora_path": "lofi"}))
        assert "--lora-root" in told(release(client, lora="/etc"))
        data = client.get("/v1/capabilities").json()["data"]
        assert (data["features"]["lora"], data["adapters"]) == (False, [])


def test_capabilities_list_the_adapters_by_name(client: TestClient) -> None:
    data = client.get("/v1/capabilities").json()["data"]
    assert data["features"]["lora"] is True
    assert data["adapters"] == ["lofi", "other", "run/step=10_lora"]


def test_an_adapter_of_another_model_is_refused_with_its_first_layer(client: TestClient) -> None:
    expected = "other does not fit mini: layers.0.self_attn.to_q has 32 inputs"
    assert expected in told(client.post("/v1/lora/load", json={"lora_path": "other"}))
    assert expected in told(release(client, lora="other"))
    assert status(client) == NOTHING


def test_a_damaged_adapter_is_refused_without_its_place(client: TestClient, root: Path) -> None:
    path = root / "lofi" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for answer in (
        client.post("/v1/lora/load", json={"lora_path": "lofi"}),
        release(client, lora="lofi"),
    ):
        assert "lofi/adapter_model.safetensors is no safetensors file" in told(answer)
        assert str(root) not in answer.text


def test_routes_need_the_key(config: ServerConfig) -> None:
    locked = create_app(replace(config, keys=("one",)))
    with TestClient(locked, base_url="http://127.0.0.1:8001") as client:
        assert client.get("/v1/lora/status").status_code == 401
        for route in ("load", "unload", "toggle", "scale"):
            assert client.post(f"/v1/lora/{route}", json={}).status_code == 401
        body = {"lora_path": "lofi", "ai_token": "one"}
        assert client.post("/v1/lora/load", json=body).status_code == 200


def test_what_is_loaded_survives_a_restart(config: ServerConfig) -> None:
    for step in range(2):
        with TestClient(create_app(config), base_url="http://127.0.0.1:8001") as client:
            if step == 0:
                client.post("/v1/lora/load", json={"lora_path": "lofi"})
                client.post("/v1/lora/scale", json={"scale": 0.25})
            assert status(client)["scales"] == {"lofi": 0.25}
    (config.worker.home / "lora.json").write_text('{"active": "x"}')
    with pytest.raises(StorageError, match="is damaged: remove it"):
        create_app(config)


def test_a_loaded_adapter_that_is_gone_is_told_with_the_way_out(
    client: TestClient, root: Path
) -> None:
    client.post("/v1/lora/load", json={"lora_path": "lofi"})
    shutil.rmtree(root / "lofi")
    assert "/v1/lora/unload" in told(release(client))
    assert accepted(client, lora=[]) == []


def test_a_loaded_adapter_of_another_model_of_the_server_is_left_out(
    config: ServerConfig, root: Path
) -> None:
    models = config.worker.models
    adapters = Adapters([root], models, config.worker.home / "lora.json")
    adapters._linears["wide"] = {}
    adapters.state.load("lofi", root / "lofi")
    music, notes = adapters.pinned(request_from({"prompt": "x"}), "wide")
    assert music.lora == ()
    assert "made without it" in notes[0]


def test_an_adapter_is_read_once_until_it_changes(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = accepted(client, lora="lofi")[0]["sha256"]
    with monkeypatch.context() as patch:
        patch.setattr("luthier.server.acestep.lora_catalogue.open_adapter", None)
        assert accepted(client, lora="lofi")[0]["sha256"] == first
    write_adapter(root / "lofi", LINEARS, seed=9)
    assert accepted(client, lora="lofi")[0]["sha256"] != first


def _music(root: Path, name: str, adapters: Adapters, **more: Any) -> dict[str, Any]:
    facts = adapters.facts(root / name)
    lora = {"path": str(root / name), "sha256": facts.sha256, "config_sha256": facts.config_sha256}
    music = {"prompt": "calm piano", "duration_s": 1, "steps": 2, "seed": 3, "lora": [lora | more]}
    return {"kind": "music", "music": music, "options": {"audio_format": "wav"}}


def test_workers_play_what_was_accepted_or_say_why_not(
    setup: WorkerSetup, queue: Queue, supervisor: Supervisor, wait: Wait, root: Path
) -> None:
    adapters = Adapters([root], setup.models, setup.home / "lora.json")
    plain = _music(root, "lofi", adapters, scale=0)
    identities = [
        queue.submit(request).task.id
        for request in (plain, _music(root, "lofi", adapters, scale=0.5))
    ]
    changed = _music(root, "run/step=10_lora", adapters)
    write_adapter(root / "run" / "step=10_lora", LINEARS, seed=7)
    gone = _music(root, "other", adapters)
    shutil.rmtree(root / "other")
    identities += [queue.submit(request).task.id for request in (changed, gone)]
    supervisor.wake()
    tasks = [wait(identity) for identity in identities]
    assert [task.state for task in tasks] == ["succeeded", "succeeded", "failed", "failed"]
    places = Places(setup.home)
    sounds = []
    for task in tasks[:2]:
        folder = places.results / task.id / (task.result or {})["folder"]
        sounds.append(read_audio(folder / "1.wav")[0])
        record = json.loads((folder / "1.wav.run.json").read_text())
        assert (
            record["config"]["request"]["lora"][0]["sha256"] == adapters.facts(root / "lofi").sha256
        )
    assert (sounds[0] != sounds[1]).any()
    assert "step=10_lora has changed since" in (tasks[2].error or "")
    assert "other does not exist" in (tasks[3].error or "")
    assert not any(str(root) in (task.error or "") for task in tasks)


def test_the_command_line_registers_roots(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "--dry-run", "--home", str(tmp_path / "home"), "--lora-root"]
    assert main([*words, str(root)]) == 0
    assert main([*words, str(tmp_path / "nowhere")]) == 1
    assert "the LoRA root" in capsys.readouterr().err


def test_answers_name_adapters_without_their_place(client: TestClient) -> None:
    lora = [{"path": "/srv/loras/lofi", "scale": 0.5, "sha256": "ab", "config_sha256": "cd"}]
    assert _without_places({"lora": lora, "source_audio": "/x"}) == {
        "lora": [{"name": "lofi", "scale": 0.5, "sha256": "ab", "config_sha256": "cd"}]
    }


def single(folder: Path, name: str = "style.safetensors") -> Path:
    """One file as ComfyUI takes it."""
    write_adapter(folder / "peft", LINEARS)
    convert(folder / "peft", "comfyui", folder / name)
    shutil.rmtree(folder / "peft")
    (folder / f"{name}.run.json").unlink()
    return folder / name


def test_single_files_are_offered_and_played_by_name(client: TestClient, root: Path) -> None:
    single(root / "files")
    (root / "files" / "notes.safetensors").write_bytes(b"nothing")
    names = client.get("/v1/capabilities").json()["data"]["adapters"]
    assert names == ["files/style.safetensors", "lofi", "other", "run/step=10_lora"]
    (one,) = accepted(client, lora="files/style.safetensors:0.5")
    assert (Path(one["path"]).name, one["scale"]) == ("style.safetensors", 0.5)
    assert (len(one["sha256"]), one["config_sha256"]) == (64, "")
    answer = client.post("/v1/lora/load", json={"lora_path": "files/style.safetensors"}).json()
    assert answer["data"]["message"] == "style is loaded: LoRA of rank 3."
    told(release(client, lora="files/notes.safetensors"))


def test_a_checkpoint_s_other_spellings_are_not_offered(client: TestClient, root: Path) -> None:
    folder = root / "run" / "step=10_lora"
    convert(folder, "acestep", root.parent / "made" / "acestep")
    convert(folder, "comfyui", root.parent / "made" / "comfyui.safetensors")
    shutil.copytree(root.parent / "made", folder, dirs_exist_ok=True)
    names = client.get("/v1/capabilities").json()["data"]["adapters"]
    assert names == ["lofi", "other", "run/step=10_lora"]
    assert accepted(client, lora="run/step=10_lora/comfyui.safetensors")


def test_the_hub_s_cache_below_a_root_is_played_and_nothing_outside(
    client: TestClient, root: Path
) -> None:
    blobs, snapshot = root / "models--a--b" / "blobs", root / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    file = single(root / "files")
    shutil.move(file, blobs / "0a1b")
    (snapshot / "style.safetensors").symlink_to("../../blobs/0a1b")
    name = "models--a--b/snapshots/1/style.safetensors"
    assert accepted(client, lora=name)[0]["path"].endswith("style.safetensors")
    (snapshot / "style.safetensors").unlink()
    (snapshot / "style.safetensors").symlink_to(single(root.parent / "elsewhere"))
    assert "there is no adapter" in told(release(client, lora=name))
