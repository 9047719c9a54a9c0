"""An adapter in one spelling → the same adapter in another, checked by what both compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import AdapterError, RequestError
from luthier.files import atomic_file
from luthier.music.adapters.file import StoredAdapter, read_adapter
from luthier.music.adapters.layer import LayerWeights
from luthier.music.adapters.place import SUFFIX, record_of
from luthier.music.adapters.writer import FOLDERS, SPELLINGS, check_writable, write_spelling
from luthier.output_folder import check_output, output_folder, refuse_overlap
from luthier.provenance import check_artefact, input_record, recorded_licences, write_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

STAGE = "adapter"
_ALLOWED = 1e-6  # of a layer's own output


@dataclass(frozen=True)
class Conversion:
    """What a conversion will do, or did.

    Attributes:
        difference: the largest over all layers between what the two compute for random inputs, as
            a share of its size; None before it was written.
    """

    source: StoredAdapter
    spelling: str
    output: Path
    difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return facts_of(self.source) | {
            "to": self.spelling,
            "output": str(self.output),
            "difference": self.difference,
        }


def facts_of(stored: StoredAdapter) -> dict[str, Any]:
    """What is worth telling of an adapter, as plain values."""
    layers = list(stored.layers.values())
    scales = [layer.strength.scale for layer in layers]
    return {
        "path": str(stored.files.place),
        "spelling": stored.spelling,
        "method": stored.method,
        "rank": stored.rank,
        "ranks": sorted({layer.rank for layer in layers}),
        "scale": [min(scales), max(scales)],
        "layers": len(layers),
        "parts": sorted({name.split(".", 2)[-1] for name in stored.layers}),
        "base_model": stored.base_model,
        "sha256": stored.sha256,
    }


def plan_conversion(place: Path, spelling: str, output: Path) -> Conversion:
    """Check all that can be checked before writing.

    Args:
        place: the adapter, a folder or a file.
        spelling: one of `SPELLINGS`.
        output: a folder for peft and acestep, else a file that ends with .safetensors.

    Raises:
        AdapterError: it cannot be read, or the spelling cannot hold it.
        RequestError, OutputError: the output is not ours, is read, or is of another kind.
    """
    if spelling not in SPELLINGS:
        raise RequestError(f"there is no spelling {spelling!r}: there are {', '.join(SPELLINGS)}.")
    _check_output([place], spelling, output)
    stored = read_adapter(place)
    check_writable(stored.layers, spelling, stored.name)
    _check_output([stored.files.place, *stored.files.all], spelling, output)
    return Conversion(stored, spelling, output)


def convert(place: Path, spelling: str, output: Path) -> Conversion:
    """Write an adapter in another spelling, whole or not at all; arguments and errors are those of
    `plan_conversion`, and:

    Raises:
        StorageError, PathError: the disk refused.
    """
    plan = plan_conversion(place, spelling, output)
    if spelling in FOLDERS:
        with output_folder(output, STAGE, plan.source.files.all) as temporary:
            done = _written(plan, temporary)
            _record(done, temporary)
    else:
        with atomic_file(output) as temporary:
            done = _written(plan, temporary)
        _record(done, output)
    return done


def _written(plan: Conversion, target: Path) -> Conversion:
    write_spelling(plan.source.layers, plan.spelling, target, plan.source.base_model)
    found = difference(plan.source, read_adapter(target))
    if not found <= _ALLOWED:
        raise AdapterError(
            f"{plan.source.files.place} would not be the same adapter as {plan.spelling}: a layer "
            f"differs by {found:.2g} of what it computes. Nothing was written."
        )
    return Conversion(plan.source, plan.spelling, plan.output, found)


def difference(one: StoredAdapter, other: StoredAdapter) -> float:
    """How far two adapters are apart: the largest difference of a layer's output for random inputs,
    as a share of the output's size; infinite where they change other layers.
    """
    import numpy as np

    if one.layers.keys() != other.layers.keys():
        return float("inf")
    largest = 0.0
    for index, (name, layer) in enumerate(sorted(one.layers.items())):
        twin = other.layers[name]
        if layer.shape != twin.shape or layer.has_magnitude != twin.has_magnitude:
            return float("inf")
        draw = np.random.default_rng(index).standard_normal((layer.shape[0], 4), dtype=np.float32)
        first, second = _computed(layer, draw), _computed(twin, draw)
        size = float(np.abs(first).max()) or 1.0
        largest = max(largest, float(np.abs(first - second).max()) / size)
        if layer.has_magnitude:
            a, b = layer.magnitudes(), twin.magnitudes()
            largest = max(largest, float(np.abs(a - b).max()))
            if layer.by_column != twin.by_column:
                return float("inf")
    return largest


def _computed(layer: LayerWeights, inputs: Array) -> Array:
    made: Array = layer.product().astype("f8") @ inputs
    return made


def _record(done: Conversion, artefact: Path) -> None:
    write_run(
        artefact,
        stage=STAGE,
        inputs=[input_record(path) for path in done.source.files.all],
        config=done.as_dict(),
        licences=recorded_licences(record_of(done.source.files.place)),
        name=done.output.name,
    )


def _check_output(inputs: list[Path], spelling: str, output: Path) -> None:
    if spelling in FOLDERS:
        check_output(output, STAGE, inputs)
        return
    if output.suffix != SUFFIX:
        raise RequestError(f"{output}: {spelling} is one file, whose name ends with {SUFFIX}.")
    refuse_overlap(output, inputs)
    check_artefact(output, inputs)
