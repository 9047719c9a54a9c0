"""Who is next: priorities, clients in turn, models that are open; and nobody waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.server.queue.fair_order import Place, next_number, place_for, position_of
from luthier.server.queue.leases import Leases
from luthier.server.queue.queue import Accepted, Queue, Traits


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "tasks.sqlite3")


def asked(
    queue: Queue, name: str, client: str = "", *, priority: int = 0, model: str = ""
) -> Accepted:
    traits = Traits(client=client, priority=priority, model=model)
    return queue.submit({"name": name}, traits)


def played(queue: Queue, count: int = 100, loaded: tuple[str, ...] = ()) -> list[str]:
    """The names of the tasks that a worker does, one after the other."""
    leases, names = Leases(queue), []
    while len(names) < count and (task := leases.claim("w", loaded)):
        leases.finish(task, {})
        names.append(task.request["name"])
    return names


def test_the_higher_priority_goes_first(queue: Queue) -> None:
    for name, priority in (("a", 0), ("b", -2), ("c", 2), ("d", 2), ("e", 1)):
        asked(queue, name, priority=priority)
    assert played(queue) == ["c", "d", "e", "a", "b"]


def test_clients_take_turns_however_much_one_asks_for(queue: Queue) -> None:
    for n in range(4):
        asked(queue, f"a{n}", "anna")
    for n in range(2):
        asked(queue, f"b{n}", "ben")
    assert played(queue) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_who_comes_later_joins_the_round_that_is_being_played(queue: Queue) -> None:
    for n in range(6):
        asked(queue, f"a{n}", "anna")
    assert played(queue, 3) == ["a0", "a1", "a2"]
    assert asked(queue, "b0", "ben").position == 2
    assert played(queue) == ["a3", "b0", "a4", "a5"]


def test_two_who_ask_one_at_a_time_do_not_keep_a_third_waiting(queue: Queue) -> None:
    for n in range(3):
        asked(queue, f"a{n}", "anna")
    names = []
    for n in range(8):
        asked(queue, f"b{n}", "ben")
        asked(queue, f"c{n}", "cleo")
        names += played(queue, 2)
    assert [name for name in names if name[0] == "a"] == ["a0", "a1", "a2"]


def test_a_client_does_not_pay_for_what_it_cancelled(queue: Queue) -> None:
    ids = [asked(queue, f"a{n}", "anna").task.id for n in range(9)]
    for identity in ids[1:]:
        queue.cancel(identity)
    for n in range(3):
        asked(queue, f"b{n}", "ben")
    asked(queue, "again", "anna")
    assert played(queue) == ["a0", "b0", "b1", "again", "b2"]


def test_positions_count_who_really_comes_before(queue: Queue) -> None:
    assert [asked(queue, f"a{n}", "anna").position for n in range(3)] == [1, 2, 3]
    late = asked(queue, "b", "ben")
    assert late.position == 2
    assert asked(queue, "c", "cleo", priority=1).position == 1
    assert queue.position(late.task) == 3
    assert len(played(queue, 2)) == 2
    assert queue.position(queue.get(late.task.id)) == 1


def test_a_worker_prefers_the_model_that_it_has_open(queue: Queue) -> None:
    for n in range(3):
        asked(queue, f"small{n}", model="small")
        asked(queue, f"large{n}", model="large")
    assert played(queue, 3, loaded=("large",)) == ["large0", "large1", "large2"]
    assert played(queue, loaded=("large",)) == ["small0", "small1", "small2"]


def test_that_does_not_keep_others_waiting_for_ever(queue: Queue) -> None:
    asked(queue, "small", model="small")
    for n in range(20):
        asked(queue, f"large{n}", model="large")
    assert played(queue, 6, loaded=("large",)).index("small") == 4


def test_an_open_model_is_no_reason_to_pass_a_higher_priority(queue: Queue) -> None:
    asked(queue, "large", model="large")
    asked(queue, "urgent", model="small", priority=1)
    assert played(queue, loaded=("large",)) == ["urgent", "large"]


def test_a_long_queue_is_neither_sorted_nor_read_to_its_end(queue: Queue) -> None:
    queue.submit({})
    with queue.store.reading() as connection:
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        last = place_for(connection, "", 0)
        position_of(connection, Place(0, last.round - 1, last.turn - 1))
        next_number(connection, ())
        connection.set_trace_callback(None)
        assert len(statements) == 3
        for statement in statements:
            steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
            plan = [str(step["detail"]) for step in steps]
            assert not [step for step in plan if "TEMP B-TREE" in step or step == "SCAN tasks"], (
                plan
            )
