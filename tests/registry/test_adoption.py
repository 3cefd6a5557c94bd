"""The messages of a dead agent move to others, if that is asked for."""

import pytest

from tests.registry.conftest import Later, Make
from tests.registry.given import ONE, OTHER, THREE, TWO, Plain
from tests.support.servers import Client
from tests.support.time_machine import let_pass
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    AgentRecord,
    CoordinatorUnavailableError,
    LeaseOutcome,
    MessagePriority,
    ReceivedMessage,
    RecoverySummary,
    RedisMessageCoordinator,
)
from tta_agent_coordination.registry.adoption import move_messages

pytestmark = pytest.mark.guarantee("3.1")

SHARED = AgentId("worker")


def send(coordinator: RedisMessageCoordinator, *numbers: int, to: AgentId = ONE) -> None:
    for number in numbers:
        sender = AgentId("sender", str(number // 2))
        message = AgentMessage(sender, to, {"n": number}, headers={"kept": "yes"})
        assert coordinator.send_message(sender, to, message).delivered


def drain(coordinator: RedisMessageCoordinator, agent_id: AgentId) -> list[ReceivedMessage]:
    taken = coordinator.receive_many(agent_id, 1000)
    assert all(coordinator.ack_many(agent_id, [one.token for one in taken]))
    return taken


@pytest.fixture
def dead(make: Make, later: Later) -> None:
    """An agent that is dead."""
    make(heartbeat_ttl_s=10).register(Plain(ONE))
    later(25)


@pytest.mark.usefixtures("dead")
def test_they_move_to_the_inbox_of_the_type(
    make: Make, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, *range(7))
    supervisor = make()
    supervisor.move_messages_of_dead(coordinator)

    assert supervisor.detect_and_recover().moved == 7

    moved = [one.message for one in drain(coordinator, SHARED)]
    assert [one.payload["n"] for one in moved] == list(range(7)), "in their order"
    assert {one.recipient for one in moved} == {SHARED}
    assert [one.sender.instance for one in moved] == list("0011223")
    assert moved[0].headers == {"kept": "yes"}
    assert coordinator.stats(ONE).ready == dict.fromkeys(MessagePriority, 0)
    assert supervisor.detect_and_recover().moved == 0


@pytest.mark.usefixtures("dead")
def test_they_stay_unless_it_is_asked_for(make: Make, coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, 1)
    assert make().detect_and_recover().moved == 0
    assert len(drain(coordinator, ONE)) == 1


@pytest.mark.usefixtures("dead")
def test_they_move_to_the_one_who_is_named(
    make: Make, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, 1)
    supervisor = make()
    supervisor.move_messages_of_dead(coordinator, to=OTHER)
    assert supervisor.detect_and_recover().moved == 1
    assert [one.message.payload["n"] for one in drain(coordinator, OTHER)] == [1]


@pytest.mark.usefixtures("dead")
def test_an_heir_that_is_dead_itself_keeps_its_own(
    make: Make, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, 1)
    supervisor = make()
    supervisor.move_messages_of_dead(coordinator, to=ONE)
    assert supervisor.detect_and_recover().moved == 0
    assert len(drain(coordinator, ONE)) == 1


@pytest.mark.guarantee("3.6")
def test_those_of_an_agent_that_was_ended_move_once_it_would_be_dead(
    make: Make, later: Later, coordinator: RedisMessageCoordinator
) -> None:
    # given an agent that was found, ended long after its registration, and was sent something
    owner, supervisor = make(heartbeat_ttl_s=100), make()
    owner.register(Plain(ONE))
    to = supervisor.pick("worker")
    later(150)
    owner.deregister(ONE)
    send(coordinator, 1, 2, to=to)
    restarted: list[AgentRecord] = []
    supervisor.on_unhealthy(restarted.append)
    supervisor.move_messages_of_dead(coordinator)

    # then it has time to come back
    assert supervisor.detect_and_recover().moved == 0
    later(190)
    assert supervisor.detect_and_recover().moved == 0

    # and after that what waits for it moves, and nobody restarts what was meant to end
    later(11)
    assert supervisor.detect_and_recover() == RecoverySummary(moved=2)
    assert [one.message.payload["n"] for one in drain(coordinator, SHARED)] == [1, 2]
    assert restarted == []


def test_those_of_an_agent_that_came_back_stay(
    make: Make, later: Later, coordinator: RedisMessageCoordinator
) -> None:
    owner, supervisor = make(heartbeat_ttl_s=10), make()
    owner.register(Plain(ONE))
    owner.deregister(ONE)
    later(25)
    owner.register(Plain(ONE))
    send(coordinator, 1)
    supervisor.move_messages_of_dead(coordinator)
    assert supervisor.detect_and_recover() == RecoverySummary(checked=1)
    assert len(drain(coordinator, ONE)) == 1


@pytest.mark.backend("fakeredis")
def test_the_living_and_the_shared_keep_theirs(
    make: Make, later: Later, coordinator: RedisMessageCoordinator
) -> None:
    registry = make(heartbeat_ttl_s=10)
    registry.register(Plain(SHARED))
    registry.register(Plain(ONE))
    registry.register(Plain(TWO))
    later(25, SHARED)
    later(15, TWO)
    for agent_id in (SHARED, ONE, TWO):
        send(coordinator, 1, to=agent_id)
    registry.move_messages_of_dead(coordinator)
    assert registry.detect_and_recover().moved == 0
    for agent_id in (SHARED, ONE, TWO):
        assert len(drain(coordinator, agent_id)) == 1


@pytest.mark.usefixtures("dead")
@pytest.mark.backend("valkey")
def test_what_is_on_lease_or_delayed_moves_later(
    make: Make, coordinator: RedisMessageCoordinator
) -> None:
    send(coordinator, 1, 2)
    taken = coordinator.receive(ONE)
    assert taken is not None
    supervisor = make()
    supervisor.move_messages_of_dead(coordinator)
    assert supervisor.detect_and_recover().moved == 1
    coordinator.release(ONE, taken.token)
    assert supervisor.detect_and_recover().moved == 1


@pytest.mark.usefixtures("dead")
def test_what_finds_no_room_stays_and_no_attempt_is_lost(
    make: Make, coordinator: RedisMessageCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    send(coordinator, *range(5))
    coordinator.configure(queue_size=3)
    supervisor = make()
    supervisor.move_messages_of_dead(coordinator)

    assert supervisor.detect_and_recover().moved == 3

    assert "no room" in caplog.text
    assert [one.message.payload["n"] for one in drain(coordinator, SHARED)] == [0, 1, 2]
    left = drain(coordinator, ONE)
    assert [one.message.payload["n"] for one in left] == [3, 4]
    assert {one.queue_message.delivery_attempts for one in left} == {1}


@pytest.mark.parametrize("handled", [False, True])
def test_a_move_that_was_cut_short_is_taken_up_again(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch, *, handled: bool
) -> None:
    # given a message that was stored there, and not acknowledged here
    send(coordinator, 1)
    with monkeypatch.context() as patched:
        patched.setattr(coordinator, "ack_many", gone)
        patched.setattr("tta_agent_coordination.registry.adoption._VISIBILITY", 0.01)
        with pytest.raises(CoordinatorUnavailableError):
            move_messages(coordinator, ONE, SHARED)
    if handled:
        assert len(drain(coordinator, SHARED)) == 1

    # when it is begun again, once the lease has passed
    eventually(lambda: move_messages(coordinator, ONE, SHARED) == 1)

    # then it is there once
    assert len(drain(coordinator, SHARED)) == int(not handled)
    assert drain(coordinator, ONE) == []


def gone(*_: object) -> list[LeaseOutcome]:
    raise CoordinatorUnavailableError("gone fishing")


def test_each_copy_of_a_broadcast_is_a_message_of_its_own(
    make: Make, later: Later, client: Client, key_prefix: str, coordinator: RedisMessageCoordinator
) -> None:
    # given a message that was broadcast to three agents, all of which are dead
    owner = make(heartbeat_ttl_s=10)
    for agent_id in (ONE, TWO, THREE):
        owner.register(Plain(agent_id))
    later(25)
    sender = AgentId("sender")
    message = AgentMessage(sender, ONE, {"n": 1})
    coordinator.broadcast_message(sender, message, [ONE, TWO, THREE])
    supervisor = make()
    supervisor.move_messages_of_dead(coordinator)

    # then the shared inbox takes one of an id at a time, and the others stay where they are
    moved: list[int] = []
    for _ in range(3):
        moved += [supervisor.detect_and_recover().moved for _ in range(2)]
        assert len(drain(coordinator, SHARED)) == 1
        let_pass(client, key_prefix, SHARED, 61.0)
    assert moved == [1, 0] * 3
    assert supervisor.detect_and_recover().moved == 0
    assert not any(coordinator.internals.held(agent_id) for agent_id in (ONE, TWO, THREE))


def test_a_copy_that_stays_keeps_its_attempts_and_its_place(
    coordinator: RedisMessageCoordinator,
) -> None:
    sender = AgentId("sender")
    coordinator.broadcast_message(sender, AgentMessage(sender, ONE, {"n": 0}), [ONE, SHARED])
    send(coordinator, *range(1, 4))
    assert [move_messages(coordinator, ONE, SHARED) for _ in range(5)] == [3, 0, 0, 0, 0]
    send(coordinator, 4)
    left = drain(coordinator, ONE)
    assert [one.message.payload["n"] for one in left] == [0, 4]
    assert {one.queue_message.delivery_attempts for one in left} == {1}
    assert len(drain(coordinator, SHARED)) == 4


@pytest.mark.backend("fakeredis")
def test_what_cannot_be_given_back_is_left_to_its_lease(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = AgentId("sender")
    coordinator.broadcast_message(sender, AgentMessage(sender, ONE, {"n": 0}), [ONE, SHARED])
    monkeypatch.setattr(coordinator, "release", gone)
    assert move_messages(coordinator, ONE, SHARED) == 0
    assert coordinator.stats(ONE).leased == 1


@pytest.mark.backend("fakeredis", "valkey", "cluster")
def test_many_move_in_order(coordinator: RedisMessageCoordinator) -> None:
    send(coordinator, *range(250))
    assert move_messages(coordinator, ONE, SHARED) == 250
    assert [one.message.payload["n"] for one in drain(coordinator, SHARED)] == list(range(250))


@pytest.mark.backend("fakeredis")
def test_a_flood_of_new_messages_does_not_keep_it_for_ever(
    coordinator: RedisMessageCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tta_agent_coordination.registry.adoption._A_STEP", 1)
    monkeypatch.setattr("tta_agent_coordination.registry.adoption._STEPS", 3)
    send(coordinator, *range(5))
    assert move_messages(coordinator, ONE, SHARED) == 3


@pytest.mark.usefixtures("dead")
@pytest.mark.backend("valkey")
def test_a_server_that_is_away_is_named_and_the_round_goes_on(
    make: Make, client: Client, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(RedisMessageCoordinator):
        def receive_many(self, *_: object, **__: object) -> list[ReceivedMessage]:
            raise CoordinatorUnavailableError("gone fishing")

    with Away(client, key_prefix) as coordinator:
        supervisor = make()
        supervisor.move_messages_of_dead(coordinator)
        summary = supervisor.detect_and_recover()
    assert (summary.unhealthy, summary.moved) == ((ONE,), 0)
    assert "gone fishing" in caplog.text


@pytest.mark.backend("fakeredis")
def test_whoever_cannot_move_messages_is_refused(
    make: Make, coordinator: RedisMessageCoordinator
) -> None:
    with pytest.raises(TypeError, match="coordinator"):
        make().move_messages_of_dead(object())
    with pytest.raises(TypeError, match="to must be"):
        make().move_messages_of_dead(coordinator, to="worker")
