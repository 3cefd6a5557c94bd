"""What to look at when nothing has ever answered at an address."""

import socket

import pytest
import redis

from tta_agent_coordination.transport.advice import Contact

pytestmark = pytest.mark.guarantee("2.13")

CLOSED = redis.ConnectionError("Connection closed by server.")


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        (False, "if that port speaks TLS, give rediss:// (a client: ssl=True)"),
        (True, "if that port has no TLS, give redis:// (a client: ssl=False)"),
    ],
)
def test_the_other_way_of_speaking_is_advised(tls: bool, says: str) -> None:
    told = Contact().told(CLOSED, tls=tls)
    assert told.startswith("Connection closed by server; nothing has answered at this address yet")
    assert told.endswith(says)


def test_a_server_by_itself_is_no_cluster() -> None:
    error = redis.RedisClusterException("Cluster mode is not enabled on this node")
    told = Contact().told(error, tls=False)
    assert told.startswith(f"{error}: it is a server by itself, so give redis://")
    assert Contact(made=True).told(error, tls=False) == str(error)


def test_nothing_is_advised_once_something_has_answered() -> None:
    contact = Contact()
    contact.made = True
    assert contact.told(CLOSED, tls=True) == str(CLOSED)


def test_nothing_is_advised_where_there_is_no_tls() -> None:
    assert Contact().told(CLOSED, tls=None) == str(CLOSED)


@pytest.mark.parametrize("cause", [ConnectionRefusedError("no"), socket.gaierror("unknown")])
def test_nothing_is_advised_when_nobody_was_there(cause: Exception) -> None:
    error = redis.ConnectionError("it failed")
    error.__cause__ = cause
    assert Contact().told(error, tls=False) == "it failed"
