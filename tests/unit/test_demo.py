"""The parts of the demo that need no server: what it reads, counts, draws and reports."""

import gc
import os
import queue
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    ConfigurationError,
    DeadLetter,
    InboxStats,
    MessagePriority,
    MessageType,
    QueueMessage,
    cli,
)
from tta_agent_coordination.cli import main
from tta_agent_coordination.demo import corpus, planner, processes
from tta_agent_coordination.demo.analysis import (
    Analysis,
    NotPythonError,
    Outcome,
    analyze,
    analyze_task,
    analyze_tasks,
)
from tta_agent_coordination.demo.corpus import Task, plan, python_files, standard_library
from tta_agent_coordination.demo.processes import Child, Event, Processes, event_of
from tta_agent_coordination.demo.report import Report, differences, file_of, outcome_of, reason_of
from tta_agent_coordination.demo.reporter import Reporter
from tta_agent_coordination.demo.settings import (
    ANALYST,
    HOLD,
    PLANNER,
    REPORTER,
    DemoError,
    Settings,
)
from tta_agent_coordination.demo.stage import STALL_LIMIT, Stage, Tally
from tta_agent_coordination.demo.table import Rate, Reading, sentence, table

HIGH, NORMAL, LOW = MessagePriority.HIGH, MessagePriority.NORMAL, MessagePriority.LOW

# Which files ----------------------------------------------------------------------------------


def test_the_standard_library_has_hundreds_of_files_and_no_installed_package() -> None:
    files = python_files(standard_library())
    assert "json/decoder.py" in files
    assert len(files) > 500
    assert not any("site-packages" in file for file in files)


def test_only_python_files_that_a_message_can_name_are_found(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "folder.py").mkdir()
    for name in ("b.py", "deep/er/a.py", "notes.txt", "site-packages/c.py"):
        (tmp_path / name).touch()
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).touch()

    assert python_files(tmp_path) == ["b.py", "deep/er/a.py"]


def test_a_folder_without_python_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"no Python files in '{tmp_path}'"):
        plan(tmp_path)


def test_a_plan_has_poison_in_between_some_urgent_files_and_one_to_be_killed_over(
    tmp_path: Path,
) -> None:
    for number in range(400):
        (tmp_path / f"{number:03}.py").touch()

    tasks = plan(tmp_path)

    poisons = [number for number, task in enumerate(tasks) if task.source]
    assert poisons == [100, 301]
    assert [tasks[number].file for number in poisons] == ["poison-1", "poison-2"]
    assert sum(task.priority is HIGH for task in tasks) == 400 // 20 + 2
    assert [task.file for task in tasks if task.hold] == ["100.py"]


def test_the_smallest_plan_has_one_file_and_one_poison(tmp_path: Path) -> None:
    (tmp_path / "only.py").touch()
    assert [(task.file, task.hold) for task in plan(tmp_path)] == [
        ("poison-1", False),
        ("only.py", True),
    ]


# What is found out ----------------------------------------------------------------------------

SOURCE = b"""
import os, os.path as p
from . import near
from ..far.away import *
class A:
    async def f(self):
        try:
            import json
        except ImportError:
            import json
        else:
            def g(): pass
        finally:
            import os
match A:
    case 1:
        from re import sub
lambda: 0
"""


def test_functions_classes_and_imports_are_counted_wherever_they_stand() -> None:
    assert analyze(SOURCE) == Analysis(2, 1, (".", "..far.away", "json", "os", "os.path", "re"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"a = = b", r"invalid syntax \(line 1\)"),
        (b"a\0", "not Python: .*null bytes"),
        (b"# coding: klingon\n", "unknown encoding"),
        (b"-" * 100_000 + b"1", "not Python: "),
    ],
)
def test_what_is_no_python_is_refused_with_a_reason(source: bytes, reason: str) -> None:
    with pytest.raises(NotPythonError, match=reason):
        analyze(source)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPythonError, match="cannot be read: No such file"):
        analyze_task(tmp_path, Task("missing.py"))


