"""Write config/schemas/ and docs/openapi.json from the models. `make fix` runs it; tests hold the
files in sync.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from luthier.files import write_json
from luthier.music.dataset.json_schemas import json_schemas
from luthier.music.mini import onnx_folder
from luthier.server.app import create_app
from luthier.server.config import ServerConfig, WorkerSetup

DOCS = Path(__file__).parent
FOLDER = DOCS.parent / "config" / "schemas"


def interface() -> dict[str, Any]:
    """The OpenAPI document of a server with mini."""
    with TemporaryDirectory() as home:
        setup = WorkerSetup(home=Path(home), models={"mini": onnx_folder()})
        app = create_app(ServerConfig(worker=setup, workers=0))
        try:
            return app.openapi()
        finally:
            app.state.service.queue.store.close()


if __name__ == "__main__":
    for name, schema in json_schemas().items():
        write_json(FOLDER / f"{name}.json", schema)
    write_json(DOCS / "openapi.json", interface())
