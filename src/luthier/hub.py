"""Repositories of Hugging Face's hub → files in its own cache, through `huggingface_hub`.

Only files that cannot run code are ever fetched: JSON, safetensors, ONNX, texts, and of pickles the
one tensor that ACE-Step publishes so (`silence_latent.pt`), which is read with `weights_only`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from luthier.errors import LuthierError, MissingExtraError, ModelError, StorageError
from luthier.progress import SILENT, Display

SILENCE_NAME, CARD_NAME = "silence_latent.pt", "README.md"
_ARRAYS = ("silence_latent.npy", "null_condition_emb.npy")  # of our own exports; never as pickles
NO_LICENCE = "no licence stated"
DEFAULT_REVISION = "main"
_SUFFIXES = (".json", ".safetensors", ".onnx", ".onnx.data")
_NAMES = (SILENCE_NAME, CARD_NAME, *_ARRAYS, "merges.txt", "NOTICE")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ID = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Hub:
    """How the hub is asked.

    Attributes:
        revision: branch, tag or commit; None is the one in the name, else main.
        offline: take what is in the cache, ask nobody. So it is with HF_HUB_OFFLINE too.
        display: shows downloads, and tells the licence.
    """

    revision: str | None = None
    offline: bool = False
    display: Display = SILENT


@dataclass(frozen=True)
class Listing:
    """What a commit of a repository holds.

    Attributes:
        files: name → bytes; only such as may be fetched.
        refused: names of weights that are never fetched.
        licence: as the card says it; None where it says none.
        cached: the folder in the hub's cache where the files lie already; None online.
    """

    repository: str
    commit: str
    files: Mapping[str, int]
    refused: tuple[str, ...] = ()
    licence: str | None = None
    cached: Path | None = None

    def below(self, folder: str) -> list[str]:
        """The names below a folder of the repository; "" is the top, without its folders."""
        parent = PurePosixPath(folder or ".")
        return [name for name in self.files if PurePosixPath(name).parent == parent]


class HubError(ModelError):
    """A model could not be had from the hub: it is not there, not for you, or not reachable."""


class NotOnHubError(HubError):
    """There is no such repository, or it is private."""


class NotInCacheError(HubError):
    """Nobody may be asked, and the cache does not have it."""


def parse_id(text: str) -> tuple[str, str | None] | None:
    """`owner/name` or `owner/name@revision` → repository and revision; None for anything else."""
    found = _ID.fullmatch(text)
    return (found[1], found[2]) if found else None


def look_up(repository: str, revision: str | None, hub: Hub) -> Listing:
    """What the repository holds at a revision.

    Where the hub cannot be reached, what is in the cache is taken, and that is told.

    Raises:
        NotOnHubError, NotInCacheError, HubError: in a sentence.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    if find_spec("huggingface_hub") is None:
        raise MissingExtraError(f"loading {repository} from Hugging Face's hub", "train")
    from huggingface_hub import HfApi, constants

    wanted = revision or DEFAULT_REVISION
    if hub.offline or constants.HF_HUB_OFFLINE or _is_offline():
        return _in_cache(repository, wanted, "nobody is asked in offline mode")
    try:
        with _errors(repository, wanted):
            found = HfApi().model_info(repository, revision=wanted, files_metadata=True)
    except _UnreachableError as error:
        listing = _in_cache(repository, wanted, str(error))
        hub.display.say(f"{error}: {repository} is taken from the cache")
        return listing
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    card = found.card_data.to_dict() if found.card_data else {}
    licence = _licence_in(card) or _licence_tag(found.tags or ())
    return _listing(repository, str(found.sha), sizes, licence)


def fetch(
    listing: Listing, names: Iterable[str], hub: Hub, revision: str | None
) -> dict[str, Path]:
    """The files of a listing by name, in the hub's cache; what is not there is downloaded.

    Raises:
        HubError: the download failed; what has come stays for the next try.
        StorageError: the disk is full.
    """
    if listing.cached is not None:
        return {name: listing.cached / name for name in names}
    from huggingface_hub import hf_hub_download

    wanted, names = revision or DEFAULT_REVISION, sorted(names)
    total = sum(listing.files[name] for name in names) / 1e6
    found: dict[str, Path] = {}

    def get(name: str, at: str) -> Path:
        bar = _bar(lambda size: task.advance(round(size / 1e6, 3), name))
        return Path(hf_hub_download(listing.repository, name, revision=at, tqdm_class=bar))

    try:
        with (
            hub.display.task("download MB", round(total, 1)) as task,
            _errors(listing.repository, wanted),
        ):
            # The first one tells the cache which commit the branch is; all are of that one.
            get(names[0], wanted)
            found = {name: get(name, listing.commit) for name in names}
    except _UnreachableError as error:
        raise HubError(
            f"the download of {listing.repository} broke off: {error}. What has come is kept: try "
            "again."
        ) from error
    return found


