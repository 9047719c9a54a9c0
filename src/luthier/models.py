"""A model's name → its folder: `mini`, a folder, or a repository on Hugging Face's hub.

The only place that says what a name means. A folder that is there wins over a repository that is
spelled the same; `./x/y`, `~/x` and `/x/y` are folders always. Nothing heavy is imported before it
is needed: torch only where a model of the hub is exported, once, so that it plays.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from luthier.errors import MissingExtraError, ModelError, RequestError
from luthier.hub import Hub, parse_id

if TYPE_CHECKING:
    from luthier.hub_models import HubModel

BUILT_IN = "mini"
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
DEFAULT_PRECISION: Precision = "int8"
_NOWHERE = "/.~"  # what a path may begin with, and a repository may not


@dataclass(frozen=True)
class NamedModel:
    """A folder, and what to call the model in it."""

    name: str
    folder: Path


def is_built_in(name: str | Path) -> bool:
    """Whether the built-in model is meant."""
    return str(name) == BUILT_IN


def model_folder(name: str | Path, hub: Hub | None = None) -> Path:
    """The folder of a model, of weights or of graphs.

    What is neither the built-in model nor on the hub is a folder, whether it is there or not.

    Args:
        name: as the user typed it.
        hub: how the hub is asked.

    Raises:
        HubError: nothing there is called that; or the hub cannot be asked, and the cache has none.
        ModelError: the repository holds something else.
    """
    if is_built_in(name):
        return _built_in_weights()
    found = _found(name, hub or Hub())
    return found if isinstance(found, Path) else found.folder(hub or Hub())


def torch_model(name: str | Path, hub: Hub | None = None) -> Path:
    """The folder with a model's weights: for training, merging and export.

    Arguments and errors are those of `model_folder`.

    Raises:
        ModelError: the repository holds graphs.
    """
    if is_built_in(name):
        return _built_in_weights()
    found = _found(name, hub or Hub())
    if isinstance(found, Path):
        return found
    if found.kind == "graphs":
        raise ModelError(
            f"{found.repository} holds graphs, which play; here the model's weights are needed."
        )
    return found.folder(hub or Hub())


def _built_in_weights() -> Path:
    from luthier.music.mini import torch_folder

    return torch_folder()


def playable_model(
    name: str | Path, hub: Hub | None = None, precision: Precision = DEFAULT_PRECISION
) -> NamedModel:
    """The folder with a model's graphs. One of the hub is exported into the cache, once.

    Args:
        name: as the user typed it.
        hub: how the hub is asked.
        precision: of that export.

    Raises:
        MissingExtraError: it has to be exported, and torch is not installed.
        LuthierError: as `torch_model`, and what an export raises.
    """
    if is_built_in(name):
        from luthier.music.mini import onnx_folder

        return NamedModel(BUILT_IN, onnx_folder())
    hub = hub or Hub()
    found = _found(name, hub)
    if isinstance(found, Path):
        return NamedModel(found.resolve().name, found)
    if found.kind == "planner":
        raise ModelError(f"{found.repository} is a planner: it writes plans, and plays nothing.")
    if found.kind == "graphs":
        return NamedModel(found.name, found.folder(hub))
    return NamedModel(found.name, _exported(found, hub, precision))


def planner_model(
    name: str | Path, hub: Hub | None = None, precision: Precision = DEFAULT_PRECISION
) -> Path:
    """The folder with a planner's graphs, as `playable_model`.

    Raises:
        RequestError: the built-in model has none.
        LuthierError: as `playable_model`.
    """
    if is_built_in(name):
        raise RequestError(
            f"the built-in model {BUILT_IN} has no planner. ACE-Step 1.5's language models are "
            "planners: name one, say ACE-Step/acestep-5Hz-lm-0.6B, or the folder of an exported "
            "one."
        )
    hub = hub or Hub()
    found = _found(name, hub)
    if isinstance(found, Path):
        return found
    if found.kind == "music":
        raise ModelError(f"{found.repository} plays, but is no planner.")
    return found.folder(hub) if found.kind == "graphs" else _exported(found, hub, precision)


def _found(name: str | Path, hub: Hub) -> Path | HubModel:
    """The folder that a name means, or the repository."""
    path = Path(name).expanduser()
    identity = parse_id(str(name))
    if identity is None or path.exists() or str(name)[0] in _NOWHERE:
        return path
    from luthier.hub import NotInCacheError, NotOnHubError
    from luthier.hub_models import find

    repository, revision = identity
    if revision and hub.revision and revision != hub.revision:
        raise RequestError(
            f"{name} names the revision {revision}, and --revision {hub.revision}: leave one out."
        )
    try:
        return find(repository, revision or hub.revision, hub)
    except MissingExtraError as error:  # it may have been meant as a path: both readings are told
        what = f"there is no folder {name} here, and loading a model of the hub"
        raise MissingExtraError(what, "train") from error
    except (NotOnHubError, NotInCacheError) as error:
        raise type(error)(f"there is no folder {name} here, and of the hub: {error}") from error


def _exported(model: HubModel, hub: Hub, precision: Precision) -> Path:
    """The graphs of a model, in the cache by its commits, the precision and luthier's version."""
    from luthier import __version__
    from luthier.files import cache_folder
    from luthier.lock import sole_user
    from luthier.runtime.manifest import MANIFEST_NAME

    owner = model.repository.partition("/")[0]
    place = cache_folder("graphs") / owner / f"{model.key}-{precision}-{__version__}"
    graphs = place / model.name
    if (graphs / MANIFEST_NAME).is_file():
        return graphs
    if find_spec("torch") is None:
        raise MissingExtraError(
            f"playing {model.repository}, which is exported once for that,", "train"
        )
    folder = model.folder(hub)

    def wait() -> None:
        hub.display.say(f"another process exports {model.repository}: waiting for it")

    with sole_user(place, before_waiting=wait):
        if not (graphs / MANIFEST_NAME).is_file():
            hub.display.say(f"exporting {model.repository} in {precision}, once, to {graphs}")
            _export(model, folder, graphs, precision, hub)
    return graphs


def _export(model: HubModel, folder: Path, graphs: Path, precision: Precision, hub: Hub) -> None:
    if model.kind == "planner":
        from luthier.export.precision import precision_of
        from luthier.music.export.planner import export_lm

        lm_precision = precision_of("planner", precision)
        export_lm(folder, graphs, precision=lm_precision, display=hub.display)
        return
    from luthier.music.export.export import export_model

    export_model(folder, graphs, precision=precision, display=hub.display)
