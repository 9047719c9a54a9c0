"""The tools that a language model gets: generate, repaint, status, cancel."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

from luthier import __version__
from luthier.errors import LuthierError
from luthier.mcp.places import Places
from luthier.mcp.players import Look, Player
from luthier.music.request import MusicRequest, request_from

_LOOK_S = 0.2
_WAIT_S = 45.0  # many hosts give up on a call after a minute
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_STOPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)


class File(TypedDict):
    """A piece of music on the disk."""

    path: str
    seed: int
    duration_s: float


class Told(TypedDict):
    """A task: queued, running, succeeded, failed or cancelled; `files` once it has succeeded."""

    task_id: str
    state: str
    stage: str
    progress: float
    error: str | None
    files: list[File]


class Overview(TypedDict):
    """Where music is made, with which models, and the last tasks."""

    where: str
    models: list[dict[str, Any]]
    root: str
    out: str
    tasks: list[Told]


def _said(name: str) -> Any:
    """A parameter that means the same as the request's field."""
    field = MusicRequest.model_fields[name]
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else ""
    return Field(description=f"{field.description}{f' ({unit})' if unit else ''}")


Wait = Annotated[
    float,
    Field(
        ge=0,
        le=600,
        description="answer after so many seconds at the latest; a task that still runs goes on, "
        "and status tells of it",
    ),
]
Model = Annotated[str | None, Field(description="name of a model, see status; its default if not")]


def build_server(player: Player, places: Places) -> MCPServer:
    """An MCP server whose tools play with `player`, within `places`."""
    server = MCPServer(
        "luthier",
        version=__version__,
        log_level="WARNING",
        instructions="Makes music from descriptions and changes recordings. A call that takes long "
        "answers with a task_id: ask status for it until its state is succeeded.",
    )
    tools = _Tools(player, places)
    server.add_tool(tools.generate, annotations=_ADDS)
    server.add_tool(tools.repaint, annotations=_ADDS)
    server.add_tool(tools.status, annotations=_READS)
    server.add_tool(tools.cancel, annotations=_STOPS)
    return server


class _Tools:
    def __init__(self, player: Player, places: Places) -> None:
        self._player, self._places = player, places

    async def generate(  # noqa: PLR0913 - the parameters are what a language model can say
        self,
        ctx: Context[Any, Any],
        prompt: Annotated[str, _said("prompt")],
        lyrics: Annotated[str, _said("lyrics")] = "",
        duration_s: Annotated[float | None, _said("duration_s")] = None,
        bpm: Annotated[int | None, _said("bpm")] = None,
        key: Annotated[str | None, _said("key")] = None,
        time_signature: Annotated[str | None, _said("time_signature")] = None,
        reference_audio: Annotated[str | None, _said("reference_audio")] = None,
        seed: Annotated[int | None, _said("seed")] = None,
        steps: Annotated[int | None, _said("steps")] = None,
        batch_size: Annotated[int, _said("batch_size")] = 1,
        model: Model = None,
        wait_s: Wait = _WAIT_S,
    ) -> Told:
        """Make music from a description. Answers with the files, or with a task that goes on."""
        values = {
            "prompt": prompt,
            "lyrics": lyrics,
            "duration_s": duration_s,
            "bpm": bpm,
            "key": key,
            "time_signature": time_signature,
            "reference_audio": reference_audio,
            "seed": seed,
            "steps": steps,
            "batch_size": batch_size,
        }
        return await self._made(ctx, values, model, wait_s)

    async def repaint(  # noqa: PLR0913
        self,
        ctx: Context[Any, Any],
        source_audio: Annotated[str, _said("source_audio")],
        start_s: Annotated[float, _said("repaint_start_s")],
        end_s: Annotated[float | None, _said("repaint_end_s")] = None,
        prompt: Annotated[str, _said("prompt")] = "",
        strength: Annotated[float, _said("repaint_strength")] = 0.5,
        seed: Annotated[int | None, _said("seed")] = None,
        steps: Annotated[int | None, _said("steps")] = None,
        model: Model = None,
        wait_s: Wait = _WAIT_S,
    ) -> Told:
        """Make a part of a recording anew; the rest stays as it is. The recording is not changed:
        the result is a new file.
        """
        values = {
            "task": "repaint",
            "source_audio": source_audio,
            "repaint_start_s": start_s,
            "repaint_end_s": end_s,
            "prompt": prompt,
            "repaint_strength": strength,
            "seed": seed,
            "steps": steps,
        }
        return await self._made(ctx, values, model, wait_s)

    async def status(
        self,
        task_id: Annotated[str, Field(description="of a task; nothing: an overview")] = "",
        wait_s: Annotated[
            float, Field(ge=0, le=600, description="wait so long for its end, seconds")
        ] = 0.0,
        ctx: Context[Any, Any] | None = None,
    ) -> Told | Overview:
        """How a task is doing and where its files are; without a task: models and last tasks."""
        if task_id:
            return await self._followed(ctx, task_id, wait_s)
        return Overview(
            where=self._player.where,
            models=await _done(self._player.models),
            root=str(self._places.root),
            out=str(self._places.out),
            tasks=[_told(look) for look in await _done(self._player.recent)],
        )

    async def cancel(self, task_id: str) -> Told:
        """Stop a task. A running one ends at its next step."""
        return _told(await _done(self._player.cancel, task_id))

    async def _made(
        self, ctx: Context[Any, Any], values: dict[str, Any], model: str | None, wait_s: float
    ) -> Told:
        def submitted() -> str:
            said = {name: value for name, value in values.items() if value is not None}
            for field in ("source_audio", "reference_audio"):
                if field in said:
                    said[field] = self._places.recording(said[field])
            request = request_from(said)
            return self._player.submit(request, self._places.new(request.prompt), model)

        task_id: str = await _done(submitted)
        try:
            return await self._followed(ctx, task_id, wait_s)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):  # nobody waits for it any more
                await _done(self._player.cancel, task_id)
            raise

    async def _followed(self, ctx: Context[Any, Any] | None, task_id: str, wait_s: float) -> Told:
        deadline = anyio.current_time() + wait_s
        shown = -1.0
        while True:
            look: Look = await _done(self._player.look, task_id)
            if ctx is not None and look.progress > shown:
                shown = look.progress
                await ctx.report_progress(look.progress, 1.0, look.stage)
            if look.has_ended or anyio.current_time() >= deadline:
                return _told(look)
            await anyio.sleep(_LOOK_S)


async def _done(work: Any, *values: Any) -> Any:
    """Do it on a thread; what luthier refuses becomes a sentence for the language model."""
    try:
        return await run_sync(work, *values)
    except LuthierError as error:
        raise ToolError(str(error)) from error


def _told(look: Look) -> Told:
    files = [File(path=str(m.path), seed=m.seed, duration_s=m.duration_s) for m in look.pieces]
    return Told(
        task_id=look.id,
        state=look.state,
        stage=look.stage,
        progress=look.progress,
        error=look.error,
        files=files,
    )
