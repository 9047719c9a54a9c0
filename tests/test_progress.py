"""The progress display, in every style."""

from __future__ import annotations

import json

import pytest

from luthier import progress
from luthier.progress import SILENT, Display


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain lines at every step, not every five seconds."""
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL_S", 0.0)


def test_without_a_terminal_auto_is_plain() -> None:
    assert Display().style == "plain"


@pytest.mark.usefixtures("eager")
def test_plain_lines_count_and_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("plain").task("train", 4) as task:
        task.advance(note="loss 1.0")
        task.advance(3)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("train: 1/4 after 0 s")
    assert lines[0].endswith("loss 1.0")
    assert lines[-1].startswith("train: 4/4")


def test_a_quick_task_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("plain").task("merge", 100) as task:
        for _ in range(100):
            task.advance()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("eager")
def test_json_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    with Display("json").task("train", 2) as task:
        task.advance(note='a "quoted" note')
        task.advance()
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [row["done"] for row in rows] == [1, 2, 2]
    assert rows[0]["note"] == 'a "quoted" note'
    assert rows[-1]["eta_s"] == 0


def test_work_that_fails_ends_the_display(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with Display("plain").task("train", 3) as task:
            task.advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert "train: 1/3" in capsys.readouterr().err


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with SILENT.task("train", 2) as task:
        task.advance()
    SILENT.say("hello")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("style", "said"), [("plain", True), ("bar", True), ("json", False)])
def test_only_people_are_talked_to(
    capsys: pytest.CaptureFixture[str], style: progress.Style, said: bool
) -> None:
    Display(style).say("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert ("hello" in err) == said


@pytest.mark.parametrize("note", ["take [/2].wav", "[bold", "[red]x[/red]", "[Verse]"])
def test_a_bar_shows_any_file_name_as_it_is(capsys: pytest.CaptureFixture[str], note: str) -> None:
    with Display("bar").task("curate [/x]", 1) as task:
        task.advance(note=note)
    err = capsys.readouterr().err
    assert note in err
    assert "1/1" in err


def test_bars_nest(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display("bar")
    with display.task("outer", 1) as outer:
        with display.task("inner", 2) as inner:
            inner.advance(2)
        outer.advance()
    err = capsys.readouterr().err
    assert "2/2" in err
    assert "1/1" in err


def test_no_total_is_not_a_division_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    for style in ("plain", "json", "bar"):
        with Display(style).task("empty", 0):  # type: ignore[arg-type]
            pass
    assert capsys.readouterr().err.count("empty") == 3
