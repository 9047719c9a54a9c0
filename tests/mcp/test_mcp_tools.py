"""`luthier mcp` as a host uses it: the SDK's own client over standard input and output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from luthier.audio.decode import read_audio
from luthier.audio.encode import write_audio
from mcp import Client, StdioServerParameters
from serving import KEY, running_server

QUICK = {"duration_s": 1, "steps": 2, "seed": 4}
LONG = {"prompt": "long", "duration_s": 10, "steps": 200}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    sound = 0.3 * np.sin(np.arange(24000 * 2) / 30, dtype=np.float32)
    write_audio(folder / "in.wav", np.stack([sound, sound]), 24000)
    write_audio(tmp_path / "secret.wav", np.stack([sound, sound]), 24000)
    (folder / "notes.txt").write_text("not for the model")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    return folder


def talk(root: Path, say: Callable[[Client], Awaitable[None]], *words: str, key: str = "") -> None:
    command = ["-m", "luthier", "mcp", "--root", str(root), *words]
    env = os.environ | {"OMP_NUM_THREADS": "1", "LUTHIER_API_KEY": key}
    host = StdioServerParameters(command=sys.executable, args=command, env=env)

    async def run() -> None:
        with anyio.fail_after(100):
            async with Client(host) as client:
                await say(client)

    anyio.run(run)


async def used(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    found = result.structured_content
    assert found is not None
    return found.get("result", found)


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


def test_generate_then_repaint_what_was_made(root: Path) -> None:
    async def say(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"generate", "repaint", "status", "cancel"}  # no voices here: no speak
        assert "tempo" in str(tools["generate"].input_schema["properties"]["bpm"])
        heard: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            heard.append(done)

        result = await client.call_tool(
            "generate", {"prompt": "Calm Piano!", **QUICK, "wait_s": 90}, progress_callback=progress
        )
        made = result.structured_content
        assert made is not None
        assert made["state"] == "succeeded", made
        assert heard == sorted(heard)
        assert heard
        (file,) = made["files"]
        path = Path(file["path"])
        assert path.parent == root / "luthier"
        assert path.name.startswith("calm-piano-")
        audio, rate = read_audio(path)
        assert audio.shape[1] / rate == pytest.approx(1, abs=0.01)
        again = await used(client, "repaint", source_audio=str(path), start_s=0.2, end_s=0.6,
                           steps=2, wait_s=90)  # fmt: skip
        assert again["state"] == "succeeded", again
        assert read_audio(Path(again["files"][0]["path"]))[0].shape == audio.shape
        overview = await used(client, "status")
        assert [task["task_id"] for task in overview["tasks"]] == [
            again["task_id"],
            made["task_id"],
        ]
        assert overview["models"][0]["name"] == "mini"

    talk(root, say, "--threads", "1")


def test_a_long_task_is_left_to_itself_and_cancelled(root: Path) -> None:
    async def say(client: Client) -> None:
        first = await used(client, "generate", **LONG, wait_s=0)
        second = await used(client, "generate", **LONG, wait_s=0)
        assert first["state"] in ("queued", "running")
        stopped = await used(client, "cancel", task_id=second["task_id"])
        assert stopped["state"] == "cancelled", stopped
        await used(client, "cancel", task_id=first["task_id"])
        ended = await used(client, "status", task_id=first["task_id"], wait_s=60)
        assert ended["state"] == "cancelled"
        assert "no task" in await refused(client, "status", task_id="none")

    talk(root, say, "--threads", "1")
    assert not list(root.glob("luthier/*.wav"))


def test_refusals_are_sentences_and_nothing_outside_the_root_is_read(root: Path) -> None:
    async def say(client: Client) -> None:
        for named in ("../secret.wav", str(root.parent / "secret.wav"), "link.wav", "notes.txt",
                      "/etc/passwd", "none.wav", "", "in.wav\0.txt", "."):  # fmt: skip
            said = await refused(client, "repaint", source_audio=named, start_s=0.5)
            assert "is no recording below" in said, (named, said)
        assert "bpm" in await refused(client, "generate", prompt="x", bpm=7)
        assert "no model 'x'" in await refused(client, "generate", prompt="x", model="x")
        said = await refused(client, "repaint", source_audio="in.wav", start_s=1, end_s=0.5)
        assert "before it starts" in said
        late = await used(client, "repaint", source_audio="in.wav", start_s=7, wait_s=60)
        assert late["state"] == "failed"
        assert "the recording is 2 s long" in late["error"]

    talk(root, say, "--threads", "1")


def test_a_server_plays_it(root: Path, tmp_path: Path) -> None:
    with running_server(tmp_path / "server", key=KEY) as server:

        async def say(client: Client) -> None:
            made = await used(client, "repaint", source_audio="in.wav", start_s=0.5, end_s=1,
                              steps=2, wait_s=90)  # fmt: skip
            assert made["state"] == "succeeded", made
            assert read_audio(Path(made["files"][0]["path"]))[0].shape[1] > 40_000
            overview = await used(client, "status")
            assert overview["where"] == server.address
            running = await used(client, "generate", **LONG, wait_s=0)
            await used(client, "cancel", task_id=running["task_id"])

        talk(root, say, "--server", server.address, "--out", str(tmp_path / "out"), key=KEY)
        assert len(list((tmp_path / "out").glob("*.wav"))) == 1

        async def stranger(client: Client) -> None:
            assert "Invalid API key" in await refused(client, "generate", prompt="x")

        talk(root, stranger, "--server", server.address, key="wrong")


def test_what_is_missing_is_said(root: Path) -> None:
    hidden = "import sys; sys.modules['mcp'] = None\nfrom luthier.cli.main import main\n"
    command = [sys.executable, "-c", hidden + f"sys.exit(main(['mcp', '--root', {str(root)!r}]))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'luthier[mcp]'" in done.stderr
    assert done.stdout == ""
