"""The axes of a grid, its cells and their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luthier.errors import RequestError
from luthier.matrix.grid import Cell, Grid, Job, job_named
from luthier.music.request import request_from

SMALL = Grid(
    models=("mini",),
    jobs=(Job("repaint"), Job("text2music"), Job("lego", ("vocals",))),
    bpm=(90, 140),
    keys=("C Major", "Am"),
    durations_s=(10.0,),
    seeds=(1,),
    steps=(None,),
    batches=(1,),
    prompt="house",
    lyrics="la la",
    region_s=8.0,
)


def test_the_seed_s_grid_is_the_default_of_the_command() -> None:
    from luthier.cli.main import build_parser
    from luthier.cli.matrix import _grid

    grid = _grid(build_parser("matrix").parse_args([]), ("mini",))
    assert grid.bpm == (90, 120, 140)
    assert grid.keys == ("C major", "A minor")
    assert [job.name for job in grid.jobs] == [
        *("text2music", "repaint", "lego:bass", "lego:guitar", "lego:vocals")
    ]
    assert (grid.durations_s, grid.region_s) == ((10.0, 20.0), 8.0)
    assert len(grid.cells()) == 60


def test_what_works_on_a_recording_comes_after_it() -> None:
    cells = SMALL.cells()
    assert len(cells) == 12
    for cell in cells:
        if cell.source is not None:
            assert cells.index(cell.source) < cells.index(cell)
    assert cells == SMALL.cells()


def test_sources_are_added_to_a_grid_that_lacks_them() -> None:
    cells = replace(SMALL, jobs=(Job("repaint"),)).cells()
    assert [cell.job.task for cell in cells] == ["text2music"] * 4 + ["repaint"] * 4


def test_names_are_unique_and_fit_for_files() -> None:
    grid = replace(SMALL, keys=("F# minor", "Gb major", "F major"), steps=(None, 8), batches=(1, 2))
    names = [cell.name for cell in grid.cells()]
    assert len(set(names)) == len(names)
    assert all(name == name.strip("./\\ #:|") and "/" not in name for name in names)
    assert names[0] == "mini_text2music_90bpm_F-sharp-minor_10s_seed1"


def test_a_repaint_makes_the_middle_anew_with_other_noise() -> None:
    cell = next(cell for cell in SMALL.cells() if cell.job.task == "repaint")
    request = SMALL.request(cell)
    assert (request["repaint_start_s"], request["repaint_end_s"]) == (1.0, 9.0)
    assert cell.source is not None
    assert request["seed"] != SMALL.request(cell.source)["seed"]
    assert "duration_s" not in request


def test_only_vocal_layers_sing() -> None:
    for cell in SMALL.cells():
        values = SMALL.request(cell)
        given = {"source_audio": "x.flac"} if cell.job.needs_source else {}
        request = request_from(values | given)
        assert (request.sung == "la la") is (cell.job.name == "lego:vocals")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region_s": 10.0}, "does not fit into a clip of 10 s"),
        ({"region_s": 0.0}, "does not fit"),
        ({"bpm": ()}, "the axis bpm is empty"),
        ({"bpm": (90, 90)}, "bpm names a value twice"),
        ({"keys": ("C", "C major")}, "key names a value twice"),
        ({"bpm": (20,)}, "it must be 30 to 300"),
        ({"keys": ("Q",)}, "not a key"),
        ({"steps": (0,)}, "it must be 1 to 200"),
        ({"batches": (9,)}, "it must be 1 to 8"),
        ({"durations_s": (900.0,)}, "it must be 1 to 600"),
    ],
)
def test_what_cannot_be_played_is_refused_at_once(change: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sing", "is no task"),
        ("lego:bas", "did you mean bass"),
        ("repaint:bass", "only lego, extract, complete are about tracks"),
    ],
)
def test_a_task_is_read_or_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        job_named(text)


def test_a_task_keeps_its_spelling() -> None:
    assert job_named(" lego:bass ") == Job("lego", ("bass",))
    assert job_named("complete:bass|drums").name == "complete:bass|drums"


def test_a_cell_in_plain_values() -> None:
    cell = Cell("mini", Job("lego", ("bass",)), 90, "C major", 10.0, 1, None, 2)
    told = cell.to_json()
    assert (told["task"], told["batch"], told["steps"]) == ("lego:bass", 2, None)
    assert told["name"].endswith("_batch2")
