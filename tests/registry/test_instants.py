"""What the scripts of the registry store and answer, to the microsecond: the clock stands still."""

from typing import Any

import pytest

from tests.support.servers import Client
from tests.support.stopped_clock import START, Clock
from tta_agent_coordination.keys import Keys
from tta_agent_coordination.transport import scripts
from tta_agent_coordination.transport.scripts import Script

pytestmark = [pytest.mark.guarantee("3.3"), pytest.mark.backend("fakeredis", "sandbox")]

GRACE = 5_000_000
"""Microseconds."""


class Agents:
    """Registrations as the scripts know them; each method runs one."""

    def __init__(self, client: Client, keys: dict[str, str]) -> None:
        self.client, self.keys = client, keys

    def register(self, name: str = "a", state: str = "", grace: int = GRACE) -> list[int]:
        answer = self._run(scripts.AGENTS_REGISTER, name, "body", state, grace)
        return [int(each) for each in answer]

    def beat(self, *beats: tuple[str, int, str]) -> list[int]:
        words = [word for name, epoch, state in beats for word in (name, epoch, "beaten", state)]
        return self._run(scripts.AGENTS_BEAT, GRACE, *words)

    def remove(self, epoch: int, call: str, name: str = "a", state: str = "") -> int:
        return self._run(scripts.AGENTS_REMOVE, name, epoch, state, GRACE, call)

    @property
    def records(self) -> dict[str, str]:
        return self._hash("records")

    @property
    def states(self) -> dict[str, str]:
        return self._hash("states")

    @property
    def ends(self) -> dict[str, int]:
        found = self.client.zrange(self.keys["ends"], 0, -1, withscores=True)
        return {name.decode(): int(end) for name, end in found}

    def _hash(self, key: str) -> dict[str, str]:
        found = self.client.hgetall(self.keys[key])
        return {name.decode(): value.decode() for name, value in found.items()}

    def _run(self, script: Script, *words: str | int) -> Any:
        keys = [self.keys[name] for name in script.keys]
        return self.client.eval(script.source, len(keys), *keys, *words)


@pytest.fixture
def agents(client: Client, key_prefix: str) -> Agents:
    return Agents(client, Keys(key_prefix).agents)


def test_a_registration_is_stored_with_its_epoch_its_beat_and_its_end(
    agents: Agents, clock: Clock
) -> None:
    assert agents.register() == [START, START]
    assert agents.records == {"a": f"{START} {START} body"}
    assert (agents.states, agents.ends) == ({}, {"a": START + GRACE})
    clock.now += 7
    assert agents.register("b", state="{}") == [START + 7, START + 7]
    assert (agents.states, agents.ends["b"]) == ({"b": "{}"}, START + 7 + GRACE)


@pytest.mark.parametrize("back", [0, 1, 1_000_000])
def test_epochs_grow_though_the_clock_stands_or_is_set_back(
    agents: Agents, clock: Clock, back: int
) -> None:
    epochs: list[int] = []
    for _ in range(3):
        epochs.append(agents.register()[0])
        clock.now -= back
    assert epochs == [START, START + 1, START + 2]


def test_a_beat_counts_unless_a_later_registration_has_taken_over(
    agents: Agents, clock: Clock
) -> None:
    agents.register("a", state="old")
    agents.register("b")
    clock.now += 9
    beats = ("a", START - 1, "refused"), ("b", START, ""), ("c", START, "new"), ("a", START + 1, "")
    assert agents.beat(*beats) == [0, 1, 1, 1]
    assert agents.records == {
        "a": f"{START + 1} {START + 9} beaten",
        "b": f"{START} {START + 9} beaten",
        "c": f"{START} {START + 9} beaten",
    }
    assert agents.states == {"a": "old", "c": "new"}
    assert agents.ends == dict.fromkeys("abc", START + 9 + GRACE)
    assert agents.beat(("a", START, "")) == [0]


def test_an_end_is_final_for_its_registration_and_those_before(
    agents: Agents, clock: Clock
) -> None:
    agents.register()
    clock.now += 3
    assert agents.remove(START, "one", state="last") == 1
    ended = {"a": f"{START} - one {START + 3} body"}
    assert agents.records == ended
    assert (agents.states, agents.ends) == ({"a": "last"}, {"a": START + 3 + GRACE})
    clock.now += 1
    assert agents.remove(START, "one") == 1, "a copy"
    assert agents.remove(START, "two") == agents.remove(0, "two") == 0, "it is ended"
    assert agents.beat(("a", START, ""), ("a", START - 1, "")) == [0, 0]
    assert agents.records == ended
    assert agents.beat(("a", START + 1, "")) == [1]


def test_only_the_latest_registration_is_ended_unless_any_is_meant(agents: Agents) -> None:
    assert agents.remove(0, "any") == 0, "there is none"
    assert agents.records == {}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("epoch", "ended"), [(-1, None), (0, 0), (1, 1), (None, 0)])
def test_an_end_is_that_of_its_epoch_or_a_later_one(
    agents: Agents, epoch: int | None, ended: int | None
) -> None:
    agents.register()
    answer = agents.remove(0 if epoch is None else START + epoch, "call")
    assert answer == int(ended is not None)
    expected = f"{START} {START} body" if ended is None else f"{START + ended} - call {START} body"
    assert agents.records == {"a": expected}


@pytest.mark.usefixtures("clock")
def test_what_the_server_had_forgotten_is_ended_all_the_same(agents: Agents) -> None:
    assert agents.remove(START, "call") == 1
    assert agents.records == {"a": f"{START} - call {START}"}
    assert agents.register() == [START + 1, START]


def test_a_registration_is_forgotten_when_its_grace_time_ends_and_not_before(
    agents: Agents, clock: Clock
) -> None:
    agents.register("a", state="{}")
    clock.now += GRACE - 1
    agents.register("b")
    assert sorted(agents.records) == ["a", "b"]
    clock.now += 1
    agents.beat(("b", START + GRACE - 1, ""))
    assert (list(agents.records), agents.states, list(agents.ends)) == (["b"], {}, ["b"])


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("longer", [0, 60_000_000])
def test_the_keys_live_a_moment_longer_than_the_last_registration(
    agents: Agents, longer: int
) -> None:
    agents.register("long", state="{}", grace=GRACE + longer)
    agents.register("short")
    least = (GRACE + longer) // 1000
    assert {
        least <= agents.client.pttl(key) <= least + 2 for key in agents.keys.values()
    } == {True}  # fmt: skip
