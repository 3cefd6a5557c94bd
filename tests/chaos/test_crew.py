"""Processes that are started for a run: they begin, end, are killed, and leave nobody behind."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import OwnServers
from tests.support.waiting import eventually
from tta_agent_coordination.chaos import crew as crew_module
from tta_agent_coordination.chaos.crew import Crew
from tta_agent_coordination.chaos.history import read_all
from tta_agent_coordination.chaos.settings import ChaosError

PREFIX = "crew"


@pytest.fixture
def crew(own_server: OwnServers, tmp_path: Path) -> Iterator[Crew]:
    """A crew without members, on a server of the test's own."""
    with Crew(own_server().url, PREFIX, tmp_path, random.Random(1)) as crew:
        yield crew


def writers(folder: Path) -> set[str]:
    return {event.process for event in read_all(folder)}


def is_gone(group: int) -> bool:
    """Whether nobody of a process group is left, not even as a zombie."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_members_begin_work_and_end_when_told(crew: Crew, tmp_path: Path) -> None:
    names = {crew.add(role).name for role in ("produce", "consume", "serve")}
    crew.await_begin()
    eventually(lambda: writers(tmp_path) == names)

    assert crew.end("produce") == []
    assert [member.role for member in crew.members] == ["consume", "serve"]
    assert crew.end("consume", "serve") == []
    assert crew.members == []


def test_settings_with_their_password_are_gone_once_they_are_read(
    crew: Crew, tmp_path: Path
) -> None:
    crew.add("produce").await_begin()

    assert list(tmp_path.glob("*.json")) == []


def test_a_member_that_does_not_begin_says_why(tmp_path: Path) -> None:
    with Crew("http://nowhere", PREFIX, tmp_path, random.Random(1)) as crew:
        member = crew.add("produce")

        with pytest.raises(ChaosError, match=r"produce0 did not begin: (?s:.*)ConfigurationError"):
            member.await_begin()


def test_a_member_that_fails_is_told_with_its_last_words(crew: Crew) -> None:
    member = crew.add("juggle")
    member.await_begin()
    eventually(lambda: "KeyError" in member.last_words)

    [complaint] = crew.end("juggle")

    assert complaint.startswith("process juggle0 ended with status ")
    assert complaint.endswith("KeyError: 'juggle'")
    member.stop()  # it is not there any more, which does no harm


def test_a_member_that_does_not_end_is_killed(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "END_TIMEOUT", 0.1)
    member = crew.add("produce")
    member.await_begin()
    member.stop()

    assert crew.end("produce") == ["process produce0 did not end when it was told to: "]
    eventually(lambda: is_gone(member.pid))


def test_a_forked_member_goes_on_beside_the_other_and_ends_with_it(
    crew: Crew, tmp_path: Path
) -> None:
    for role in ("produce", "consume"):
        crew.add(role)
    crew.await_begin()
    for _ in range(4):  # it forks twice at most
        for member in crew.members:
            member.signal(signal.SIGUSR1)
        eventually(lambda: len(writers(tmp_path)) >= 4)
    names = ("produce0", "produce0+0", "produce0+1", "consume1", "consume1+0", "consume1+1")

    eventually(lambda: writers(tmp_path) == set(names))
    groups = [member.pid for member in crew.members]

    assert crew.end("produce", "consume") == []
    eventually(lambda: all(map(is_gone, groups)))


def test_whoever_is_killed_takes_with_it_what_it_forked(crew: Crew, tmp_path: Path) -> None:
    victim = crew.add("produce")
    victim.await_begin()
    victim.signal(signal.SIGUSR1)
    eventually(lambda: "produce0+0" in writers(tmp_path))

    successor = crew.replace(victim, clock=1.0)
    successor.await_begin()

    eventually(lambda: is_gone(victim.pid))
    assert crew.killed == {"produce0"}
    assert (successor.name, successor.role) == ("produce1", "produce")


def test_how_long_somebody_slept_is_noted(crew: Crew, tmp_path: Path) -> None:
    sleeper = crew.add("produce")
    eventually(lambda: writers(tmp_path))
    since = crew.suspend(sleeper)
    crew.resume(sleeper, since)

    [stop] = crew.stops
    assert stop.process == "produce0"
    assert stop.begin == since <= stop.end
    assert crew.end("produce") == []


STARTS = """
import random, signal, sys
from pathlib import Path
from tta_agent_coordination.chaos.crew import Crew
crew = Crew(sys.argv[1], "crew", Path(sys.argv[2]), random.Random(1))
member = crew.add("produce")
member.await_begin()
member.stop()
print(member.pid, flush=True)
sys.stdin.read()
"""


def test_members_die_with_a_parent_that_is_killed_even_when_they_are_stopped(
    own_server: OwnServers, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STARTS, own_server().url, tmp_path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        assert not is_gone(group)
        parent.kill()

    eventually(lambda: is_gone(group))