def test_warnings_about_a_source_are_nobodys_business() -> None:
    assert analyze(b"'\\d' is 1") == Analysis(0, 0, ())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        analyze(b"")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_all_tasks_can_be_done_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(): pass")
    tasks = [Task("a.py"), Task("poison", source="no Python")]
    assert analyze_tasks(tmp_path, tasks) == Outcome(
        {"a.py": Analysis(1, 0, ())}, {"poison": "not Python: invalid syntax (line 1)"}
    )


# What is asked and collected ------------------------------------------------------------------


def test_a_request_has_the_same_id_whenever_it_is_made() -> None:
    task = Task("a.py", HIGH, hold=True)
    first, second = planner.request(7, task), planner.request(7, task)
    assert first.message_id == second.message_id == "request-7"
    assert first.message_type is MessageType.REQUEST
    assert first.priority is HIGH
    assert HOLD in first.headers
    assert HOLD not in planner.request(8, Task("b.py")).headers


def test_the_reporter_keeps_the_first_result_of_each_file() -> None:
    told: list[tuple[str, dict[str, object]]] = []
    agent = Reporter(REPORTER, None, Path(), lambda kind, **facts: told.append((kind, facts)))

    agent.start()
    for found in (1, 2):
        agent.on_event(AgentMessage(ANALYST, REPORTER, {"file": "a.py", "found": found}))
    agent.stop()

    assert [kind for kind, _ in told] == ["handled", "handled", "results"]
    assert told[-1][1] == {"results": {"a.py": {"file": "a.py", "found": 1}}, "repeated": 1}


# Processes ------------------------------------------------------------------------------------


def test_a_line_with_a_mark_tells_something_unless_it_was_cut_short() -> None:
    line = '\x1e{"kind": "sent", "facts": {"count": 3}}\n'
    assert event_of(PLANNER, line) == Event(PLANNER, "sent", {"count": 3})
    assert event_of(PLANNER, line[:20]) is None
    assert event_of(PLANNER, "Traceback\n") is None


def test_a_process_that_fails_is_found_out_with_its_last_words(tmp_path: Path) -> None:
    settings = Settings("redis://127.0.0.1:1", "unused", str(tmp_path))

    def never() -> bool:
        started.check()
        return False

    with Processes(settings) as started:
        started.start(PLANNER)
        with pytest.raises(DemoError, match=r"planner ended with status 1: .*no Python files"):
            eventually(never, timeout=20)


def test_a_process_that_does_not_end_is_given_up_and_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "END_TIMEOUT", 0.05)
    child = Child(Settings("", "", "", "reporter"), queue.SimpleQueue())
    os.kill(child.pid, signal.SIGSTOP)
    child.ask_to_end()
    with pytest.raises(DemoError, match=r"reporter did not end within 0\.05 s"):
        child.wait(processes.END_TIMEOUT)
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


# The table ------------------------------------------------------------------------------------


def reading(inbox: AgentId = ANALYST, *, dead: int = 0) -> Reading:
    stats = InboxStats({HIGH: 2, NORMAL: 40, LOW: 0}, 3, 24, dead, None)
    return Reading(inbox, stats, 312.4)


def test_the_table_has_a_line_for_each_inbox() -> None:
    assert table([reading(), reading(REPORTER)]).lines() == [
        "inbox        ready    HIGH  leased  delayed  dead    rate",
        "analyst         42       2      24        3     0   312/s",
        "reporter        42       2      24        3     0   312/s",
    ]


def test_an_inbox_with_dead_letters_is_red_where_there_are_colors() -> None:
    _, good, bad = table([reading(), reading(dead=1)]).lines(color=True)
    assert "\x1b" not in good
    assert bad.startswith("\x1b[31m")


def test_the_same_can_be_said_in_a_sentence() -> None:
    assert sentence([reading()]) == "analyst: 42 ready, 24 leased, 3 delayed, 0 dead, 312/s"


def test_what_can_be_received_or_is_on_its_way_is_unfinished() -> None:
    assert reading(dead=5).unfinished == 42 + 24 + 3


def test_a_rate_is_the_growth_over_the_last_second() -> None:
    rate = Rate()
    assert rate.read(0, 10.0) == 0
    assert rate.read(50, 10.5) == 100
    assert rate.read(90, 11.25) == pytest.approx(40 / 0.75)


