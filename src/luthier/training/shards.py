"""Encoded audio and prompts in few files: safetensors shards, each named by its own sha256.

An entry is found by its key, which says what it was made from. What is encoded lies as a file of
its own under `pending/` first, so that a kill loses nothing that was finished; when enough has
come together, or a pass ends, it is packed into `shards/`. Which entries go together follows from
their order alone, so an interrupted pass leaves the very shards of one that was not. A shard is
never written again: any number of runs can read while one writes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor

from luthier.errors import ModelError, TrainingError
from luthier.files import is_temporary, make_folder, sha256_of, write_bytes
from luthier.progress import SILENT, Display
from luthier.training.tensor_file import Record, read_header

SHARDS = "shards"  # where they lie in a cache's folder
_SUFFIX = ".safetensors"
_HASH = re.compile(r"[0-9a-f]{64}")  # of a key as of a shard
_SHARD_BYTES = 64 * 2**20  # packing holds one shard in memory twice
_SHARD_ENTRIES = 512
_ORPHAN_S = 7 * 86400  # long enough for an interrupted run to be taken up again


@dataclass(frozen=True)
class Stored:
    """An entry that is packed, and where its tensors lie by the names that it was put with."""

    shard: Path
    key: str
    records: Mapping[str, Record] = field(compare=False, repr=False)

    def to_json(self) -> dict[str, str]:
        """Plain values, the shard by name."""
        return {"shard": self.shard.name, "key": self.key}

    def length(self, name: str) -> int:
        """How many rows a tensor has."""
        return self.records[name].shape[0]

    def read(self, name: str, first: int = 0, count: int | None = None) -> Tensor:
        """A tensor, or `count` of its rows from `first` on; no more than that is read.

        Raises:
            TrainingError: the shard is gone or damaged.
        """
        try:
            return self.records[name].read_rows(
                first, self.length(name) if count is None else count
            )
        except (ModelError, OSError) as error:
            raise TrainingError(
                f"the feature cache was changed while it was in use: {error}. Resume the run: "
                "what is missing is encoded again."
            ) from error


def entries_of(shard: Path) -> dict[str, Stored]:
    """What a shard holds, by key; `ModelError` where it is missing or torn."""
    tensors: dict[str, dict[str, Record]] = {}
    for name, record in read_header(shard).items():
        key, _, own = name.partition("/")
        tensors.setdefault(key, {})[own] = record
    return {key: Stored(shard, key, records) for key, records in tensors.items()}


class Shards:
    """The entries in a folder, for its one writer (`lock.sole_user`).

    Args:
        folder: of the cache.
        display: is told of damaged shards.
    """

    def __init__(self, folder: Path, display: Display = SILENT) -> None:
        self.folder, self.display = make_folder(folder / SHARDS), display
        self.pending = make_folder(folder / "pending")
        self._packed: dict[str, Stored] = {}
        self._checked: set[Path] = set()
        self._waiting: dict[str, int] = {}  # what the next shard will hold, with sizes in bytes
        for path in _named_by_hash(self.folder):
            self._add(path)

    def ensure(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> None:
        """Have an entry under `key`: `make` its tensors unless they are there and whole.

        Raises:
            TrainingError: it has values that are no numbers.
            StorageError: the disk is full.
        """
        if key in self._waiting or self.find(key) is not None:
            return
        path = self.pending / f"{key}{_SUFFIX}"
        if not _opens(path):
            tensors = {name: value.contiguous() for name, value in make().items()}
            for name, value in tensors.items():
                if not torch.isfinite(value).all():
                    raise TrainingError(f"the model makes {name} that are no numbers (NaN) of it.")
            # Python writes the bytes: of a full disk safetensors tells in an error of its own.
            write_bytes(path, serialised(tensors))
        self._waiting[key] = path.stat().st_size
        if sum(self._waiting.values()) >= _SHARD_BYTES or len(self._waiting) >= _SHARD_ENTRIES:
            self.pack()

    def find(self, key: str) -> Stored | None:
        """The packed entry, if it is there and its shard is what its name says."""
        stored = self._packed.get(key)
        if stored is None or stored.shard in self._checked:
            return stored
        if sha256_of(stored.shard) != stored.shard.stem:
            self._drop(stored.shard)
            return None
        self._checked.add(stored.shard)
        return stored

    def pack(self) -> None:
        """Put what was encoded since the last time into a shard."""
        if not self._waiting:
            return
        files = {key: self.pending / f"{key}{_SUFFIX}" for key in self._waiting}
        data = serialised(
            {
                f"{key}/{name}": tensor
                for key, path in files.items()
                for name, tensor in load_file(path).items()
            }
        )
        shard = self.folder / f"{sha256(data).hexdigest()}{_SUFFIX}"
        write_bytes(shard, data)
        self._packed |= entries_of(shard)
        self._checked.add(shard)
        self._waiting.clear()
        for path in files.values():
            path.unlink()

    def tidy(self, named: Collection[str]) -> None:
        """Remove what killed writers left and, when a week old, shards that are not in `named`.

        Files of others stay.
        """
        for folder in (self.folder, self.pending):
            remove_unfinished(folder)
        old = time.time() - _ORPHAN_S
        for path in _named_by_hash(self.pending):
            if path.stem in self._packed or path.stat().st_mtime < old:
                path.unlink()
        for path in _named_by_hash(self.folder):
            if path.name not in named and path.stat().st_mtime < old:
                path.unlink()

    def _add(self, shard: Path) -> None:
        try:
            # Of a key that lies in two shards the first one counts, whatever was written when.
            self._packed = entries_of(shard) | self._packed
        except ModelError:
            self._drop(shard)

    def _drop(self, shard: Path) -> None:
        lost = [key for key, stored in self._packed.items() if stored.shard == shard]
        for key in lost:
            del self._packed[key]
        shard.unlink(missing_ok=True)
        what = f"its {len(lost)} entries are" if lost else "what it held is"
        self.display.say(f"{shard} is damaged: {what} encoded again where needed.")


def remove_unfinished(folder: Path) -> None:
    """Delete what writers that were killed left in a folder of the cache, and nothing else."""
    for path in folder.iterdir():
        if is_temporary(path.name) and path.is_file():
            path.unlink()


def _named_by_hash(folder: Path) -> list[Path]:
    """The files whose names this module gives, sorted; another's are never looked at."""
    found = folder.glob(f"*{_SUFFIX}")
    return sorted(p for p in found if _HASH.fullmatch(p.stem) and p.is_file())


def _opens(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False