def _is_offline() -> bool:
    """What the environment says now; the library asks when it is imported."""
    said = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in said)


class _UnreachableError(LuthierError):
    """The hub does not answer."""


@contextmanager
def _errors(repository: str, revision: str) -> Iterator[None]:
    """The hub's errors, each as a sentence."""
    from huggingface_hub import errors, logging

    logging.set_verbosity_error()
    untyped: Any = errors  # the error of the library that it asks with is not declared
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{repository} is for those who have accepted its terms: do that on its page on "
            "Hugging Face, then log in with  hf auth login."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotOnHubError(
            f"there is no model {repository} on Hugging Face's hub, or it is private: then log in "
            "with  hf auth login."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{repository} has no revision {revision!r}: name a branch, a tag or a commit of it."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubError(
                f"Hugging Face's hub refuses {repository} ({status}): log in with  hf auth login, "
                "with a token that may read it."
            ) from error
        raise _UnreachableError(f"Hugging Face's hub answered {status}") from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{repository} lacks a file that it lists: {error}") from error
    except untyped.HTTPError as error:
        raise _UnreachableError("Hugging Face's hub cannot be reached") from error
    except OSError as error:
        if error.errno is None:
            raise _UnreachableError("Hugging Face's hub cannot be reached") from error
        raise StorageError(f"{repository} cannot be stored: {error.strerror}.") from error


def _in_cache(repository: str, revision: str, why: str) -> Listing:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (place / "refs" / revision).read_text().strip()
        except OSError:
            commit = ""
    folder = place / "snapshots" / commit
    if not commit or not folder.is_dir():
        raise NotInCacheError(
            f"{repository} at {revision} is not in the cache of this machine, and {why}: get it "
            "once with a connection, or name a folder."
        )
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    card = folder / CARD_NAME
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return _listing(repository, commit, sizes, _licence_in(_front_matter(text)), folder)


def _listing(
    repository: str,
    commit: str,
    sizes: Mapping[str, int],
    licence: str | None,
    cached: Path | None = None,
) -> Listing:
    files = {name: size for name, size in sizes.items() if _may_be_fetched(name)}
    weights = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
    refused = tuple(n for n in sizes if n not in files and n.endswith(weights))
    return Listing(repository, commit, files, refused, licence, cached)


def _may_be_fetched(name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return False
    named = path.name in _NAMES or path.stem == "LICENSE"
    return (named or name.endswith(_SUFFIXES)) and not name.endswith(".py")


def _front_matter(text: str) -> dict[str, Any]:
    if not text.startswith("---"):
        return {}
    import yaml  # type: ignore[import-untyped]

    try:
        found = yaml.safe_load(text.split("---", 2)[1])
    except (yaml.YAMLError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _licence_in(card: Mapping[str, Any]) -> str | None:
    """What a model card says; "other" is explained by its name."""
    said = card.get("license")
    if said == "other":
        said = card.get("license_name") or said
    if isinstance(said, list):
        said = ", ".join(map(str, said))
    return str(said) if said else None


def _licence_tag(tags: Iterable[str]) -> str | None:
    found = [tag.partition(":")[2] for tag in tags if tag.startswith("license:")]
    return ", ".join(found) or None


@dataclass
class _Bar:
    """What `huggingface_hub` takes for a tqdm: it only counts."""

    count: Callable[[float], object]
    seen: float = field(default=0.0)

    def update(self, n: float | None = 1) -> None:
        self.seen += n or 0
        self.count(n or 0)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


def _bar(count: Callable[[float], object]) -> Any:
    """A class for `tqdm_class`; the part that was downloaded before counts at once."""

    def make(*args: Any, initial: float = 0, **kwargs: Any) -> _Bar:
        bar = _Bar(count)
        bar.update(initial)
        return bar

    return make
