"""Others may use the same server: nothing of theirs is touched or even looked at."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.crc import key_slot

from tests.conftest import OwnServers
from tests.contract.conftest import Later, Make
from tests.contract.given import (
    FAILED,
    LONG,
    ONE,
    PATIENCE,
    SENDER,
    WORKER,
    InBackground,
    drain,
    message,
    send,
    take,
)
from tests.support.backends import REAL_BACKENDS, Backend
from tests.support.servers import Client
from tta_agent_coordination import AgentId, ReceivedMessage, RedisMessageCoordinator
from tta_agent_coordination.keys import INBOX_KEYS, Keys
from tta_agent_coordination.proxy import FaultProxy

pytestmark = pytest.mark.guarantee("2.15")

PREFIX = "mine:in/use_1.0-b"


def use_everything(coordinator: RedisMessageCoordinator) -> None:
    """Call every method, so that every command is issued."""
    subscription = coordinator.subscribe_to_messages(ONE, ["event"], topics=["a*"])
    coordinator.publish(SENDER, message())
    coordinator.unsubscribe(subscription)
    coordinator.broadcast_message(SENDER, message(), [WORKER, ONE])
    coordinator.send_many(SENDER, [message(n, to=to) for n in range(6) for to in (WORKER, ONE)])
    coordinator.send_message(SENDER, WORKER, message(), delay=0.01)
    first, second, third, *rest = coordinator.receive_many(WORKER, 6, LONG)
    coordinator.extend(WORKER, first.token, LONG)
    coordinator.ack(WORKER, first.token)
    coordinator.nack(WORKER, second.token, delay=0)
    coordinator.nack(WORKER, third.token, FAILED, "gone")
    coordinator.release(WORKER, rest[0].token)
    coordinator.ack_many(WORKER, [each.token for each in rest[1:]])
    coordinator.dead_letters(WORKER)
    coordinator.replay_dead_letters(WORKER, message_ids=[third.message.message_id])
    coordinator.nack(WORKER, take(coordinator).token, FAILED)
    coordinator.replay_dead_letters(WORKER, to=ONE)
    coordinator.purge_dead_letters(WORKER, message_ids=["no-such"])
    coordinator.purge_dead_letters(WORKER)
    coordinator.recover_pending(WORKER)
    coordinator.recover_pending()
    coordinator.stats(WORKER)
    for inbox in (WORKER, ONE):
        coordinator.purge(inbox)
        coordinator.receive(inbox, wait=0.02)


ALLOWED = {
    "EVALSHA", "SCRIPT", "BZPOPMIN", "ZPOPMIN", "TIME", "EXISTS", "DEL", "UNLINK", "GET", "INCR",
    "INCRBY", "RENAME", "PEXPIRE", "PTTL",
    "HGET", "HSET", "HDEL", "HLEN", "HEXISTS", "HMGET", "HVALS",
    "ZADD", "ZREM", "ZCARD", "ZCOUNT", "ZSCORE", "ZRANGE", "ZRANGEBYSCORE",
}  # fmt: skip
"""Commands of which each concerns the keys it names, and no others."""

OPENING = {"HELLO", "CLIENT", "SELECT", "AUTH", "PING", "INFO", "MONITOR"}
KEYLESS = {"TIME", "SCRIPT"} | OPENING
ALL_KEYS = {"DEL", "UNLINK", "EXISTS", "RENAME"}


def keys_of(name: str, words: list[str]) -> list[str]:
    """The keys that a command names."""
    if name in KEYLESS:
        return []
    if name == "EVALSHA":
        return words[2 : 2 + int(words[1])]
    return words if name in ALL_KEYS else words[:1]


def test_every_command_on_the_server_names_only_our_keys(own_server: OwnServers) -> None:
    server = own_server()
    with (
        server.client() as watcher,
        watcher.monitor() as monitor,
        RedisMessageCoordinator(server.client(), PREFIX) as coordinator,
    ):
        use_everything(coordinator)
        server.admin.echo("the-end")
        seen: list[tuple[str, list[str]]] = []
        for line in iter(monitor.next_command, None):
            name, *words = [
                word.encode().decode("unicode_escape")
                for word in re.findall(r'(?:[^\s"]+)|"(?:\\.|[^"\\])*"', line["command"])
            ]
            if name == "ECHO":
                break
            seen.append((name.upper(), words))

    names = {name for name, _ in seen}
    assert names <= ALLOWED | OPENING, names - ALLOWED
    assert {"EVALSHA", "HVALS", "BZPOPMIN", "HDEL", "ZADD"} <= names
    strangers = [
        (name, key) for name, words in seen for key in keys_of(name, words) if not ours(key)
    ]
    assert strangers == []


def ours(key: str) -> bool:
    return key.startswith(f"{PREFIX}:")


def test_the_keys_of_others_are_as_they_were(make: Make, backend: Backend, client: Client) -> None:
    theirs = [
        "test-a",
        "test-x",
        "test-x:{worker}:messages",
        "test-x:inn:{worker}:messages",
        "inboxes",
    ]
    for key in theirs:
        client.hset(key, "field", "theirs")

    use_everything(make("test-x:in"))

    for key in theirs:
        assert client.hgetall(key) == {b"field": b"theirs"}
    found = {key.decode() for key in backend.keys("*")}
    assert {key for key in found if not key.startswith("test-x:in:")} == set(theirs)
    backend.delete_keys()


def test_two_prefixes_do_not_see_each_other(backend: Backend, make: Make, later: Later) -> None:
    mine, other = make(), make("test-other")
    send(mine, 1)
    send(other, 2)
    mine.subscribe_to_messages(WORKER, ["event"])
    assert other.publish(SENDER, message()) == []
    assert drain(other) == [2]
    assert drain(mine, lease=10) == [1]
    later(11)
    assert other.recover_pending() == 0
    assert mine.recover_pending() == 1
    other.purge(WORKER)
    assert drain(mine) == [1]
    backend.delete_keys("test-other*")


AGENTS = ["a", "worker:1", "x" * 128 + ":" + "y" * 128, "-:.", "0:0"]


@pytest.mark.parametrize("prefix", ["tta-coord", "a:b:c", "/", "."])
def test_all_keys_of_an_inbox_share_one_slot(prefix: str) -> None:
    slots = set[int]()
    for name in AGENTS:
        keys = Keys(prefix).inbox(AgentId.parse(name))
        assert set(keys) == set(INBOX_KEYS)
        assert all(key.startswith(f"{prefix}:") for key in keys.values())
        [slot] = {key_slot(key.encode()) for key in keys.values()}
        slots.add(slot)
    assert len(slots) > 1


def test_no_two_inboxes_share_a_key() -> None:
    agents = ["a", "b", "a:b", "b:a", "a:ready", "ready", "a.b", "inboxes", "subscriptions"]
    keys = [key for name in agents for key in Keys("p").inbox(AgentId.parse(name)).values()]
    keys += [Keys("p").inboxes, Keys("p").subscriptions]
    assert len(set(keys)) == len(keys)


@pytest.mark.backend("cluster")
def test_inboxes_of_a_cluster_are_on_several_nodes(
    make: Make, client: Client, key_prefix: str
) -> None:
    coordinator = make()
    agents = [AgentId("worker", str(n)) for n in range(12)]
    nodes = {client.get_node_from_key(Keys(key_prefix).inbox(agent)["ready"]) for agent in agents}
    assert len(nodes) == 3
    results = coordinator.send_many(SENDER, [message(n % 3, to=agents[n % 12]) for n in range(240)])
    assert all(result.delivered for result in results)
    for place, agent in enumerate(agents):
        assert drain(coordinator, agent) == [place % 3] * 20
    assert coordinator.recover_pending() == 0


@contextmanager
def restricted(server: OwnServers) -> Iterator[redis.Redis]:
    """A client whose user may touch keys under the prefix only, and not a dangerous command."""
    own = server()
    own.admin.execute_command(
        "ACL", "SETUSER", "agent", "on", ">secret", f"~{PREFIX}:*",
        "+@all", "-@dangerous", "-@admin", "+info",
    )  # fmt: skip
    with own.client(username="agent", password="secret") as client:
        yield client


def test_a_user_with_no_rights_but_to_our_keys_can_do_everything(own_server: OwnServers) -> None:
    with restricted(own_server) as client, RedisMessageCoordinator(client, PREFIX) as coordinator:
        use_everything(coordinator)


@pytest.mark.backend("valkey", "redis62")
def test_a_server_that_forgets_its_scripts_is_told_again(
    backend: Backend, key_prefix: str, proxy: FaultProxy
) -> None:
    with RedisMessageCoordinator(backend.client_through(proxy), key_prefix) as coordinator:
        coordinator.subscribe_to_messages(ONE, ["event"])
        for _ in range(3):
            backend.client().script_flush()
            coordinator.send_many(
                SENDER, [message(n, to=to) for n in range(3) for to in (WORKER, ONE)]
            )
            backend.client().script_flush()
            for received in coordinator.receive_many(WORKER, 3, LONG):
                assert coordinator.ack(WORKER, received.token)
    assert proxy.count("SCRIPT") >= 3


@pytest.mark.backend(*REAL_BACKENDS)
def test_a_forgotten_script_does_not_end_a_wait(backend: Backend, make: Make) -> None:
    coordinator, sender = make(), make()
    with InBackground(lambda: take_waiting(coordinator)) as answer:
        for number in range(3):
            backend.client().script_flush()
            send(sender, number, to=ONE)
        send(sender, 5)
        assert answer().message.payload == {"n": 5}


def take_waiting(coordinator: RedisMessageCoordinator) -> ReceivedMessage | None:
    return coordinator.receive(WORKER, LONG, wait=PATIENCE)
