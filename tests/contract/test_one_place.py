"""A message is in exactly one place after every move, and every move is one step."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.contract.conftest import Later, Make, Raw
from tests.contract.given import FAILED, LONG, ONE, SENDER, WORKER, message, send, take
from tests.support.backends import Backend
from tests.support.raw_inbox import places_of
from tta_agent_coordination import MessageType, RedisMessageCoordinator
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("2.3")


class Move(NamedTuple):
    """A move of one message, from where it was sent."""

    name: str
    do: Callable[[RedisMessageCoordinator, Later], object]
    ends_in: list[str]


def _taken(act: Callable[[RedisMessageCoordinator, str], object]) -> Callable[..., object]:
    return lambda coordinator, _later: act(coordinator, take(coordinator).token)


def _after_expiry(act: Callable[[RedisMessageCoordinator, str], object]) -> Callable[..., object]:
    def do(coordinator: RedisMessageCoordinator, later: Later) -> object:
        token = take(coordinator, lease=10).token
        later(11)
        return act(coordinator, token)

    return do


def _recovered(act: Callable[[RedisMessageCoordinator, str], object]) -> Callable[..., object]:
    return _after_expiry(lambda c, token: (c.recover_pending(WORKER), act(c, token)))


def _replayed(coordinator: RedisMessageCoordinator, _later: Later) -> object:
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    return coordinator.replay_dead_letters(WORKER)


def _dropped(coordinator: RedisMessageCoordinator, _later: Later) -> object:
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    return coordinator.purge_dead_letters(WORKER)


def _promoted(coordinator: RedisMessageCoordinator, later: Later) -> object:
    coordinator.nack(WORKER, take(coordinator).token, delay=10)
    later(11)
    return coordinator.recover_pending(WORKER)


MOVES = [
    Move("send", lambda *_: None, ["ready"]),
    Move("receive", _taken(lambda *_: None), ["leased"]),
    Move("ack", _taken(lambda c, token: c.ack(WORKER, token)), []),
    Move("nack", _taken(lambda c, token: c.nack(WORKER, token)), ["delayed"]),
    Move("nack at once", _taken(lambda c, token: c.nack(WORKER, token, delay=0)), ["ready"]),
    Move("nack for ever", _taken(lambda c, token: c.nack(WORKER, token, FAILED)), ["dead"]),
    Move("release", _taken(lambda c, token: c.release(WORKER, token)), ["ready"]),
    Move("extend", _taken(lambda c, token: c.extend(WORKER, token, 5)), ["leased"]),
    Move("expire", _after_expiry(lambda c, _: c.recover_pending(WORKER)), ["ready"]),
    Move("hand out again", _after_expiry(lambda c, _: take(c)), ["leased"]),
    Move("late ack", _after_expiry(lambda c, token: c.ack(WORKER, token)), []),
    Move("late nack", _after_expiry(lambda c, token: c.nack(WORKER, token)), ["delayed"]),
    Move("late release", _after_expiry(lambda c, token: c.release(WORKER, token)), ["ready"]),
    Move("late extend", _after_expiry(lambda c, token: c.extend(WORKER, token, 5)), ["leased"]),
    Move("ack of what was moved back", _recovered(lambda c, token: c.ack(WORKER, token)), []),
    Move("nack of it", _recovered(lambda c, token: c.nack(WORKER, token)), ["delayed"]),
    Move("its end", _recovered(lambda c, token: c.nack(WORKER, token, FAILED)), ["dead"]),
    Move("release of it", _recovered(lambda c, token: c.release(WORKER, token)), ["ready"]),
    Move("extend of it", _recovered(lambda c, token: c.extend(WORKER, token, 5)), ["leased"]),
    Move("promote", _promoted, ["ready"]),
    Move("replay", _replayed, ["ready"]),
    Move("drop a dead letter", _dropped, []),
    Move("purge", lambda c, _: c.purge(WORKER), []),
    Move("purge of a lease", _taken(lambda c, _: c.purge(WORKER)), []),
]


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.name)
def test_after_each_move_the_message_is_in_one_place(
    coordinator: RedisMessageCoordinator, later: Later, raw: Raw, move: Move
) -> None:
    [sent] = send(coordinator, 1)

    move.do(coordinator, later)

    inbox = raw()
    assert list(inbox.faults()) == []
    assert places_of(inbox, sent.message_id) == move.ends_in


def test_what_dies_of_its_last_lease_is_in_one_place(make: Make, later: Later, raw: Raw) -> None:
    coordinator = make(retry_attempts=0)
    [sent] = send(coordinator, 1)
    take(coordinator, lease=10)
    later(11)
    assert coordinator.receive(WORKER) is None
    assert places_of(raw(), sent.message_id) == ["dead"]
    assert list(raw().faults()) == []


STEPS: dict[str, Callable[[RedisMessageCoordinator, list[str]], object]] = {
    "send_message": lambda c, _: c.send_message(SENDER, WORKER, message()),
    "send_many": lambda c, _: c.send_many(SENDER, [message(n) for n in range(100)]),
    "broadcast_message": lambda c, _: c.broadcast_message(SENDER, message(), [WORKER]),
    "receive": lambda c, _: c.receive(WORKER, LONG),
    "receive_many": lambda c, _: c.receive_many(WORKER, 1000, LONG),
    "ack": lambda c, tokens: c.ack(WORKER, tokens[0]),
    "ack_many": lambda c, tokens: c.ack_many(WORKER, tokens),
    "nack": lambda c, tokens: c.nack(WORKER, tokens[0]),
    "nack for ever": lambda c, tokens: c.nack(WORKER, tokens[0], FAILED),
    "extend": lambda c, tokens: c.extend(WORKER, tokens[0], LONG),
    "release": lambda c, tokens: c.release(WORKER, tokens[0]),
    "recover_pending": lambda c, _: c.recover_pending(WORKER),
    "stats": lambda c, _: c.stats(WORKER),
    "purge": lambda c, _: c.purge(WORKER),
    "dead_letters": lambda c, _: c.dead_letters(WORKER),
    "replay_dead_letters": lambda c, _: c.replay_dead_letters(WORKER, message_ids=["no-such"]),
    "purge_dead_letters": lambda c, _: c.purge_dead_letters(WORKER),
}


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("name", STEPS)
def test_each_operation_is_one_command(
    backend: Backend, proxy: FaultProxy, key_prefix: str, name: str
) -> None:
    with RedisMessageCoordinator(backend.client_through(proxy), key_prefix) as coordinator:
        coordinator.send_many(SENDER, [message(n) for n in range(20)])
        tokens = [each.token for each in coordinator.receive_many(WORKER, 5, LONG)]
        STEPS[name](coordinator, tokens)  # the server learns the script
        coordinator.send_many(SENDER, [message(n) for n in range(20)])
        tokens = [each.token for each in coordinator.receive_many(WORKER, 5, LONG)]
        proxy.forget()

        STEPS[name](coordinator, tokens)

        assert [command.name for command in proxy.commands] == ["EVALSHA"]


@pytest.mark.backend("valkey")
def test_subscribing_and_unsubscribing_are_one_command_each(
    backend: Backend, proxy: FaultProxy, key_prefix: str
) -> None:
    with RedisMessageCoordinator(backend.client_through(proxy), key_prefix) as coordinator:
        subscription = coordinator.subscribe_to_messages(ONE, [MessageType.EVENT])
        coordinator.unsubscribe(subscription)
    assert [command.name for command in proxy.commands] == ["HSET", "HDEL"]
