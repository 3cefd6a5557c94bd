"""Addresses of servers as URLs."""

import pytest
import redis

from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.transport.connections import ClusterAddress
from tta_agent_coordination.transport.url import SCHEMES, target_of

pytestmark = pytest.mark.guarantee("2.15")

SECRET = "hunter2-secret"


def settings_of(url: str) -> dict[str, object]:
    target = target_of(url)
    assert isinstance(target, redis.Redis)
    with target:
        return {
            **target.connection_pool.connection_kwargs,
            "class": target.connection_pool.connection_class,
        }


def test_a_url_names_host_port_database_and_login() -> None:
    settings = settings_of("redis://user:p%40ss@example.org:7000/3")
    assert settings["host"] == "example.org"
    assert settings["port"] == 7000
    assert settings["db"] == 3
    assert (settings["username"], settings["password"]) == ("user", "p@ss")


def test_tls_and_unix_sockets_have_schemes() -> None:
    tls = settings_of("rediss://example.org?ssl_cert_reqs=none")
    assert tls["class"] is redis.SSLConnection
    unix = settings_of("unix://user:pass@/tmp/server.sock?db=2")
    assert unix["class"] is redis.UnixDomainSocketConnection
    assert (unix["path"], unix["db"], unix["username"]) == ("/tmp/server.sock", 2, "user")


def test_a_cluster_has_several_nodes() -> None:
    address = target_of(f"redis+cluster://user:{SECRET}@a:7000,b,[::1]:7002?client_name=x")
    assert isinstance(address, ClusterAddress)
    assert address.nodes == (("a", 7000), ("b", 6379), ("::1", 7002))
    assert address.settings["username"] == "user"
    assert address.settings["password"] == SECRET
    assert address.settings["client_name"] == "x"
    assert not {"host", "port", "db", "ssl", "connection_class"} & set(address.settings)
    assert SECRET not in repr(address)


def test_a_cluster_with_tls() -> None:
    address = target_of("rediss+cluster://a:7000,b:7001")
    assert isinstance(address, ClusterAddress)
    assert address.settings["ssl"] is True


@pytest.mark.parametrize(
    "url",
    ["", "redis", "localhost:6379", f":{SECRET}@localhost", f"http://:{SECRET}@localhost",
     f"REDIS//:{SECRET}@localhost", f"user:{SECRET}@host/0", f"redis:/:{SECRET}@localhost",
     f"{SECRET}", f"postgres://user:{SECRET}@host/0"],
)  # fmt: skip
def test_a_url_of_another_kind_is_refused_and_the_kinds_are_listed(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        target_of(url)
    text = str(caught.value)
    assert all(f"{scheme}://" in text for scheme in SCHEMES)
    assert SECRET not in text


@pytest.mark.parametrize(
    "url",
    [f"redis://:{SECRET}@host:notaport/0", f"redis://user:{SECRET}@[::1/0",
     f"redis://:{SECRET}@host?socket_timeout=soon", f"redis+cluster://:{SECRET}@a:70000,b:x",
     f"rediss+cluster://:{SECRET}@a:1,b:99999", f"redis://:{SECRET}@h:{SECRET}/0"],
)  # fmt: skip
def test_a_malformed_url_is_refused_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is malformed") as caught:
        target_of(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_coordinator_shows_its_password() -> None:
    with RedisMessageCoordinator.from_url(f"redis://:{SECRET}@localhost:1/0") as coordinator:
        assert SECRET not in repr(coordinator)
        assert SECRET not in str(coordinator)


def test_a_url_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="url must be a str, not None"):
        RedisMessageCoordinator.from_url(None)
