"""Connections kept at hand above a pool of redis-py, on a real server."""

from collections.abc import Iterator

import pytest
import redis

from tests.support.backends import Backend
from tta_agent_coordination.transport import ready
from tta_agent_coordination.transport.ready import ReadyPool

pytestmark = pytest.mark.backend("valkey")


@pytest.fixture
def pool(backend: Backend) -> Iterator[ReadyPool]:
    pool = ReadyPool(backend.client().connection_pool)
    yield pool
    pool.disconnect()


def test_a_connection_used_a_moment_ago_is_handed_out_again(pool: ReadyPool) -> None:
    first = pool.get_connection()
    pool.release(first)

    assert pool.get_connection() is first


def test_two_users_at_once_get_two_connections(pool: ReadyPool) -> None:
    assert pool.get_connection() is not pool.get_connection()


def test_one_idle_for_longer_is_checked_first(
    pool: ReadyPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a connection that the server closed while it was idle
    connection = pool.get_connection()
    connection.send_packed_command(connection.pack_command("CLIENT", "ID"))
    number = connection.read_response()
    pool.release(connection)
    admin = redis.Redis(connection_pool=pool.pool)
    admin.client_kill_filter(_id=number)
    admin.close()

    # when it is no longer fresh
    monkeypatch.setattr(ready, "FRESH", 0.0)
    again = pool.get_connection()

    # then it was connected anew before it was handed out
    again.send_packed_command(again.pack_command("PING"))
    assert again.read_response() == b"PONG"
    pool.release(again)


def test_disconnecting_the_idle_ones_leaves_those_in_use(pool: ReadyPool) -> None:
    idle, used = pool.get_connection(), pool.get_connection()
    pool.release(idle)

    pool.disconnect(inuse_connections=False)

    assert idle._sock is None
    assert used._sock is not None
    pool.release(used)


def test_a_retired_pool_cuts_off_who_reads_and_keeps_nothing(pool: ReadyPool) -> None:
    # given an idle connection, one that waits for a reply, and one that is not open
    idle, used, closed = (pool.get_connection() for _ in range(3))
    pool.release(idle)
    used.send_packed_command(used.pack_command("BLPOP", "nothing", 30))
    closed.disconnect()

    pool.retire()

    with pytest.raises(redis.ConnectionError):
        used.read_response()
    used.disconnect()
    pool.release(used)
    assert not pool._at_hand
    assert idle._sock is None
    pool.release(closed)


def test_what_comes_back_to_a_retired_pool_is_closed(pool: ReadyPool) -> None:
    connection = pool.get_connection()
    pool.retire()
    pool.release(connection)
    assert not pool._at_hand
    assert connection._sock is None
