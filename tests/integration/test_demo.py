"""The demo as a whole, with real processes on a real server."""

import io
import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import OwnServers
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    AgentWorker,
    CurrentMessage,
    MessageType,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RejectMessage,
    RetryLater,
)
from tta_agent_coordination.agents.agent import set_current
from tta_agent_coordination.cli import main
from tta_agent_coordination.demo import planner, run, stage
from tta_agent_coordination.demo.analysis import Outcome
from tta_agent_coordination.demo.analyst import Analyst
from tta_agent_coordination.demo.corpus import Task
from tta_agent_coordination.demo.planner import request
from tta_agent_coordination.demo.processes import Processes
from tta_agent_coordination.demo.settings import (
    ANALYST,
    HEARTBEAT_TTL,
    PLANNER,
    REPORTER,
    Settings,
)
from tta_agent_coordination.server_process import free_port
from tta_agent_coordination.terminal import Display

SCRIPT = Path(sysconfig.get_path("scripts"), "tta-coordination")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        (tmp_path / f"module_{number:02}.py").write_text(
            f"import json\nclass C{number}:\n" + "    def f(self): pass\n" * (number + 1)
        )
    (tmp_path / "module_05.py").write_text("no Python here")
    return tmp_path


@pytest.fixture
def server(own_server: OwnServers) -> LocalServer:
    return own_server()


def keys_that_stay(server: LocalServer) -> set[bytes]:
    """Every key that does not vanish by itself within two minutes, as marks do."""
    return {key for key in server.admin.scan_iter() if server.admin.ttl(key) < 0}


def assert_nothing_stays(server: LocalServer) -> None:
    assert not keys_that_stay(server)


# The whole ------------------------------------------------------------------------------------


def test_the_demo_survives_its_killed_analyst_and_leaves_nothing_behind(
    folder: Path, server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--url", server.url, "--folder", str(folder), "--analysts", "2"]) == 0

    out, err = capsys.readouterr()
    assert not err
    report = out.partition("Report\n")[2]
    assert "requests sent   41: 40 files, 1 of poison" in report
    assert "results         39, 0 of them twice" in report
    assert "answers         41, 2 of them errors" in report
    held = report.partition("by SIGKILL, while it held ")[2].split()[0]
    assert f"redelivered     {held}, " in report
    assert "its result was known: it was not stored again" in report
    assert " s after the kill, by the registry" in report
    assert "permanent  poison-1: not Python: invalid syntax (line 1)" in report
    assert "permanent  module_05.py: not Python: invalid syntax (line 1)" in report
    assert "equal to the plain run: 39 files with 814 functions and 39 classes" in report
    children = psutil.Process().children(recursive=True)
    assert not any("tta_agent_coordination.demo.child" in child.cmdline() for child in children)
    assert_nothing_stays(server)


def test_results_that_differ_give_exit_status_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "analyze_tasks", lambda _folder, _tasks: Outcome())
    assert main(["demo", "--folder", str(folder)]) == 1
    assert "NOT EQUAL to the plain run in 41 files" in capsys.readouterr().out


# How it fails ---------------------------------------------------------------------------------