# The tally ------------------------------------------------------------------------------------


ONE = AgentId("analyst", "1")


def test_what_the_processes_tell_is_tallied() -> None:
    tally = Tally()
    told = [
        ("sent", {"count": 2, "of": 3}),
        ("sent", {"count": 1, "of": 3}),
        ("answered", {"failed": False}),
        ("answered", {"failed": True}),
        ("handled", {"inbox": "analyst"}),
        ("holding", {"message_id": "request-1"}),
        ("results", {"results": {"a.py": {}}, "repeated": 4}),
    ]
    for kind, facts in told:
        assert tally.note(Event(ONE, kind, facts), 1.0) is None

    assert (tally.sent, tally.planned, tally.answered, tally.errors) == (3, 3, 2, 1)
    assert tally.handled == {"analyst": 1, "reporter": 0, "planner": 0}
    assert (tally.held, tally.holder) == ("request-1", ONE)
    assert (tally.results, tally.repeated) == ({"a.py": {}}, 4)


def test_only_what_the_killed_analyst_held_counts_as_redelivered_after_the_kill() -> None:
    tally = Tally(held="request-1", killed_at=5.0)

    def redelivered(message_id: str, now: float) -> str | None:
        facts = {"message_id": message_id, "duplicate": True}
        return tally.note(Event(ONE, "redelivered", facts), now)

    assert redelivered("request-9", 6.0) is None
    said = redelivered("request-1", 7.0)
    assert said is not None
    assert "passed after 2.0 s" in said
    assert "to analyst:1" in said
    assert redelivered("request-1", 9.5) is None

    assert (tally.redelivered, tally.duplicate, tally.late) == (2.0, True, 2)


@pytest.mark.parametrize(
    ("tally", "complete"),
    [
        (Tally(), False),
        (Tally(planned=2, answered=1), False),
        (Tally(planned=2, answered=2), True),
        (Tally(planned=2, answered=2, held="request-1"), False),
        (Tally(planned=2, answered=2, held="request-1", found_dead=1.5), True),
    ],
)
def test_all_is_done_when_all_is_answered_and_who_was_killed_is_replaced(
    tally: Tally, complete: bool
) -> None:
    assert tally.complete is complete


# The report -----------------------------------------------------------------------------------

FOUND = {"functions": 1, "classes": 2, "imports": ["os"]}


def dead_letter(file: str, last_error: str | None = "RejectMessage: not Python") -> DeadLetter:
    now = datetime(2020, 1, 1, tzinfo=UTC)
    message = AgentMessage(PLANNER, ANALYST, {"file": file})
    stored = QueueMessage(message, NORMAL, now, 1, last_error)
    return DeadLetter(stored, "permanent", now, "analyst:1", message_id=message.message_id)


@pytest.fixture
def tally() -> Tally:
    results = {"a.py": {"file": "a.py", "found": FOUND, "urgent": True, "waited": 0.25}}
    return Tally(
        sent=2,
        answered=2,
        errors=1,
        killed="analyst:1",
        killed_at=5.0,
        held="request-1",
        found_dead=1.5,
        redelivered=2.125,
        duplicate=True,
        results=results,
        dead=[dead_letter("poison-1")],
    )


PLAIN = Outcome({"a.py": Analysis(1, 2, ("os",))}, {"poison-1": "not Python"})
TASKS = (Task("a.py"), Task("poison-1", source="not Python"))


def text_of(tally: Tally, plain: Outcome = PLAIN) -> str:
    return "\n".join(Report(TASKS, tally, plain, 1.0, 3).lines())


def test_equal_results_are_reported_with_their_sums(tally: Tally) -> None:
    assert not Report(TASKS, tally, PLAIN, 1.0, 3).differences
    text = text_of(tally)
    assert "2: 1 files, 1 of poison" in text
    assert "1 files waited in the inbox for 0.25 s (median)" in text
    assert "answers         2, 1 of them errors" in text
    assert "analyst:1 by SIGKILL, while it held request-1" in text
    assert "replaced        1.5 s after the kill, by the registry" in text
    assert "request-1, 2.1 s after the kill; its result was known: it was not stored again" in text
    assert "permanent  poison-1: not Python" in text
    assert "equal to the plain run: 1 files with 1 functions and 2 classes that import 1" in text
    assert "busy" not in text


