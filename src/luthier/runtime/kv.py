"""A language model on ONNX Runtime that remembers what it has read, and never copies it.

Keys and values lie in buffers as long as the text may become; the graph gets the same buffer as
past and as present, and writes what is new behind what is there. The decode graph with an empty
past reads a prompt as well, so one session is open, not two. Names are the contract's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from luthier.errors import ModelError, PathError
from luthier.files import read_json
from luthier.runtime.contract import check_version
from luthier.runtime.manifest import Manifest
from luthier.runtime.session import open_session

LM_CONTRACTS = "io_contract_lm_*.json"
_CHUNK = 512  # places read at once: the scores of a long prompt would fill the memory
_CACHED_BYTES = 4  # float32


@dataclass(frozen=True)
class LMContract:
    """What `io_contract_lm_*.json` says of a model.

    Attributes:
        first_code: the token of audio code 0; all tokens from there on are codes.
        legal_codes: so many of them are codes of the quantiser.
        context_length: tokens, prompt included.
    """

    variant: str
    num_layers: int
    decode_path: str
    tokenizer_path: str
    first_code: int
    legal_codes: int
    context_length: int


def find_lms(folder: Path) -> dict[str, LMContract]:
    """The language models of a model folder by variant, smallest first; empty when it has none.

    Raises:
        ModelError: a contract is damaged, or of another version.
    """
    manifest, found = None, []
    for path in sorted(folder.glob(LM_CONTRACTS)):
        manifest = manifest or Manifest(folder)
        try:
            value = read_json(manifest.verified(path.name))
            check_version(folder, value)
            fields = {name: value[name] for name in LMContract.__dataclass_fields__}
        except (PathError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"the contract {path} is damaged: {error}. Export again.") from error
        found.append(LMContract(**fields))
    return {c.variant: c for c in sorted(found, key=lambda c: float(c.variant.rstrip("B")))}


class LanguageModel:
    """One exported language model; its session is opened when first needed.

    Args:
        threads: of the session.
    """

    def __init__(self, folder: Path, contract: LMContract, threads: int) -> None:
        self.folder, self.contract, self.threads = folder, contract, threads
        self._opened: onnxruntime.InferenceSession | None = None

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The decode graph's session, opened after its sha256 and its weights' were checked."""
        if self._opened is None:
            path = Manifest(self.folder).verified(self.contract.decode_path)
            self._opened = open_session(path, self.threads)
        return self._opened

    def release(self) -> None:
        """Close the session and free its memory; the next use opens it again."""
        self._opened = None

    def reader(self, items: int, capacity: int) -> Reader:
        """Something that reads up to `capacity` tokens of each of `items` texts.

        Raises:
            ModelError: the model does not see so much.
        """
        if capacity > self.contract.context_length:
            raise ModelError(
                f"prompt and answer need {capacity} tokens, the {self.contract.variant} planner "
                f"sees {self.contract.context_length}: shorten the lyrics or the duration."
            )
        return Reader(self.session, items, capacity)


class Reader:
    """Reads several texts side by side, and says after each step what could come next.

    Texts of different lengths are padded on the left; what is padding the mask tells.
    """

    def __init__(self, session: onnxruntime.InferenceSession, items: int, capacity: int) -> None:
        self.items, self.capacity, self.length = items, capacity, 0
        self._session = session
        self._binding: Any = session.io_binding()
        self._mask = np.zeros((items, capacity), np.int64)
        self.cache: dict[str, Any] = {}
        for value in session.get_inputs():
            if value.name.startswith("past_"):
                self._bind_cache(value.name, value.shape)

    def _bind_cache(self, past: str, axes: list[Any]) -> None:
        present = "present_" + past.removeprefix("past_")
        shape = [self.items, axes[1], self.capacity, axes[3]]
        buffer = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
        self._binding.bind_ortvalue_input(past, buffer)
        self._binding.bind_ortvalue_output(present, buffer)
        self.cache[past] = buffer

    @property
    def cache_bytes(self) -> int:
        """What keys and values take."""
        return sum(int(np.prod(v.shape())) * _CACHED_BYTES for v in self.cache.values())

    def read(
        self,
        ids: NDArray[np.int64],
        mask: NDArray[np.int64] | None = None,
        *,
        codes_only: bool = False,
    ) -> NDArray[np.float32]:
        """Read tokens [B, n]; logits [B, V] of what follows the last.

        Args:
            mask: 0 where a token is padding.
            codes_only: V are the audio codes alone.

        Raises:
            ModelError: there is no room for so many tokens, or the logits are no numbers.
        """
        if self.length + ids.shape[1] > self.capacity:
            raise ModelError(
                f"the text has {self.length + ids.shape[1]} tokens, room was made for "
                f"{self.capacity}."
            )
        logits = np.empty((0, 0), np.float32)
        # The operator takes several new tokens of several texts only where nothing was read before.
        chunk = _CHUNK if self.items == 1 else 1 if self.length else ids.shape[1]
        for start in range(0, ids.shape[1], chunk):
            part = slice(start, start + chunk)
            logits = self._step(ids[:, part], None if mask is None else mask[:, part], codes_only)
        if not np.all(np.isfinite(logits)):
            raise ModelError(
                "the planner made values that are no numbers (NaN): its graph is damaged or its "
                "precision is too low. Export it again with a higher precision."
            )
        return logits

    def _step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64] | None, codes_only: bool
    ) -> NDArray[np.float32]:
        end = self.length + ids.shape[1]
        self._mask[:, self.length : end] = 1 if mask is None else mask
        feeds = {
            "input_ids": np.ascontiguousarray(ids),
            "attention_mask": np.ascontiguousarray(self._mask[:, :end]),
            "logits_from": np.array([-1], np.int64),
            "codes_only": np.array([codes_only]),
        }
        for name, value in feeds.items():
            self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        self._binding.bind_output("logits")
        self._session.run_with_iobinding(self._binding)
        self.length = end
        # Outputs come in the order of their binding: the caches were bound before.
        logits: NDArray[np.float32] = self._binding.get_outputs()[-1].numpy()
        return logits[:, -1]
