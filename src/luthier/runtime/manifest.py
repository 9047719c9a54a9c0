"""`manifest.json` of a folder of ONNX graphs: what belongs to it, and is it still that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.errors import ModelError, PathError
from luthier.files import read_json, sha256_of

MANIFEST_NAME = "manifest.json"
REMEDY = "Copy or export the model again."


class Manifest:
    """The files of a model folder with sha256 and size; each is checked once, when first needed.

    Raises:
        ModelError: when the folder has no readable manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            value = read_json(folder / MANIFEST_NAME)
            if isinstance(value, dict) and "models" not in value:
                raise ModelError(
                    f"{folder} holds no ONNX graphs: {MANIFEST_NAME} lists none. A torch model "
                    f"plays once it is exported: luthier export {folder} --out DIR"
                )
            self.graphs: dict[str, dict[str, Any]] = {
                path: entry for group in value["models"].values() for path, entry in group.items()
            }
            self.files: dict[str, dict[str, Any]] = dict(value.get("files", {}))
        except PathError as error:
            raise ModelError(f"{folder} is not a model folder of luthier: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder / MANIFEST_NAME} is damaged: {error!r}. {REMEDY}") from error
        self._checked: set[str] = set()

    def verified(self, relative: str) -> Path:
        """The path of a listed file, once its size and sha256 (and its sidecars') are right."""
        entry = self.graphs.get(relative) or self.files.get(relative)
        if entry is None:
            raise ModelError(
                f"the model in {self.folder} has no {relative}: its manifest does not list it."
            )
        if relative not in self._checked:
            _check(self.folder / relative, entry)
            self._checked.add(relative)
            for sidecar in entry.get("external_files", ()):
                self.verified(sidecar)
        return self.folder / relative


def _check(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise ModelError(f"the model file {path} is missing. {REMEDY}")
    size = path.stat().st_size
    if size != entry["size_bytes"]:
        raise ModelError(
            f"the model file {path} is damaged: it has {size} bytes, the manifest says "
            f"{entry['size_bytes']}. {REMEDY}"
        )
    digest = sha256_of(path)
    if digest != entry["sha256"]:
        raise ModelError(
            f"the model file {path} is damaged: its sha256 is {digest[:16]}…, the manifest says "
            f"{entry['sha256'][:16]}…. {REMEDY}"
        )


def verify_manifest(folder: Path) -> Manifest:
    """Check every listed file of a model folder; raise `ModelError` naming the first wrong one."""
    manifest = Manifest(folder)
    for relative in (*manifest.graphs, *manifest.files):
        manifest.verified(relative)
    return manifest
