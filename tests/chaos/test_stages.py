"""Addresses of servers, and what a proxy can stand before."""

import pytest

from tests.conftest import OwnServers
from tta_agent_coordination.chaos.settings import ChaosError
from tta_agent_coordination.chaos.stages import GivenServer, address_of, through


@pytest.mark.parametrize(
    ("url", "address", "proxied"),
    [
        ("redis://host:7000/3", ("host", 7000), "redis://127.0.0.1:9/3"),
        ("redis://user:secret@host", ("host", 6379), "redis://user:secret@127.0.0.1:9"),
        ("redis://host?protocol=3", ("host", 6379), "redis://127.0.0.1:9?protocol=3"),
        ("redis://", ("localhost", 6379), "redis://127.0.0.1:9"),
        ("unix:///tmp/a%20b.sock?db=2", "/tmp/a b.sock", "redis://127.0.0.1:9?db=2"),
    ],
)
def test_a_proxy_is_reached_with_the_same_credentials(
    url: str, address: object, proxied: str
) -> None:
    assert address_of(url) == address
    assert through(url, 9) == proxied


def test_no_proxy_can_stand_before_tls() -> None:
    with pytest.raises(ChaosError, match="not rediss://"):
        address_of("rediss://host")


def test_a_given_server_is_not_searched_for_keys(own_server: OwnServers) -> None:
    with GivenServer(own_server().url) as stage:
        assert stage.console()("PING") == b"PONG"
        assert stage.consoles() == ()
