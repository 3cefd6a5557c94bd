"""Each fault is really made, and really over afterwards."""

import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from tests.support.waiting import eventually
from tta_agent_coordination import CoordinationError, CoordinatorUnavailableError
from tta_agent_coordination.chaos import (
    clusters,
    network,
    processes,
    scene,
    sentinels,
    servers,
)
from tta_agent_coordination.chaos.crew import Crew
from tta_agent_coordination.chaos.scenarios import SCENARIOS, anything
from tta_agent_coordination.chaos.scene import Scene, nothing
from tta_agent_coordination.chaos.settings import ChaosError
from tta_agent_coordination.chaos.stages import AOF_ALWAYS, Stage
from tta_agent_coordination.chaos.watch import Watch
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.server_process import free_port
from tta_agent_coordination.transport.console import Console


class LowDice(random.Random):
    """Always the least."""

    def uniform(self, a: float, b: float) -> float:
        assert a <= b
        return a

    def randint(self, a: int, b: int) -> int:
        assert a <= b
        return a


@attrs.define
class Sleeper:
    """A member that notes what is done to it."""

    name: str = "serve1"
    role: str = "serve"
    done: list[object] = attrs.field(factory=list)

    def stop(self) -> None:
        self.done.append("stop")

    def go_on(self) -> None:
        self.done.append("go on")

    def kill(self) -> None:
        self.done.append("kill")

    def signal(self, number: signal.Signals) -> None:
        self.done.append(number)