def test_leases_that_passed_without_a_kill_are_reported(tally: Tally) -> None:
    assert "4 more, whose leases passed: the machine is busy" in text_of(
        attrs.evolve(tally, late=4)
    )


def test_a_result_that_was_not_sent_before_the_kill_is_new(tally: Tally) -> None:
    text = text_of(attrs.evolve(tally, duplicate=False))
    assert "2.1 s after the kill; its result was new" in text


def test_what_did_not_follow_the_kill_is_not_reported(tally: Tally) -> None:
    text = text_of(attrs.evolve(tally, found_dead=None, redelivered=None))
    assert "replaced" not in text
    assert "redelivered" not in text


def test_a_run_without_a_kill_says_so(tally: Tally) -> None:
    assert "killed          nobody" in text_of(attrs.evolve(tally, killed=None))


def test_a_long_list_of_dead_letters_is_cut(tally: Tally) -> None:
    tally.dead = [dead_letter(f"poison-{number}") for number in range(35)]
    text = text_of(tally)
    assert "poison-29" in text
    assert "poison-30:" not in text.partition("comparison")[0]
    assert "and 5 more" in text


def test_a_difference_is_reported_with_both_sides(tally: Tally) -> None:
    plain = Outcome({"a.py": Analysis(1, 3, ("os",))}, {"b.py": "not Python"})
    text = text_of(tally, plain)
    assert "NOT EQUAL to the plain run in 3 files" in text
    assert "a.py: [Analysis(functions=1, classes=2" in text
    assert "b.py: nothing, but plainly ['not Python']" in text
    assert "poison-1: ['not Python'], but plainly nothing" in text


def test_a_file_that_is_both_done_and_refused_is_a_difference(tally: Tally) -> None:
    tally.dead.append(dead_letter("a.py"))
    assert [line.split(":")[0] for line in differences(outcome_of(tally), PLAIN)] == ["a.py"]


def test_a_dead_letter_that_says_little_is_named_by_what_there_is() -> None:
    silent = dead_letter("a.py", last_error=None)
    assert reason_of(silent) == "permanent"
    undecodable = attrs.evolve(silent, queue_message=None, raw=b"?", reason="undecodable")
    assert file_of(undecodable) == silent.message_id
    assert reason_of(undecodable) == "undecodable"


# The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: COMMAND"),
        (["demo", "--folder", "/no/such"], "'/no/such' is no folder"),
        (["demo", "--analysts", "0"], "'0' is no number from 1 to 64"),
        (["demo", "--analysts", "many"], "'many' is no number from 1 to 64"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert complaint in capsys.readouterr().err


def test_an_empty_folder_ends_with_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"tta-coordination: there are no Python files in {str(tmp_path)!r}\n"
    )


@pytest.fixture
def terminated_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    unwound: list[str] = []

    def run(*_arguments: object, **_options: object) -> bool:
        try:
            signal.raise_signal(signal.SIGTERM)
            threading.Event().wait(10)
        finally:
            unwound.append("run")
        raise AssertionError("SIGTERM changed nothing")

    monkeypatch.setattr(cli.demo, "run", run)
    return unwound


def test_sigterm_unwinds_the_stack(terminated_run: list[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        main(["demo"])
    assert terminated_run == ["run"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_name_that_no_message_can_carry_is_passed_over() -> None:
    assert corpus._is_text(Path("é/\ud7ff/\ue000/😀.py"))
    assert not corpus._is_text(Path("\ud800.py"))
    assert not corpus._is_text(Path("\udfff.py"))


def test_a_run_in_which_nothing_moves_any_more_is_given_up() -> None:
    unused: Any = SimpleNamespace(on_unhealthy=lambda _: None)
    stage = Stage(unused, unused, unused, unused)
    stage._check_progress()
    stage._last_word -= STALL_LIMIT + 1
    with pytest.raises(DemoError, match="nothing has moved"):
        stage._check_progress()
