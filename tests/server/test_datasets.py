"""ACE-Step's data set routes: from a folder of recordings to something to train on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from luthier.audio.encode import write_audio
from luthier.files import write_json
from luthier.server.acestep.datasets import merged
from luthier.server.app import create_app
from luthier.server.config import ServerConfig
from luthier.server.schemas.datasets import LabelStatus, PreprocessStatus
from prepared import source

RATE = 16000
NAMES = {"calm": 220.0, "dusk": 330.0, "rain": 440.0}


def write_recording(path: Path, pitch: float, seconds: float = 8.0) -> None:
    """A tone that is struck twice a second: 120 beats a minute."""
    times = np.arange(int(seconds * RATE)) / RATE
    struck = 0.4 * np.sin(2 * np.pi * pitch * times) * np.exp(-8 * (times % 0.5))
    write_audio(path, struck[None].astype(np.float32), RATE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "raw" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name, pitch in NAMES.items():
        write_recording(folder / "raw" / ("deep" if name == "rain" else "") / f"{name}.wav", pitch)
    (folder / "raw" / "dusk.txt").write_text("[Verse]\nsun goes down\n")
    write_recording(tmp_path / "outside" / "secret.wav", 550.0, 1.0)
    (folder / "raw" / "link.wav").symlink_to(tmp_path / "outside" / "secret.wav")
    (folder / "away").symlink_to(tmp_path / "outside")
    write_json(folder / "raw" / "sources.json", [source(track_ids=list(NAMES))])
    return folder


@contextmanager
def working(config: ServerConfig, root: Path, **more: Any) -> Iterator[TestClient]:
    app = create_app(replace(config, data_roots=(root,), **more))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        yield client


def post(client: TestClient, route: str, **body: Any) -> Any:
    return client.post(f"/v1/dataset/{route}", json=body)


def data(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def get(client: TestClient, route: str) -> dict[str, Any]:
    return data(client.get(f"/v1/dataset/{route}"))


def until(is_so: Callable[[], Any], patience_s: float = 120) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def ended(client: TestClient, route: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        told = get(client, route)
        return None if told["status"] == "running" else told

    return dict(until(look))


def test_from_a_folder_to_a_data_set(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        found = post(client, "scan", audio_dir="raw", dataset_name="calm", custom_tag="zulu",
                     tag_position="prepend")  # fmt: skip
        assert [s["filename"] for s in data(found)["samples"]] == [
            "calm.wav", "dusk.wav", "rain.wav"
        ]  # fmt: skip
        assert "1 files were left out" in " ".join(found.json()["extra"]["notes"])
        assert data(found)["samples"][1]["lyrics"].startswith("[Verse]")
        assert not data(found)["samples"][1]["is_instrumental"]

        heard = post(client, "auto_label", save_path="calm.json", transcribe_lyrics=True)
        assert data(heard)["labeled_count"] == 3
        notes = " ".join(heard.json()["extra"]["notes"])
        assert "transcribe_lyrics has no effect" in notes
        assert "3 recordings have no style" in notes
        first = get(client, "sample/0")
        assert first["bpm"] == pytest.approx(120, abs=3) or first["bpm"] == pytest.approx(60, abs=2)
        assert first["duration"] == 8.0
        assert first["caption"]
        assert first["keyscale"]
        saved = json.loads((root / "calm.json").read_text())
        assert [s["labeled"] for s in saved["samples"]] == [True] * 3

        changed = client.put("/v1/dataset/sample/0", json={"caption": "calm piano", "bpm": 60})
        assert data(changed)["sample"] | {"caption": "", "bpm": 0} == first | {
            "caption": "", "bpm": 0
        }  # fmt: skip
        assert data(post(client, "save", save_path="calm.json", dataset_name="calmer"))
        assert json.loads((root / "calm.json").read_text())["metadata"]["name"] == "calmer"

        begun = data(post(client, "preprocess_async", output_dir="set"))
        assert (begun["total"], begun["message"]) == (3, "Preprocessing task started")
        built = ended(client, f"preprocess_status/{begun['task_id']}")
        assert (built["status"], built["result"]["num_tensors"]) == ("completed", 3), built
        held = client.post("/v1/training/load_tensor_info", json={"tensor_dir": "set"})
        assert data(held)["tracks"] == 3
        from luthier.music.dataset.build import SPLITS, load_rows

        rows = {row["keys"]: row for split in SPLITS for row in load_rows(root / "set", split)}
        assert rows["calm"]["caption"] == "zulu, calm piano"
        assert rows["calm"]["bpm"] == 60
        assert rows["dusk"]["lyrics"] == "[Verse]\nsun goes down"
        assert rows["rain"]["filename"] == str(root / "raw" / "deep" / "rain.wav")


def test_without_a_licence_nothing_is_built(config: ServerConfig, root: Path) -> None:
    write_json(root / "raw" / "sources.json", [source(track_ids=["calm", "dusk"])])
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        for place in range(3):
            client.put(f"/v1/dataset/sample/{place}", json={"caption": "piano"})
        refused = post(client, "preprocess", output_dir="set")
        assert refused.status_code == 400
        assert "1 track may not be trained on" in refused.json()["detail"]
        assert "rain (no source record)" in refused.json()["detail"]
        told = get(client, "preprocess_status")
        assert (told["status"], told["result"]) == ("failed", None)
        assert "rain (no source record)" in told["error"]
        job = client.get(f"/v1/jobs/{told['task_id']}").json()["data"]
        assert (job["code"], job["result"]["refused"][0]["track_id"]) == (3, "rain")
        assert not (root / "set").exists()
        (root / "raw" / "sources.json").unlink()
        assert "sources.json" in post(client, "preprocess", output_dir="set").json()["detail"]


def test_the_working_set_survives_a_restart(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        assert post(client, "auto_label").status_code == 400
        assert client.get("/v1/dataset/samples").status_code == 400
        assert get(client, "auto_label_status") == dict.fromkeys(LabelStatus.model_fields) | {
            "status": "idle", "progress": "", "current": 0, "total": 0
        }  # fmt: skip
        assert set(get(client, "preprocess_status")) == set(PreprocessStatus.model_fields)
        post(client, "scan", audio_dir="raw", dataset_name="kept")
        client.put("/v1/dataset/sample/2", json={"caption": "rain", "lyrics": "drip"})
        before = get(client, "samples")
        assert before["labeled_count"] == 1
    with working(config, root) as client:
        assert get(client, "samples") == before
    (config.worker.home / "dataset" / "working.json").write_text('{"folder": 1}')
    with working(config, root) as client:
        assert "scan or load it again" in client.get("/v1/dataset/samples").json()["detail"]
        assert data(post(client, "scan", audio_dir="raw"))["num_samples"] == 3


def test_labels_come_while_somebody_edits(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        client.put("/v1/dataset/sample/1", json={"caption": "mine", "is_instrumental": False})
        begun = data(post(client, "auto_label_async", only_unlabeled=True, batchsize=4))
        assert begun["total"] == 2
        client.put("/v1/dataset/sample/0", json={"caption": "written meanwhile"})
        assert post(client, "scan", audio_dir="raw").status_code == 409
        assert post(client, "auto_label_async").status_code == 409
        told = ended(client, f"auto_label_status/{begun['task_id']}")
        assert (told["status"], told["current"], told["save_path"]) == ("completed", 2, None)
        rows = told["result"]["samples"]
        assert [r["caption"] for r in rows[:2]] == ["written meanwhile", "mine"]
        assert (rows[0]["bpm"] or 0) > 0
        assert rows[1]["bpm"] is None
        assert told["last_updated_sample"]["filename"] == "rain.wav"
        done = data(post(client, "auto_label_async", only_unlabeled=True))
        assert done == {"task_id": None, "message": "All samples already labeled", "total": 0}
        assert client.get(f"/v1/dataset/preprocess_status/{begun['task_id']}").status_code == 404
        # A person's next change outlasts another look at the same labels.
        client.put("/v1/dataset/sample/0", json={"bpm": None})
        assert get(client, "sample/0")["bpm"] is None


def test_a_restart_amid_labelling_loses_nothing(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        begun = data(post(client, "auto_label_async"))
    with working(config, root) as client:
        assert ended(client, f"auto_label_status/{begun['task_id']}")["status"] == "completed"
        assert get(client, "samples")["labeled_count"] == 3


def test_what_cannot_be_heard_stays_unlabelled(config: ServerConfig, root: Path) -> None:
    (root / "raw" / "calm.wav").write_bytes(b"RIFF, or so it says")
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        heard = post(client, "auto_label", skip_metas=True)
        assert data(heard)["labeled_count"] == 2
        assert "calm.wav cannot be heard" in " ".join(heard.json()["extra"]["notes"])
        assert [s["bpm"] for s in data(heard)["samples"]] == [None] * 3


def test_a_file_is_loaded_and_saved_without_loss(config: ServerConfig, root: Path) -> None:
    sample = {"audio_path": str(root / "raw" / "calm.wav"), "caption": "c", "bpm": "120",
              "timesignature": 4, "genre": None, "of_somebody": [1, {"x": None}]}  # fmt: skip
    whole = {"metadata": {"name": "n", "tag": 1}, "samples": [sample], "version": 3}
    write_json(root / "in.json", whole)
    with working(config, root) as client:
        found = data(post(client, "load", dataset_path="in.json"))
        assert (found["dataset_name"], found["num_samples"], found["labeled_count"]) == ("n", 1, 0)
        assert found["samples"][0]["bpm"] == 120
        assert found["samples"][0]["timesignature"] == "4"
        assert data(post(client, "save", save_path="new/out.json", dataset_name="n"))
        out = json.loads((root / "new" / "out.json").read_text())
        assert (out["samples"], out["version"], out["metadata"]["tag"]) == ([sample], 3, 1)


def test_words_make_a_song_and_an_instrumental_has_none(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        sung = client.put("/v1/dataset/sample/0", json={"lyrics": "la la", "language": "en"})
        assert data(sung)["sample"]["is_instrumental"] is False
        whole = {"caption": "c", "lyrics": "la la", "language": "en", "is_instrumental": True}
        wordless = data(client.put("/v1/dataset/sample/0", json=whole))["sample"]
        assert (wordless["lyrics"], wordless["language"]) == ("[Instrumental]", "unknown")
        assert (wordless["labeled"], wordless["is_instrumental"]) == (True, True)


def test_edits_at_once_all_count(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        fields = {"caption": "c", "genre": "g", "keyscale": "A minor", "bpm": 90.0}

        def edit(field: str, place: int) -> None:
            answer = client.put(f"/v1/dataset/sample/{place}", json={field: fields[field]})
            assert answer.status_code == 200

        threads = [threading.Thread(target=edit, args=(f, p)) for f in fields for p in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for row in get(client, "samples")["samples"]:
            assert {name: row[name] for name in fields} == fields


OUTSIDE = ["../outside", "/etc", "away", "raw/../../outside", "raw\0", "", " ", "a" * 5000, "x\ny"]


FIELDS = [
    ("scan", "audio_dir"),
    ("load", "dataset_path"),
    ("save", "save_path"),
    ("auto_label", "save_path"),
    ("preprocess", "output_dir"),
    ("preprocess", "metadata"),
]


@pytest.mark.parametrize(("route", "field"), FIELDS, ids=[" ".join(row) for row in FIELDS])
def test_nothing_outside_the_roots_is_named(
    config: ServerConfig, root: Path, route: str, field: str
) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        client.put("/v1/dataset/sample/0", json={"caption": "c"})
        for named in OUTSIDE:
            if named == "" and (route, field) in FIELDS[3::2]:
                continue  # the same as not given
            answer = post(client, route, **{"output_dir": "set"} | {field: named})
            assert answer.status_code == 400, (named, answer.text)
        assert client.get("/v1/jobs").json()["data"]["jobs"] == []
    assert sorted(p.name for p in (root.parent / "outside").iterdir()) == ["secret.wav"]


def test_a_file_names_no_recording_elsewhere(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        for named in ("/etc/passwd", "../outside/secret.wav", "raw/link.wav", ""):
            write_json(root / "in.json", {"metadata": {}, "samples": [{"audio_path": named}]})
            answer = post(client, "load", dataset_path="in.json")
            assert answer.status_code == 400
            assert "samples.0.audio_path" in answer.json()["detail"]
        # A name like any other: nobody's home is meant.
        write_json(root / "in.json", {"metadata": {}, "samples": [{"audio_path": "~"}]})
        (row,) = data(post(client, "load", dataset_path="in.json"))["samples"]
        assert row["audio_path"] == str(root / "~")


def test_a_link_that_comes_later_is_not_followed(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        client.put("/v1/dataset/sample/0", json={"caption": "c"})
        (root / "raw" / "calm.wav").unlink()
        (root / "raw" / "calm.wav").symlink_to(root.parent / "outside" / "secret.wav")
        for answer in (post(client, "auto_label"), post(client, "preprocess", output_dir="set")):
            assert answer.status_code == 400
            assert "outside the folders allowed" in answer.json()["detail"]
        assert get(client, "sample/0")["duration"] == 0


def test_what_is_no_data_set_is_neither_loaded_nor_overwritten(
    config: ServerConfig, root: Path
) -> None:
    for name, text in {
        "nan.json": '{"metadata": {"x": NaN}, "samples": [{"audio_path": "raw/calm.wav"}]}',
        "half.json": '{"metadata": {"x": "\\ud800"}, "samples": [{"audio_path": "raw/calm.wav"}]}',
        "deep.json": "[" * 5000 + "]" * 5000,
        "none.json": '{"metadata": {}, "samples": []}',
        "long.json": json.dumps({"metadata": {}, "samples": [{"audio_path": "x"}] * 10_001}),
        "many.json": '{"metadata": {}, "samples": [' + "[]," * 200_000 + "[]]}",
        "wrong.json": '{"samples": [{"audio_path": 7}]}',
    }.items():
        (root / name).write_text(text)
    with working(config, root) as client:
        assert post(client, "scan", audio_dir="raw").status_code == 200
        for path in [*root.glob("*.json"), root / "raw" / "calm.wav", root / "raw"]:
            answer = post(client, "load", dataset_path=str(path))
            assert answer.status_code in (400, 413), (path, answer.text)
        for name in ("raw/calm.wav", "raw/sources.json", "wrong.json", "raw", "new.txt"):
            before = (root / name).read_bytes() if (root / name).is_file() else b""
            assert post(client, "save", save_path=name).status_code == 400, name
            assert post(client, "auto_label", save_path=name).status_code == 400, name
            assert not before or (root / name).read_bytes() == before
        assert get(client, "samples")["num_samples"] == 3


def test_a_folder_of_too_many_recordings_is_refused(
    config: ServerConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier.server.acestep.dataset_files._MOST_SAMPLES", 2)
    with working(config, root) as client:
        assert "more than 2" in post(client, "scan", audio_dir="raw").json()["detail"]
        (root / "bare").mkdir()
        assert "no audio files" in post(client, "scan", audio_dir="bare").json()["detail"]


def test_a_change_that_is_refused_changes_nothing(config: ServerConfig, root: Path) -> None:
    refused: list[tuple[str, dict[str, Any], int]] = [
        ("3", {"caption": "c"}, 404),
        ("-1", {"caption": "c"}, 404),
        ("9" * 30, {"caption": "c"}, 404),
        ("x", {"caption": "c"}, 400),
        ("0", {"bpm": 1e9}, 400),
        ("0", {"bpm": "fast"}, 400),
        ("0", {"caption": "c" * 2001}, 400),
        ("0", {"caption": ["c"]}, 400),
        ("0", {"prompt_override": "style"}, 400),
        ("0", {"lyrics": "l" * 20_001}, 400),
    ]
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        before = get(client, "samples")
        for place, body, status in refused:
            answer = client.put(f"/v1/dataset/sample/{place}", json=body)
            assert answer.status_code == status, (place, body)
        assert get(client, "samples") == before


def test_they_are_off_by_default(client: TestClient, locked: TestClient) -> None:
    for send in (
        lambda c: post(c, "scan", audio_dir="raw"),
        lambda c: post(c, "auto_label_async"),
        lambda c: post(c, "preprocess", output_dir="set"),
        lambda c: c.get("/v1/dataset/samples"),
        lambda c: c.put("/v1/dataset/sample/0", json={"caption": "c"}),
    ):
        assert send(client).status_code == 403
        assert send(locked).status_code == 401


def test_their_jobs_are_no_commands_of_clients(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        for command in ("dataset_label", "dataset_prepare"):
            body = {"command": command, "arguments": {"task": "../../x", "total": 1}}
            assert client.post("/v1/jobs", json=body).status_code == 400


def test_a_stopped_labelling_goes_on_and_an_old_one_does_not(
    config: ServerConfig, root: Path
) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw")
        first = data(post(client, "auto_label_async"))["task_id"]
        client.post(f"/v1/jobs/{first}/stop")
        assert ended(client, f"auto_label_status/{first}")["status"] == "failed"
        assert data(client.post(f"/v1/jobs/{first}/resume"))["state"] == "queued"
        assert ended(client, "auto_label_status")["status"] == "completed"
        assert get(client, "samples")["labeled_count"] == 3
        second = data(post(client, "auto_label_async"))["task_id"]
        client.post(f"/v1/jobs/{second}/stop")
        ended(client, "auto_label_status")
        data(post(client, "auto_label"))
        assert client.post(f"/v1/jobs/{second}/resume").status_code == 409


def test_labels_and_edits_are_merged_field_by_field() -> None:
    base = [{"a": 1, "b": 2}, {"a": 1}]
    ours = ({"a": 9, "b": 2, "mine": 0}, {"a": 1})
    answer = [{"a": 5, "b": 6, "new": 7}, {"a": 1}]
    samples, last = merged(ours, base, answer)
    assert samples == ({"a": 9, "b": 6, "mine": 0, "new": 7}, {"a": 1})
    assert last == 0
    assert merged(samples, answer, answer) == (samples, None)


@pytest.mark.slow
def test_from_a_folder_to_an_adapter_of_mini(config: ServerConfig, root: Path) -> None:
    with working(config, root) as client:
        post(client, "scan", audio_dir="raw", dataset_name="calm")
        assert data(post(client, "auto_label"))["labeled_count"] == 3
        client.put("/v1/dataset/sample/0", json={"caption": "calm piano, rain"})
        data(post(client, "save", save_path="calm.json", dataset_name="calm"))
        data(post(client, "preprocess", output_dir="set"))
        data(client.post("/v1/training/start", json={
            "tensor_dir": "set", "lora_output_dir": "runs/calm", "lora_rank": 2,
            "train_epochs": 2, "gradient_accumulation": 1, "save_every_n_epochs": 1,
        }))  # fmt: skip

        def look() -> dict[str, Any] | None:
            told = data(client.get("/v1/training/status"))
            return None if told["is_training"] else told

        told = until(look, 540)
        assert told["error"] is None, told
        assert told["current_step"] == told["total_steps"]
        export = {"export_path": "adapters/calm", "lora_output_dir": "runs/calm"}
        data(client.post("/v1/training/export", json=export))
        assert (root / "adapters" / "calm" / "adapter_model.safetensors").is_file()
