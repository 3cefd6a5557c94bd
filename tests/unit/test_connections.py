"""When two targets lead to the same data."""

import fakeredis
import redis
from redis.sentinel import Sentinel

from tta_agent_coordination.transport.connections import ClusterAddress, place_of
from tta_agent_coordination.transport.url import target_of

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


def test_a_primary_is_known_by_its_sentinels_and_its_name() -> None:
    sentinels = Sentinel([("one", 1), ("two", 2)])
    from_url = target_of("redis+sentinel://two:2,one:1/name")

    assert place_of(sentinels.master_for("name")) == place_of(from_url)
    assert place_of(sentinels.master_for("name", db=1)) != place_of(from_url)
    assert place_of(sentinels.master_for("other")) != place_of(from_url)


def test_what_is_no_target_leads_nowhere_else() -> None:
    assert place_of(object()) != place_of(object())
