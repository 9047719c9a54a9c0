"""A repository of the hub → a model folder as `open_model`, the runtime or the planner reads it.

Nothing is copied: the folder, in luthier's own cache, holds links into the hub's. It is named after
the model, and its parts lie where the layout wants them: ACE-Step's separate repositories hold the
denoiser only, and get the autoencoder and the text encoder of the main one beside it. A `run.json`
says where everything came from, by commit, and under which licence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from luthier.errors import LuthierError, ModelError
from luthier.files import atomic_folder, cache_folder, link_or_copy, read_json
from luthier.hub import (
    CARD_NAME,
    NO_LICENCE,
    SILENCE_NAME,
    Hub,
    Listing,
    NotInCacheError,
    NotOnHubError,
    fetch,
    look_up,
)
from luthier.lock import sole_user
from luthier.provenance import write_run

Kind = Literal["music", "graphs", "planner"]
MAIN = "ACE-Step/Ace-Step1.5"  # bundles what all ACE-Step 1.5 models share
SHARED = ("vae", "Qwen3-Embedding-0.6B")
_SHORT = 12  # letters of a commit in a folder's name


@dataclass(frozen=True)
class _Source:
    """Files of one repository, and where they go."""

    listing: Listing
    revision: str | None
    places: Mapping[str, str]  # name in the repository → name below the set


@dataclass(frozen=True)
class HubModel:
    """A model of the hub that was looked up; `folder` gets it.

    Attributes:
        repository: as it was asked for.
        name: of the model, and of its folder.
        kind: what it is: a torch model, exported graphs, or a 5 Hz language model.
        sources: of which repositories it is put together, its own first.
    """

    repository: str
    name: str
    kind: Kind
    sources: tuple[_Source, ...]

    @property
    def key(self) -> str:
        """Tells what it is put together of: `name@commit`, and the commits of other parts."""
        commits = dict.fromkeys(source.listing.commit[:_SHORT] for source in self.sources)
        return f"{self.name}@{'+'.join(commits)}"

    @property
    def licences(self) -> tuple[str, ...]:
        """Of each repository, in the order of the sources; what is not stated is said so."""
        return tuple(dict.fromkeys(source.listing.licence or NO_LICENCE for source in self.sources))

    def folder(self, hub: Hub) -> Path:
        """The model folder; what is missing is downloaded, and then the licence is told.

        Raises:
            HubError, StorageError: see `fetch`.
        """
        owner = self.repository.partition("/")[0]
        whole = cache_folder("hub") / owner / self.key
        folder = whole / self.name
        if _is_whole(whole):
            return folder
        lock = whole.parent / f".{self.key}"
        with sole_user(lock, before_waiting=lambda: _wait(hub, self)):
            if not _is_whole(whole):
                files = {
                    place: path
                    for source in self.sources
                    for place, path in _fetched(source, hub).items()
                }
                self._write(whole, files)
                for source in self.sources:
                    self._tell(source, hub)
        with suppress(OSError):  # where somebody else waits, it is made again
            lock.rmdir()
        return folder

    def _write(self, whole: Path, files: Mapping[str, Path]) -> None:
        # What is there are links into a cache that was cleared since: they are replaced.
        with atomic_folder(whole) as temporary:
            for place, path in files.items():
                link = temporary / place
                link.parent.mkdir(parents=True, exist_ok=True)
                if self.kind == "graphs":  # whose weights ONNX does not look for behind links
                    link_or_copy(path, link)
                else:
                    link.symlink_to(path.absolute())
            rows = [_row(source) for source in self.sources]
            write_run(
                temporary / self.name,
                stage="download",
                config={"repositories": rows},
                licences=self.licences,
            )

    def _tell(self, source: _Source, hub: Hub) -> None:
        row = _row(source)
        hub.display.say(f"{row['repository']}: licence: {row['licence']}")


def find(repository: str, revision: str | None, hub: Hub) -> HubModel:
    """Look a repository up and say what model it holds.

    A name of ACE-Step's that is no repository of its own may be a folder of the main one, as
    acestep-v15-turbo is.

    Raises:
        HubError: it is not there, or nobody may be asked.
        ModelError: it holds no model that luthier knows.
    """
    owner, _, name = repository.partition("/")
    try:
        return _model(look_up(repository, revision, hub), revision, hub)
    except (NotOnHubError, NotInCacheError) as error:
        if owner != MAIN.partition("/")[0] or repository == MAIN:
            raise
        try:
            main = look_up(MAIN, revision, hub)
        except LuthierError:
            raise error from None
        if not main.below(name):
            raise error from None
        return _bundled(main, name, revision, repository)


def _model(listing: Listing, revision: str | None, hub: Hub) -> HubModel:
    name = listing.repository.partition("/")[2]
    top = {PurePosixPath(file).name for file in listing.below("")}
    if "adapter_config.json" in top:
        raise ModelError(
            f"{listing.repository} is an adapter, not a model: download it, and name its folder "
            "where adapters are asked for."
        )
    if {"luthier.json", "model_index.json"} & top or any(n.endswith(".onnx") for n in top):
        graphs = any(n.endswith(".onnx") for n in top)
        places = {file: f"{name}/{file}" for file in listing.files}
        own = _Source(listing, revision, places)
        return HubModel(listing.repository, name, "graphs" if graphs else "music", (own,))
    if SILENCE_NAME in top:
        return _denoiser(listing, name, revision, hub)
    bundled = {PurePosixPath(f).parent.name for f in listing.files if f.endswith(SILENCE_NAME)}
    if len(bundled) == 1:
        return _bundled(listing, bundled.pop(), revision, listing.repository)
    if bundled:
        names = ", ".join(sorted(f"{listing.repository.partition('/')[0]}/{n}" for n in bundled))
        raise ModelError(f"{listing.repository} holds several models: name one of {names}.")
    if {"config.json", "tokenizer.json"} <= top and any(n.endswith(".safetensors") for n in top):
        places = {file: f"{name}/{file}" for file in listing.below("")}
        own = _Source(listing, revision, places)
        return HubModel(listing.repository, name, "planner", (own,))
    raise _unknown(listing)


def _unknown(listing: Listing) -> ModelError:
    if listing.cached is not None:
        return NotInCacheError(
            f"{listing.repository} is in the cache of this machine in part only: get it once with "
            "a connection."
        )
    if listing.refused:
        return ModelError(
            f"{listing.repository} has its weights as {listing.refused[0]}, which could run code "
            "when it is read: only safetensors and ONNX are taken."
        )
    return ModelError(
        f"{listing.repository} holds no model that luthier knows: neither ACE-Step 1.5's layout "
        "nor diffusers', nor luthier's own."
    )


def _denoiser(listing: Listing, name: str, revision: str | None, hub: Hub) -> HubModel:
    """A repository with the denoiser alone, beside what all models of ACE-Step 1.5 share."""
    own = _Source(listing, revision, {file: f"{name}/{file}" for file in listing.below("")})
    _require_weights(listing, "")
    lacking = [folder for folder in SHARED if not listing.below(folder)]
    if not lacking:
        places = {**own.places, **_shared(listing)}
        return HubModel(listing.repository, name, "music", (_Source(listing, revision, places),))
    main = look_up(MAIN, None, hub)
    for folder in SHARED:
        _require_weights(main, folder)
    shared = _Source(main, None, _shared(main))
    return HubModel(listing.repository, name, "music", (own, shared))


def _bundled(listing: Listing, name: str, revision: str | None, repository: str) -> HubModel:
    """A folder of a repository: a denoiser with what lies beside it, or a language model."""
    _require_weights(listing, name)
    places = {file: file for file in listing.below(name)}
    if CARD_NAME in listing.files:
        places[CARD_NAME] = CARD_NAME
    music = f"{name}/{SILENCE_NAME}" in places
    if music:
        for folder in SHARED:
            _require_weights(listing, folder)
        places |= _shared(listing)
    source = _Source(listing, revision, places)
    return HubModel(repository, name, "music" if music else "planner", (source,))


def _shared(listing: Listing) -> dict[str, str]:
    return {file: file for folder in SHARED for file in listing.below(folder)}


def _require_weights(listing: Listing, folder: str) -> None:
    """Refuse a listing whose weights are not all there: of a download that broke off, say."""
    names = {PurePosixPath(file).name for file in listing.below(folder)}
    index = next((n for n in sorted(names) if n.endswith(".safetensors.index.json")), None)
    if index is not None and listing.cached is not None:
        found = read_json(listing.cached / folder / index)
        shards = set(found.get("weight_map", {}).values()) if isinstance(found, dict) else set()
        whole = bool(shards) and shards <= names
    else:
        whole = any(name.endswith(".safetensors") for name in names)
    if not whole or "config.json" not in names:
        raise _unknown(listing)


def _fetched(source: _Source, hub: Hub) -> dict[str, Path]:
    files = fetch(source.listing, source.places, hub, source.revision)
    return {source.places[name]: path for name, path in files.items()}


def _row(source: _Source) -> dict[str, str]:
    listing = source.listing
    return {
        "repository": listing.repository,
        "revision": source.revision or "main",
        "commit": listing.commit,
        "licence": listing.licence or NO_LICENCE,
    }


def _is_whole(folder: Path) -> bool:
    """Whether the set is there, and all that its links point to."""
    paths = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    return bool(paths) and all(path.exists() for path in paths)


def _wait(hub: Hub, model: HubModel) -> None:
    hub.display.say(f"another process gets {model.repository}: waiting for it")


def origin_of(folder: Path) -> list[dict[str, str]]:
    """The repositories that a folder of `HubModel` was put together of; else nothing."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(record, dict) or record.get("stage") != "download":
        return []
    return list(record.get("config", {}).get("repositories", []))