def test_an_unreachable_server_ends_it_with_one_line_and_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    assert main(["demo", "--url", url, "--folder", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tta-coordination: Redis could not be reached within ")
    assert err.count("\n") == 1


def test_it_gives_up_when_nothing_moves(
    folder: Path,
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(stage, "STALL_LIMIT", 0.0)
    assert main(["demo", "--url", server.url, "--folder", str(folder)]) == 2
    assert capsys.readouterr().err == "tta-coordination: nothing has moved for 0 s\n"
    assert_nothing_stays(server)


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SCRIPT, "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_in_the_middle_of(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    """Read the output until an analyst was killed; return all processes then."""
    assert any("SIGKILL" in line for line in demo.stdout)
    return psutil.Process(demo.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=0.05)[1]


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "tta-coordination: interrupted\n"), (signal.SIGTERM, 143, "")],
)
def test_an_interrupted_demo_leaves_nothing_behind(
    number: signal.Signals, status: int, word: str, server: LocalServer
) -> None:
    with start_demo("--url", server.url) as demo:
        processes = processes_in_the_middle_of(demo)
        assert len(processes) >= 4
        demo.send_signal(number)
        _, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (status, word)
    assert all_gone(processes)
    assert_nothing_stays(server)


def test_a_demo_that_is_killed_takes_its_processes_and_its_server_along() -> None:
    with start_demo() as demo:
        processes = processes_in_the_middle_of(demo)
        demo.kill()
        demo.communicate(timeout=30)
    # Their server is gone as well, and they try to tell it that they leave.
    eventually(lambda: all_gone(processes), timeout=60)


def test_a_reader_that_leaves_ends_it_quietly(folder: Path, server: LocalServer) -> None:
    with start_demo("--url", server.url, "--folder", str(folder)) as demo:
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(timeout=30) == 2
        assert not demo.stderr.read()
    assert_nothing_stays(server)


# Its agents, one by one -----------------------------------------------------------------------


class Told(list[tuple[str, dict[str, Any]]]):
    """What an agent told, as its parent would hear it."""

    def __call__(self, kind: str, **facts: Any) -> None:
        self.append((kind, facts))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


@pytest.fixture
def coordinator(server: LocalServer) -> Iterator[RedisMessageCoordinator]:
    with RedisMessageCoordinator.from_url(server.url, "test") as coordinator:
        yield coordinator


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def analyst(coordinator: RedisMessageCoordinator, folder: Path, told: Told) -> Iterator[Analyst]:
    agent = Analyst(AgentId("analyst", "1"), coordinator, folder, told)
    agent.start()
    yield agent
    agent.stop()


def handle(agent: Analyst, coordinator: RedisMessageCoordinator) -> None:
    """Do as a worker does, but leave the request on lease."""
    received = coordinator.receive(ANALYST, 0.0)
    assert received is not None
    set_current(CurrentMessage(received))
    try:
        agent.process(received.message.payload)
    finally:
        set_current(None)


def test_an_analyst_holds_still_with_its_result_sent_and_its_request_not_finished(
    coordinator: RedisMessageCoordinator, analyst: Analyst, told: Told
) -> None:
    coordinator.send_message(PLANNER, ANALYST, request(1, Task("module_01.py", hold=True)))

    with AgentWorker(analyst, coordinator, threads=1, drain_timeout=0.0):
        eventually(lambda: told == [("holding", {"message_id": "request-1"})])
        assert coordinator.stats(ANALYST).leased == 1
        assert coordinator.stats(REPORTER).ready[5] == 1


def test_a_result_that_is_sent_again_is_recognized(
    coordinator: RedisMessageCoordinator, analyst: Analyst, told: Told
) -> None:
    coordinator.send_message(PLANNER, ANALYST, request(1, Task("module_01.py")))

    handle(analyst, coordinator)
    handle(analyst, coordinator)

    again = ("redelivered", {"message_id": "request-1", "duplicate": True})
    assert told.kinds() == ["handled", "redelivered", "handled"]
    assert again in told
    assert coordinator.stats(REPORTER).ready[5] == 1


def test_a_result_that_finds_no_room_leaves_the_request_for_later(
    coordinator: RedisMessageCoordinator, analyst: Analyst, told: Told
) -> None:
    coordinator.configure(queue_size=1)
    coordinator.send_message(PLANNER, REPORTER, AgentMessage(PLANNER, REPORTER))
    coordinator.send_message(PLANNER, ANALYST, request(1, Task("module_01.py")))

    with pytest.raises(RetryLater, match="the reporter: queue full"):
        handle(analyst, coordinator)
    assert not told


def test_what_is_no_python_is_rejected_with_a_reason(
    coordinator: RedisMessageCoordinator, analyst: Analyst, told: Told
) -> None:
    coordinator.send_message(PLANNER, ANALYST, request(1, Task("poison", source="a letter")))

    with pytest.raises(RejectMessage, match="not Python: invalid syntax"):
        handle(analyst, coordinator)
    assert told.kinds() == ["handled"]


def test_the_planner_has_a_window_of_requests_open_and_sends_one_for_each_answer(
    coordinator: RedisMessageCoordinator,
    folder: Path,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "WINDOW", 40)
    agent = planner.Planner(PLANNER, coordinator, folder, told)

    agent.start()
    for number in (0, 0, 1):  # the second time, it is no answer to anything
        answer = AgentMessage(
            ANALYST,
            PLANNER,
            message_type=MessageType.RESPONSE,
            correlation_id=f"request-{number}",
        )
        agent.handle(answer)

    assert [facts for kind, facts in told if kind == "sent"] == [
        {"count": 40, "of": 41},
        {"count": 1, "of": 41},
    ]
    assert told.kinds().count("answered") == 2
    assert told.kinds().count("handled") == 3
    assert sum(coordinator.stats(ANALYST).ready.values()) == 41


def test_an_agent_that_is_only_slow_is_not_replaced(
    coordinator: RedisMessageCoordinator, folder: Path, server: LocalServer
) -> None:
    settings = Settings(server.url, "test", str(folder))
    display = Display(io.StringIO(), live=False, color=False)
    with (
        RedisAgentRegistry.from_url(server.url, "test", heartbeat_ttl_s=HEARTBEAT_TTL) as registry,
        Processes(settings) as processes,
    ):
        stage.Stage(coordinator, registry, processes, display)
        slow = psutil.Process(processes.start(REPORTER))
        eventually(lambda: registry.get(REPORTER) is not None, timeout=20)
        slow.suspend()
        eventually(lambda: REPORTER in registry.detect_and_recover().restarted, timeout=20)
        slow.resume()
        eventually(lambda: registry.discover("reporter"), timeout=20)
        processes.end()


def test_a_child_reads_nothing_from_the_working_directory(
    folder: Path, server: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trap = tmp_path_factory.mktemp("trap")
    (trap / "json.py").write_text("raise SystemExit('taken from the working directory')")
    finished = subprocess.run(
        [SCRIPT, "demo", "--url", server.url, "--folder", str(folder), "--analysts", "1"],
        cwd=trap,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
