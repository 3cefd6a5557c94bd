"""A process is killed after each command of each call, before it gets the reply.

Whatever it was doing, each message is in one place, and the call was carried out or it was not.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.faults.calls import CALLS, INBOX, INBOXES, OTHER, Call
from tests.support.raw_inbox import look, places_of
from tests.support.servers import LocalServer, binary_of
from tests.support.waiting import eventually
from tta_agent_coordination import AgentId, RedisMessageCoordinator
from tta_agent_coordination.chaos.raw_inbox import PLACES
from tta_agent_coordination.proxy import Command, FaultProxy

ROOT = Path(__file__).parents[2]

State = frozenset[tuple[AgentId, str, str]]
"""Which message of which inbox is where."""

KILLABLE = [call for call in CALLS if call.steady]


@dataclass(frozen=True)
class Play:
    """One call, and where everything was before and after it."""

    prefix: str
    before: State
    after: State
    killed: bool

    @property
    def vanished(self) -> set[str]:
        """Ids that were there before, and are not any more."""
        return {i for *_, i in self.before} - {i for *_, i in self.after}


class Theatre:
    """Has calls made by processes that are killed in them, each under a prefix of its own.

    A process is started ahead for the next call, so that its start costs no time.
    """

    def __init__(self, server: LocalServer, proxy: FaultProxy) -> None:
        self.url = server.url
        self._server = server
        self._proxy = proxy
        self._names = (f"killed-{number}" for number in count())
        self._next = self._spawn()

    def play_all(self, call: Call) -> list[Play]:
        """Have a call killed at its first command, its second, …; the last is one that lived."""
        plays: list[Play] = []
        while not plays or plays[-1].killed:
            plays.append(self._play(call, len(plays) + 1))
        return plays

    def _play(self, call: Call, kill_at: int) -> Play:
        prefix = next(self._names)
        process, self._next = self._next, self._spawn()
        self.state(prefix)
        ours = self._server.connections()
        with process:
            process.stdin.write(f"{call.name} {prefix}\n")
            process.stdin.flush()
            said = process.stdout.readline()
            assert said == "ready\n", process.communicate()[1]
            before = self.state(prefix)
            self._proxy.drop_reply_of(_killer(process.pid, kill_at))
            _, complaints = process.communicate("\n")
            assert process.returncode in (0, -signal.SIGKILL), complaints
        self._proxy.heal()
        # The server has carried out what reached it when it notices that nobody is there.
        eventually(lambda: self._server.connections() <= ours, what="the process is not gone")
        return Play(prefix, before, self.state(prefix), process.returncode == -signal.SIGKILL)

    def state(self, prefix: str) -> State:
        """Return where everything is; fail if a message is in two places, or the keys disagree."""
        found: set[tuple[AgentId, str, str]] = set()
        for agent_id in INBOXES:
            raw = look(self._server.admin, prefix, agent_id)
            assert not list(raw.faults())
            for message_id in raw.messages | raw.dead:
                assert len(places_of(raw, message_id)) == 1
            found |= {(agent_id, place, i) for place in PLACES for i in getattr(raw, place)}
        return frozenset(found)

    def close(self) -> None:
        self._next.kill()
        self._next.communicate()

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.processes.caller", self._server.url, self._proxy.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )


def _killer(pid: int, kill_at: int) -> Callable[[Command], bool]:
    """Kill the process when its command of that number arrives, which goes on to the server."""
    arrived = count(1)

    def kills(command: Command) -> bool:
        if command.opens_connection or next(arrived) != kill_at:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    return kills


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    """One server for all calls: prefixes keep them apart, and it learns the scripts but once."""
    with LocalServer(binary_of("valkey")) as server, FaultProxy(server.address) as proxy:
        theatre = Theatre(server, proxy)
        yield theatre
        theatre.close()


@pytest.mark.guarantee("2.3")
@pytest.mark.parametrize("call", KILLABLE, ids=str)
def test_a_message_is_in_one_place_wherever_its_process_is_killed(
    theatre: Theatre, call: Call
) -> None:
    plays = theatre.play_all(call)

    assert len(plays) > 1, "it issued no command, or was not killed"
    done = plays[-1]
    for kill_at, play in enumerate(plays, start=1):
        assert play.before == done.before
        assert play.after <= done.before | done.after, f"killed at {kill_at}"
        assert play.vanished <= done.vanished, f"killed at {kill_at}"


@pytest.mark.guarantee("2.3")
def test_a_move_between_inboxes_that_was_cut_short_is_finished_by_repeating_it(
    theatre: Theatre,
) -> None:
    """On two servers it takes two steps: between them the message is ready there, dead here."""
    [call] = [call for call in KILLABLE if call.name == "replay-elsewhere"]
    plays = theatre.play_all(call)
    assert any(play.after not in (play.before, plays[-1].after) for play in plays)

    for play in plays:
        with RedisMessageCoordinator.from_url(theatre.url, play.prefix) as other:
            other.replay_dead_letters(INBOX, to=OTHER)

        assert theatre.state(play.prefix) == plays[-1].after
