"""What ACE-Step's LoRA routes set: adapters that are loaded, and the one that plays by default.

It lies in one file of the server's home, so that a restart plays on as before.
"""

from __future__ import annotations

import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from luthier.errors import PathError, StorageError
from luthier.files import read_json, write_json
from luthier.server.http.errors import Refusal

_MOST = 100


class Loaded(BaseModel):
    """An adapter under the name that it was loaded with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    scale: float = 1.0


class Choice(BaseModel):
    """What is loaded, which of it is active, and whether it is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loaded: dict[str, Loaded] = {}
    active: str | None = None
    in_use: bool = False

    @property
    def playing(self) -> Loaded | None:
        """What plays where a task names no adapter."""
        return self.loaded[self.active] if self.in_use and self.active else None


class LoraState:
    """The choice, on the disk; several threads may change it.

    Raises:
        StorageError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._choice = _read(path)

    @property
    def choice(self) -> Choice:
        """As it stands."""
        return self._choice

    def load(self, name: str, path: Path) -> None:
        """Load an adapter and play it from now on; one of the same name is replaced.

        Raises:
            Refusal: too many are loaded.
        """
        with self._lock:
            if len(self._choice.loaded) >= _MOST and name not in self._choice.loaded:
                raise Refusal(f"{_MOST} adapters are loaded: unload them first (/v1/lora/unload).")
            loaded = self._choice.loaded | {name: Loaded(path=path)}
            self._set(Choice(loaded=loaded, active=name, in_use=True))

    def unload(self) -> int:
        """Forget all adapters; how many there were."""
        with self._lock:
            count = len(self._choice.loaded)
            self._set(Choice())
            return count

    def use(self, in_use: bool) -> bool:
        """Play the active adapter, or none; False when there is none to play."""
        with self._lock:
            if in_use and self._choice.active is None:
                return False
            self._set(self._choice.model_copy(update={"in_use": in_use}))
            return True

    def scale(self, scale: float, name: str | None = None) -> str | None:
        """Set the strength of an adapter (the active one without a name); its name, or None when
        there is no such one.
        """
        with self._lock:
            name = name or self._choice.active
            if name is None or name not in self._choice.loaded:
                return None
            one = self._choice.loaded[name].model_copy(update={"scale": scale})
            loaded = self._choice.loaded | {name: one}
            self._set(self._choice.model_copy(update={"loaded": loaded}))
            return name

    def _set(self, choice: Choice) -> None:
        write_json(self._path, choice.model_dump(mode="json"))
        self._choice = choice


def _read(path: Path) -> Choice:
    if not path.exists():
        return Choice()
    try:
        found = Choice.model_validate(read_json(path))
        if found.active is not None and found.active not in found.loaded:
            raise ValueError("its active adapter is not loaded")
    except (ValidationError, ValueError, PathError) as error:
        raise StorageError(
            f"{path} is damaged: remove it, and load adapters again (/v1/lora/load)."
        ) from error
    return found
