"""Addresses of servers as URLs."""

import pytest
import redis

from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.transport.cluster import ClusterAddress
from tta_agent_coordination.transport.sentinel import SentinelAddress
from tta_agent_coordination.transport.url import FORMS, SCHEMES, target_of

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


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://", "host 1 is missing"),
        ("redis://:6379/0", "host 1 is missing"),
        (f"redis://:{SECRET}@/0", "host 1 is missing"),
        ("redis+cluster://a:1,,b:2", "host 2 is missing"),
        ("redis+sentinel://a,/name", "host 2 is missing"),
        ("redis://host:70000", "port of host 1 is no number from 1 to 65535"),
        (f"redis+cluster://a:1,b:{SECRET}", "port of host 2 is no number"),
        (f"redis://host/{SECRET}", "the database, .* is no number"),
        ("redis://host/0/1", "the database, .* is no number"),
        ("redis://host/²", "the database, .* is no number"),
        ("redis+sentinel://a/name/x", "the database, .* is no number"),
        ("redis+sentinel://a:1,b:2", "the name of the primary, .* is missing"),
        ("redis+sentinel://a//3", "the name of the primary, .* is missing"),
        ("redis+cluster://a/3", "a cluster has no databases"),
        ("redis://a,b/0", "several hosts are given; .* redis[+]cluster://"),
        ("unix://", "the path of the socket is missing"),
        ("unix://localhost", "the path of the socket is missing"),
        ("redis://host/abc", "the database, .* is no number"),
        ("redis://host?db=x", "the value of db, after [?], is not allowed"),
        ("redis://host?client_name=x&socket_timeout=soon", "the value of socket_timeout, after"),
        ("redis://host?no_such_option=1", "option 1 after [?] is unknown; expected"),
        (f"redis://host?db=1&{SECRET}=1", "option 2 after [?] is unknown; expected"),
        (
            "redis://host?socket_time_out=1",
            "option 1 after [?] is unknown: is it socket_timeout[?]",
        ),
        (
            "rediss://host?db=1&ssl_ca_cert=x",
            "option 2 after [?] is unknown: is it ssl_ca_certs[?]",
        ),
        (
            "redis://host?ssl_ca_certs=x",
            "option 1 after [?] .* TLS, .* begins with rediss; expected",
        ),
        ("redis+sentinel://a/name?sentinel_no_such_option=1", "option 1 after [?] is unknown"),
        ("redis+sentinel://a/name?db=1&sentinel_usernam=1", "option 2 .* is it sentinel_username"),
        ("rediss://host?ssl_cert_reqs=maybe", "the value of ssl_cert_reqs, after [?], is not"),
        (f"redis://user:{SECRET}@host?credential_provider=x", "do not fit each other"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_is_expected(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        target_of(url)
    text = str(caught.value)
    assert FORMS[url.partition("://")[0]] in text
    assert "%40" in text, "how to write a password"
    assert SECRET not in text


def test_a_host_alone_gets_a_hint() -> None:
    with pytest.raises(ConfigurationError, match="redis://host:port"):
        target_of("localhost:6379")


def test_every_form_is_one_that_is_understood() -> None:
    for scheme, form in FORMS.items():
        assert form.startswith(f"{scheme}://")
        plain = form.replace("[user:password@]", "user:password@").replace("…", "")
        plain = plain.replace("[,host[:port]]", ",host:1").replace("[:port]", ":1")
        plain = plain.replace("[?db=database]", "?db=0").replace("[/database]", "/0")
        target_of(plain)


# Sentinel ----------------------------------------------------------------------------------------


def test_sentinels_are_named_before_the_name_of_the_primary() -> None:
    address = target_of(f"redis+sentinel://user:{SECRET}@a:7000,b,[::1]:7002/my%20agents/3")
    assert isinstance(address, SentinelAddress)
    assert address.name == "my agents"
    assert address.sentinels == (("a", 7000), ("b", 26379), ("::1", 7002))
    assert address.settings == {"username": "user", "password": SECRET, "db": 3}
    assert address.sentinel_settings == {}
    assert SECRET not in repr(address)


def test_sentinels_have_credentials_of_their_own() -> None:
    url = f"redis+sentinel://a/name?sentinel_username=u&sentinel_password={SECRET}&client_name=c"
    address = target_of(url)
    assert isinstance(address, SentinelAddress)
    assert address.settings == {"db": 0, "client_name": "c"}
    assert address.sentinel_settings == {"username": "u", "password": SECRET, "client_name": "c"}
    assert SECRET not in repr(address)


def test_the_database_of_a_primary_may_be_an_option() -> None:
    address = target_of("redis+sentinel://a/name?db=4")
    assert isinstance(address, SentinelAddress)
    assert address.settings["db"] == 4


def test_tls_is_for_sentinels_and_servers_alike() -> None:
    address = target_of("rediss+sentinel://a/name?ssl_ca_certs=/ca.pem")
    assert isinstance(address, SentinelAddress)
    for settings in (address.settings, address.sentinel_settings):
        assert settings["connection_class"] is redis.SSLConnection
        assert settings["ssl_ca_certs"] == "/ca.pem"


def test_no_coordinator_shows_its_password() -> None:
    with RedisMessageCoordinator.from_url(f"redis://:{SECRET}@localhost:1/0") as coordinator:
        assert SECRET not in repr(coordinator)
        assert SECRET not in str(coordinator)


def test_a_url_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="url must be a str, not None"):
        RedisMessageCoordinator.from_url(None)