@pytest.fixture
def open_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Make a scene on a stage, without processes."""
    with ExitStack() as opened:

        def make(stage: Stage, *, proxied: bool = False) -> Scene:
            opened.enter_context(stage)
            folder = tmp_path_factory.mktemp("crew")
            crew = opened.enter_context(Crew(stage.url, "acts", folder, random.Random(1)))
            proxy = None
            if proxied:
                proxy = opened.enter_context(FaultProxy(scene_address(stage), record=False))
            return Scene(stage, crew, LowDice(1), 30.0, proxy)

        yield make


def scene_address(stage: Stage) -> str:
    return stage.url.removeprefix("unix://")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture
def own(open_scene, folder: Path) -> Scene:
    """A scene with one server that writes before it answers, and a proxy before it."""
    return open_scene(servers.own(folder, options=AOF_ALWAYS), proxied=True)


@pytest.fixture
def through(own: Scene) -> Iterator[Console]:
    """A console that reaches the server through the proxy, and loses patience soon."""
    with Console(own.proxy.url, timeout=0.2) as console:
        yield console


# Processes ----------------------------------------------------------------------------------------


def test_a_suspended_worker_goes_on_later_and_its_sleep_is_noted(own: Scene) -> None:
    sleeper = Sleeper()
    own.crew.members = [sleeper]

    processes.suspend_one(own)

    assert sleeper.done == ["stop", "go on"]
    [stop] = own.crew.stops
    assert stop.end - stop.begin >= 1_000_000


def test_a_producer_or_consumer_is_asked_to_fork(own: Scene) -> None:
    own.crew.members = [Sleeper("consume1", "consume"), Sleeper()]

    processes.fork_one(own)

    assert [member.done for member in own.crew.members] == [[signal.SIGUSR1], []]


@pytest.mark.parametrize("act", [processes.kill_one, processes.kill_one_with_a_wrong_clock])
def test_a_killed_process_is_replaced(own: Scene, act) -> None:
    victim = Sleeper("produce7", "produce")
    own.crew.members = [victim]

    act(own)

    assert victim.done == ["kill"]
    [successor] = own.crew.members
    assert successor.role == "produce"
    assert own.crew.killed == {"produce7"}


# Network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [network.drop_replies, network.cut_replies])
def test_a_share_of_the_replies_is_lost(own: Scene, through: Console, act) -> None:
    act(own)
    failed = 0
    for _ in range(200):
        try:
            through("PING")
        except CoordinatorUnavailableError:
            failed += 1

    assert 0 < failed < 50
    assert own.deeds == failed
    network.heal(own)
    assert [through("PING") for _ in range(50)] == [b"PONG"] * 50


def beside(act, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=act, args=arguments, name="act")
    thread.start()
    return thread


@pytest.mark.parametrize("act", [network.swallow_all, network.drip, network.refuse])
def test_nothing_gets_through_for_a_while(own: Scene, through: Console, act) -> None:
    assert through("PING") == b"PONG"

    acting = beside(act, own)
    eventually(lambda: not answers(through))
    acting.join()

    eventually(lambda: answers(through))


def answers(console: Console) -> bool:
    try:
        return console("PING") == b"PONG"
    except CoordinationError:
        return False


def test_an_end_is_lost_and_the_other_not_told(own: Scene) -> None:
    with socket.create_connection(("127.0.0.1", own.proxy.port), timeout=0.2) as wire:
        wire.sendall(b"PING\r\n")
        assert wire.recv(100) == b"+PONG\r\n"
        network.lose_the_other_end(own)
        wire.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            wire.recv(100)


def test_a_scene_without_a_proxy_says_so(open_scene, folder: Path) -> None:
    with pytest.raises(RuntimeError, match="no proxy"):
        network.heal(open_scene(servers.own(folder)))


# One server ---------------------------------------------------------------------------------------


def test_a_killed_server_has_what_it_confirmed(own: Scene) -> None:
    console = own.stage.console()
    before = run_id(console)
    console("SET", "kept", "x")

    servers.kill_server(own)

    assert run_id(console) != before
    assert console("GET", "kept") == b"x"
    assert own.losses == []


def run_id(console: Console) -> str:
    return clusters.told(console("INFO", "server"))["run_id"]


def test_what_may_be_lost_is_noted(own: Scene) -> None:
    begin = time.monotonic_ns() // 1000

    servers.kill_server(own, loss=2.0)

    [window] = own.losses
    assert window.holds(begin)
    assert not window.holds(begin - 3_000_000)
    assert window.holds(time.monotonic_ns() // 1000)


def test_scripts_are_forgotten(own: Scene) -> None:
    console = own.stage.console()
    known = console("SCRIPT", "LOAD", "return 1").decode()

    servers.flush_scripts(own)

    assert console("SCRIPT", "EXISTS", known) == [0]


def test_every_other_connection_is_closed(own: Scene, through: Console) -> None:
    before = through("CLIENT", "ID")

    servers.kill_clients(own)

    eventually(lambda: answers(through))
    assert through("CLIENT", "ID") > before


def test_nobody_is_answered_for_a_while(own: Scene, through: Console) -> None:
    assert through("PING") == b"PONG"
    begin = time.monotonic()

    servers.pause_clients(own)

    assert own.stage.console()("PING") == b"PONG"
    assert time.monotonic() - begin >= 0.19


def test_what_needs_memory_is_refused_for_a_while(own: Scene, through: Console) -> None:
    def is_refused() -> bool:
        try:
            through("SET", "key", "x")
        except CoordinationError as error:
            return "out of memory" in str(error)
        return False

    acting = beside(servers.fill_memory, own)
    eventually(is_refused)
    acting.join()

    assert not is_refused()


def test_all_of_them_can_come_at_random(own: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Scene] = []
    monkeypatch.setattr("tta_agent_coordination.chaos.scenarios._MIXED", (seen.append,))

    anything(own)

    assert seen == [own]
    assert SCENARIOS["mixed"].act is anything


# Several servers ----------------------------------------------------------------------------------


def test_a_node_of_a_cluster_comes_back_with_its_data(open_scene, folder: Path) -> None:
    cluster = clusters.OwnCluster(folder, AOF_ALWAYS)
    found = open_scene(cluster)
    name = "tta:{worker}:ready"
    cluster.console()("SET", name, "x")

    clusters.restart_node(found)

    assert cluster.console()("GET", name) == b"x"
    assert len(cluster.consoles()) == clusters.PRIMARIES
    with pytest.raises(RuntimeError, match="no replica"):
        cluster.fail_over()


def test_a_cluster_that_cannot_start_leaves_nothing_running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "READY_TIMEOUT", 0.0)
    nodes: list[clusters.ClusterNode] = []
    begin = clusters.ClusterNode.__init__

    def note(self: clusters.ClusterNode, *arguments: object) -> None:
        begin(self, *arguments)
        nodes.append(self)

    monkeypatch.setattr(clusters.ClusterNode, "__init__", note)

    with pytest.raises(ChaosError, match=r"the cluster does not serve within 0 s"):
        clusters.OwnCluster(folder)

    assert len(nodes) == clusters.PRIMARIES
    for node in nodes:
        with pytest.raises(CoordinatorUnavailableError):
            node.console()("PING")


def test_a_server_that_does_not_answer_yet_is_asked_again() -> None:
    answers: list[object] = [CoordinatorUnavailableError("not yet"), False, True]

    def condition() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    clusters.await_that(condition, "never")

    assert answers == []


def test_a_primary_is_replaced_however_it_goes(open_scene, folder: Path) -> None:
    pair = sentinels.WatchedPair(folder)
    found = open_scene(pair)

    for number, act in enumerate(
        (sentinels.kill_primary, sentinels.pause_primary, sentinels.switch_primary), start=1
    ):
        before = pair.primary
        act(found)
        assert pair.replica is before
        assert clusters.role_of(pair.console()) == "master"
        assert clusters.role_of(before.console()) == "slave"
        assert len(found.losses) == number
    assert pair.consoles() == (pair.console(),)


def test_sentinels_that_do_not_agree_leave_nothing_running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "READY_TIMEOUT", 0.0)

    with pytest.raises(ChaosError, match="the sentinels do not agree"):
        sentinels.WatchedPair(folder)


def test_sentinels_of_which_none_answers_name_no_primary() -> None:
    watched = Watch([free_port()])
    with pytest.raises(CoordinationError, match="there are no sentinels"):
        _ = watched.primary
    watched.config()
    watched.add(free_port())
    with pytest.raises(CoordinatorUnavailableError):
        _ = watched.primary


def test_one_of_three_ways_is_chosen(own: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    for name in ("kill_primary", "pause_primary", "switch_primary"):
        monkeypatch.setattr(sentinels, name, lambda _scene, name=name: seen.append(name))
    own.dice = random.Random(1)

    for _ in range(30):
        sentinels.lose_primary(own)

    assert set(seen) == {"kill_primary", "pause_primary", "switch_primary"}


# All ----------------------------------------------------------------------------------------------


def test_every_fault_has_a_name_of_its_own_and_is_described() -> None:
    assert list(SCENARIOS) == [one.name for one in SCENARIOS.values()]
    assert all(one.about for one in SCENARIOS.values())
    assert len(SCENARIOS) >= 20


def test_pauses_are_short_in_short_runs_and_end_with_them(own: Scene) -> None:
    assert nothing(own) is None
    short = scene.Scene(own.stage, own.crew, LowDice(1), 0.3)
    begin = time.monotonic()

    for _ in range(10):
        short.pause(5.0, 9.0)

    assert 0.3 <= time.monotonic() - begin < 3.0
    assert short.left <= 0
