"""What `luthier matrix` found out about this device, for clients that fit themselves to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from luthier.errors import PathError, RequestError
from luthier.files import read_json, sha256_of
from luthier.runtime.manifest import MANIFEST_NAME
from luthier.server.schemas.health import Explored


def explored_from(path: Path, models: Mapping[str, Path]) -> dict[str, Explored]:
    """What a `matrix.json` recommends, by model; models that are not served are left out.

    Args:
        models: the served ones, name → folder.

    Raises:
        PathError: there is no such file, or it is no JSON.
        RequestError: it is no result of `luthier matrix`, or of another model of the same name.
    """
    if path.is_dir():
        path /= "matrix.json"
    result = read_json(path)
    try:
        measured = str(result["created"])
        found = {
            name: Explored.model_validate(_chosen(facts) | {"measured": measured})
            for name, facts in result["recommended"].items()
            if name in models
        }
        players = result["environment"]["models"]
        digests = {name: players.get(name, {}).get("manifest_sha256") for name in found}
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise RequestError(
            f"--matrix {path} is no result of `luthier matrix` ({type(error).__name__}): give the "
            "matrix.json that it wrote, or its folder."
        ) from error
    for name, digest in digests.items():
        _check_same(name, digest, models[name], path)
    return found


def _chosen(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of all that a matrix says of a model, what a client can act on."""
    tasks = {
        task: {field: said[field] for field in ("verdict", "why", "speed")}
        for task, said in facts["tasks"].items()
    }
    fields = ("offer", "steps", "batch", "longest_live_s", "memory_gb")
    return {field: facts[field] for field in fields} | {"tasks": tasks}


def _check_same(name: str, digest: str | None, folder: Path, path: Path) -> None:
    """A matrix that was made over HTTP does not know the models' files."""
    manifest = folder / MANIFEST_NAME
    if digest is None:
        return
    if not manifest.is_file():
        raise PathError(f"{manifest} does not exist: the model {name} is incomplete.")
    if sha256_of(manifest) != digest:
        raise RequestError(
            f"--matrix {path} was measured with another model called {name}: run `luthier matrix` "
            "with this one."
        )
