"""What a migration reports, and how it divides what it moves: no server is needed."""

import pytest

from tta_agent_coordination import AgentId
from tta_agent_coordination.migrate import InboxReport, moves

WORKER = AgentId("worker")


@pytest.mark.parametrize("left", ["held", "only_listed", "unreadable"])
def test_a_report_says_whether_something_was_left_or_came_meanwhile(left: str) -> None:
    done = InboxReport(inbox=WORKER, remaining=0)
    assert (done.left, done.came_meanwhile, done.over_size, done.moved) == (False,) * 3 + (0,)
    came = InboxReport(inbox=WORKER, remaining=1)
    assert (came.left, came.came_meanwhile) == (True, True)
    stays = InboxReport(inbox=WORKER, remaining=1, **{left: 1})
    assert (stays.left, stays.came_meanwhile) == (True, False)
    assert InboxReport(inbox=WORKER, **{left: 1}).left


@pytest.mark.parametrize(("waiting", "over"), [(None, False), (9_999, False), (10_000, True)])
def test_a_report_says_whether_the_inbox_is_full(waiting: int | None, over: bool) -> None:
    assert InboxReport(inbox=WORKER, waiting=waiting).over_size is over


def test_what_was_moved_is_added_up() -> None:
    kinds = ("ready", "delayed", "reserved", "stranded", "dead")
    counts = {kind: 10**place for place, kind in enumerate(kinds)}
    assert InboxReport(inbox=WORKER, copies=7, held=7, **counts).moved == 11_111


def pieces(*sizes: int) -> list[list[int]]:
    return list(moves._pieces(sizes, lambda size: size))


def test_a_script_takes_so_many_entries_and_so_many_bytes_or_one_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moves, "_MOST_A_SCRIPT", 3)
    monkeypatch.setattr(moves, "_BYTES_A_SCRIPT", 10)
    assert pieces() == []
    assert pieces(1, 1, 1) == [[1, 1, 1]]
    assert pieces(1, 1, 1, 1, 1) == [[1, 1, 1], [1, 1]]
    assert pieces(4, 6, 1) == [[4, 6], [1]]
    assert pieces(4, 7, 3) == [[4], [7, 3]]
    assert pieces(11, 12, 1, 9) == [[11], [12], [1, 9]]
