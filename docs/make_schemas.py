"""Write config/schemas/ from the models. `make fix` runs it; a test holds the files in sync."""

from __future__ import annotations

from pathlib import Path

from luthier.dataset.schema import json_schemas
from luthier.files import write_json

FOLDER = Path(__file__).parents[1] / "config" / "schemas"

if __name__ == "__main__":
    for name, schema in json_schemas().items():
        write_json(FOLDER / f"{name}.json", schema)
