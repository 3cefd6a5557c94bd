"""Single commands to a server: raw replies, errors of ours, and nothing read twice."""

import pytest

from tests.conftest import OwnServers
from tta_agent_coordination import CoordinationError, CoordinatorUnavailableError
from tta_agent_coordination.transport.console import Console


def test_commands_get_the_replies_that_the_server_sent(own_server: OwnServers) -> None:
    with Console(own_server().url) as console:
        assert console("SET", "key", 7) == b"OK"
        assert console.many([("GET", "key"), ("HGETALL", "none"), ("EXISTS", "key")]) == [
            b"7",
            [],
            1,
        ]


def test_an_error_is_raised_and_the_next_command_works(own_server: OwnServers) -> None:
    with Console(own_server().url) as console:
        with pytest.raises(CoordinationError, match="unknown command"):
            console.many([("NONSENSE",), ("PING",)])
        assert console("ECHO", "mine") == b"mine"


def test_a_server_that_is_away_is_told_apart_and_found_again(own_server: OwnServers) -> None:
    server = own_server()
    with Console(server.url) as console:
        assert console("PING") == b"PONG"
        server.kill()
        with pytest.raises(CoordinatorUnavailableError, match="cannot be reached"):
            console("PING")
        server.start()
        assert console("PING") == b"PONG"
        console.close()
        assert console("PING") == b"PONG"
