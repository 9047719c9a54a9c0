"""The error tree: every refusal is one kind of exception with a sentence and an exit code."""

from __future__ import annotations

import inspect

import pytest

from luthier import errors
from luthier.errors import LuthierError, MissingExtraError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_caught_as_one(kind: type[Exception]) -> None:
    assert issubclass(kind, LuthierError)
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_exit_codes_say_failure(kind: type[LuthierError]) -> None:
    # 126 and above mean something else to a shell.
    assert 1 <= kind.exit_code < 126


def test_the_exit_codes_that_scripts_rely_on() -> None:
    assert errors.RequestError.exit_code == 2
    assert errors.LicenceError.exit_code == 3
    assert errors.PathError.exit_code == errors.StorageError.exit_code == 1


def test_a_missing_extra_says_what_to_run() -> None:
    error = MissingExtraError("training", "train")
    assert "training" in str(error)
    assert "pip install 'luthier[train]'" in str(error)
