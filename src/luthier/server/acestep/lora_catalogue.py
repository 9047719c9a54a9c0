"""The adapters that a server offers: those below its roots, by name, checked before a task waits.

A task is accepted with the folders and the digests of its adapters: whatever happens meanwhile to
the files or to the server's own choice, it plays these or fails with a sentence.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from luthier.errors import AdapterError, ModelError
from luthier.music.adapters.names import role_of
from luthier.music.adapters.place import (
    ACESTEP_FOLDER,
    CONFIG_NAME,
    PIPELINE_WEIGHTS_NAME,
    SUFFIX,
    WEIGHTS_NAME,
    adapter_files,
    is_model_folder,
)
from luthier.music.playing.adapters import (
    AdapterFacts,
    Stamp,
    base_note,
    check_fit,
    open_adapter,
    stamp_of,
)
from luthier.music.request import MusicRequest
from luthier.music.request_lora import Lora
from luthier.music.spec import DENOISER
from luthier.runtime.adaptable import AdaptableGraph, Linear
from luthier.runtime.contract import read_contracts
from luthier.runtime.manifest import Manifest
from luthier.runtime.tensors import tensors_in
from luthier.server.acestep.lora_state import LoraState
from luthier.server.http.errors import Refusal
from luthier.server.http.strict_json import strict_json

_DEEPEST, _MOST_LISTED, _MOST_KNOWN = 6, 500, 1000
_LONGEST_NAME = 1024


class Pinned(NamedTuple):
    """A request with exactly these adapters, and what is worth telling about them."""

    music: MusicRequest
    notes: tuple[str, ...]


class Adapters:
    """What can be named, what is loaded, and what fits which model.

    Args:
        roots: folders below which adapters lie.
        models: folders of exported graphs by name.
        state_file: where the loaded adapters are kept.

    Raises:
        StorageError: the file is damaged.
    """

    def __init__(self, roots: Sequence[Path], models: Mapping[str, Path], state_file: Path) -> None:
        self._roots, self._models = tuple(root.resolve() for root in roots), models
        self.state = LoraState(state_file)
        self._known: OrderedDict[Path, tuple[Stamp, AdapterFacts]] = OrderedDict()
        self._linears: dict[str, Mapping[str, Linear]] = {}
        self._lock = threading.Lock()

    @property
    def are_offered(self) -> bool:
        """Whether there can be any."""
        return bool(self._roots)

    def names(self) -> list[str]:
        """Those that lie below the roots, sorted: what a request may call them."""
        found: set[str] = set()
        for root in self._roots:
            for path in _adapters_below(root):
                if len(found) < _MOST_LISTED:
                    found.add(path.relative_to(root).as_posix())
        return sorted(found)

    def folder(self, named: str) -> Path:
        """The folder that a request means, by a name or an absolute path below a root.

        Raises:
            Refusal: it is not there or not allowed; the answer does not say which of both.
        """
        if not self._roots:
            raise Refusal("this server offers no adapters: start it with --lora-root.")
        if 0 < len(named) <= _LONGEST_NAME and ".." not in Path(named).parts:
            for root in self._roots:
                if (found := _below(root, named)) is not None:
                    return found
        raise Refusal(
            f"there is no adapter {named[:80]!r} below the folders that the server was started "
            "with (--lora-root); /v1/capabilities lists those that there are."
        )

    def asked(self, value: Any, scale: Any = None) -> list[dict[str, Any]]:
        """The field `lora` of a request as the values of `MusicRequest.lora`, found and allowed.

        Args:
            value: a name or path, `NAME:SCALE`, an object with name (or path) and scale, a list of
                these, or JSON of any.
            scale: of those that say none themselves; one, or a list in the same order.

        Raises:
            Refusal: it is none of that, or names what is not allowed.
        """
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{", '"'):
            value = strict_json(value, "lora")
        items = value if isinstance(value, list) else [value]
        scales = scale if isinstance(scale, list) else [scale] * len(items)
        if len(scales) != len(items):
            raise Refusal(f"there are {len(scales)} of lora_scale for {len(items)} of lora.")
        return [self._one(item, given) for item, given in zip(items, scales, strict=True)]

    def _one(self, item: Any, scale: Any) -> dict[str, Any]:
        if isinstance(item, Mapping):
            unknown = sorted(str(key)[:40] for key in item.keys() - {"name", "path", "scale"})
            named = item.get("name") or item.get("path")
            if unknown or not isinstance(named, str):
                raise Refusal("an object in lora has name (or path) and scale, and nothing else.")
            scale = item.get("scale", scale)
        elif isinstance(item, str):
            named, scale = self._split(item, scale)
        else:
            raise Refusal("lora is a name, an object with name and scale, or a list of these.")
        return {"path": self.folder(named), "scale": 1.0 if scale is None else scale}

    def _split(self, text: str, scale: Any) -> tuple[str, Any]:
        name, colon, number = text.rpartition(":")
        if not (colon and name) or any(_below(root, text) for root in self._roots):
            return text, scale
        return name, number

    def facts(self, folder: Path) -> AdapterFacts:
        """What is known of an adapter; it is read when that is not known yet, or has changed.

        Raises:
            AdapterError: it cannot be played.
        """
        with self._lock:
            stamp = stamp_of(folder)
            known = self._known.pop(folder, None)
            try:
                facts = known[1] if known and known[0] == stamp else open_adapter(folder).facts
            except AdapterError as error:
                raise AdapterError(str(error).replace(f"{folder.parent}/", "")) from error
            self._known[folder] = stamp, facts
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
            return facts

    def check_fit(self, facts: AdapterFacts, model: str) -> None:
        """Raise `AdapterError` when an adapter does not fit a model of this server."""
        if model not in self._linears:
            folder = self._models[model]
            path = folder / read_contracts(folder, Manifest(folder))[DENOISER].path
            try:
                self._linears[model] = AdaptableGraph(path.read_bytes(), path).linears
            except OSError as error:
                raise ModelError(f"the model {model} cannot be read: {error.strerror}.") from error
        check_fit(facts, self._linears[model], model)

    def pinned(self, music: MusicRequest, model: str) -> Pinned:
        """A request with its adapters, or the one that is loaded where it says nothing of them.

        Raises:
            AdapterError: one cannot be played, or does not fit the model.
        """
        if "lora" not in music.model_fields_set:
            return self._by_default(music, model)
        return self._exactly(music, model)

    def _by_default(self, music: MusicRequest, model: str) -> Pinned:
        playing = self.state.choice.playing
        if playing is None:
            return Pinned(music, ())
        try:
            facts = self.facts(playing.path)
        except AdapterError as error:
            raise AdapterError(
                f"{error} It is loaded for every task: unload it (/v1/lora/unload), or send an "
                "empty list as lora."
            ) from error
        try:
            self.check_fit(facts, model)
        except AdapterError as error:
            return Pinned(music, (f"{error} This is made without it.",))
        lora = (Lora(path=playing.path, scale=playing.scale),)
        return self._exactly(music.model_copy(update={"lora": lora}), model)

    def _exactly(self, music: MusicRequest, model: str) -> Pinned:
        pinned, notes = [], []
        for one in music.lora:
            facts = self.facts(one.path)
            self.check_fit(facts, model)
            digests = {"sha256": facts.sha256, "config_sha256": facts.config_sha256}
            pinned.append(one.model_copy(update=digests))
            if note := base_note(facts, model):
                notes.append(note)
        return Pinned(music.model_copy(update={"lora": tuple(pinned)}), tuple(notes))


def _below(root: Path, named: str) -> Path | None:
    """The adapter that `named` (absolute, or relative to `root`) means; None when it, or one of its
    files, is not below `root` once links are followed.
    """
    try:
        path = (root / named).resolve(strict=True)
        if path.is_file():
            # A link keeps its own name: what it leads to may have one without a suffix.
            path = (root / named).parent.resolve(strict=True) / Path(named).name
        files = [file.resolve(strict=True) for file in adapter_files(path).all]
        inside = all(one.is_relative_to(root) for one in (path, *files))
    except (OSError, ValueError, RuntimeError, AdapterError):
        return None  # not there, a null byte, a circle of links, something else
    return path if inside and all(file.is_file() for file in files) else None


def _adapters_below(root: Path) -> list[Path]:
    """The adapters below a folder, not through links to folders: folders, and single files in
    folders that are neither adapter nor model. What a checkpoint holds in other spellings is left
    out.
    """
    found = []
    for place, folders, files in os.walk(root):
        folder = Path(place)
        if len(folder.relative_to(root).parts) >= _DEEPEST:
            folders.clear()
        if {CONFIG_NAME, WEIGHTS_NAME} <= set(files):
            found.append(folder)
            if ACESTEP_FOLDER in folders:
                folders.remove(ACESTEP_FOLDER)
        elif PIPELINE_WEIGHTS_NAME in files and folder != root:
            found.append(folder)
        elif not is_model_folder(folder):
            found += [folder / name for name in files if _is_adapter(folder / name)]
    return found


def _is_adapter(path: Path) -> bool:
    """Whether a file holds tensors of an adapter, by the first of their names."""
    if path.suffix != SUFFIX:
        return False
    try:
        names = tensors_in(path).tensors
    except ModelError:
        return False
    return bool(names) and role_of(next(iter(names))) is not None
