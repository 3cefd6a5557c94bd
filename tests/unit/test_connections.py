"""When two targets lead to the same data."""

import fakeredis
import pytest
import redis
from redis.sentinel import Sentinel

from tta_agent_coordination.transport.connections import ClusterAddress, place_of

URLS = (
    "redis://one:6379/0",
    "redis://two:6379/0",
    "redis://one:6380/0",
    "redis://one:6379/1",
    "redis://user:word@one:6379/0",
    "unix:///one.sock",
    "unix:///two.sock?db=1",
)


def test_two_clients_of_one_address_lead_to_the_same() -> None:
    for url in URLS:
        one, other = redis.Redis.from_url(url), redis.Redis.from_url(url, socket_timeout=1.0)
        assert place_of(one) == place_of(other)
    assert place_of(redis.Redis()) == place_of(redis.Redis.from_url("redis://localhost"))


def test_clients_of_different_addresses_databases_or_users_do_not() -> None:
    assert len({place_of(redis.Redis.from_url(url)) for url in URLS}) == len(URLS)


def test_fake_clients_lead_to_the_same_if_their_server_is_one() -> None:
    server = fakeredis.FakeServer()
    places = [place_of(fakeredis.FakeRedis(server=server, db=db)) for db in (0, 0, 1)]
    assert places[0] == places[1] != places[2]
    assert place_of(fakeredis.FakeRedis(server=fakeredis.FakeServer())) not in places
    assert place_of(fakeredis.FakeRedis()) != place_of(fakeredis.FakeRedis())


def test_a_cluster_is_known_by_its_nodes() -> None:
    one, other = ("one", 1), ("two", 2)
    assert place_of(ClusterAddress((one, other))) == place_of(ClusterAddress((other, one)))
    assert place_of(ClusterAddress((one,))) != place_of(ClusterAddress((other,)))


@pytest.mark.parametrize("kind", ["sentinel", "unknown"])
def test_what_is_known_in_another_way_leads_nowhere_else(kind: str) -> None:
    target = Sentinel([("one", 1)]).master_for("name") if kind == "sentinel" else object()
    assert place_of(target) != place_of(target)
