"""The doctor on real servers, as a method, as a command, and before a strict coordinator."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import cattrs
import fakeredis
import pytest
import redis
from redis.cluster import RedisCluster

from tests.conftest import OwnServers
from tests.contract.given import WORKER
from tests.support.backends import Backend
from tests.support.servers import Client, LocalCluster, LocalServer, binary_of
from tests.support.waiting import eventually
from tta_agent_coordination import (
    ConfigurationError,
    CoordinatorUnavailableError,
    RedisMessageCoordinator,
)
from tta_agent_coordination.cli import main
from tta_agent_coordination.doctor import Finding, Report, Status, facts
from tta_agent_coordination.doctor.rules import RULES
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.server_process import free_port
from tta_agent_coordination.transport.access import (
    DOCTOR_GRANTS,
    GRANTS,
    PASSWORD,
    acl_line,
)

OK, UNKNOWN, WARNING, ERROR = Status.OK, Status.UNKNOWN, Status.WARNING, Status.ERROR

OF_PROCESS = {"call_timeout", "threads", "python", "redis_py", "hiredis"}
GOOD = ("--appendonly", "yes", "--save", "")


def check(client: Client, prefix: str = "test", **options: object) -> Report:
    with RedisMessageCoordinator(client, prefix, **options) as coordinator:
        return coordinator.check()


def named(report: Report, name: str) -> Finding:
    [found] = [one for one in report.findings if one.name == name]
    return found


@pytest.mark.backend("valkey", "redis62", "cluster", "path")
def test_every_server_is_looked_at_and_nothing_is_changed(
    backend: Backend, key_prefix: str
) -> None:
    connect = RedisCluster if backend.name == "cluster" else redis.Redis
    with connect.from_url(backend.url) as client:
        report = check(client, key_prefix)
        if backend.name == "cluster":
            client.disconnect_connection_pools()

    assert backend.keys() == []
    servers = {one.server for one in report.findings if one.server}
    assert len(servers) == len(backend.addresses)
    for server in servers:
        names = [one.name for one in report.findings if one.server == server]
        assert names == ["reachable", *RULES]
    assert {one.name for one in report.findings if not one.server} == OF_PROCESS
    assert {one.status for one in report.findings} == {OK, WARNING}
    assert {one.name for one in report.having(WARNING)} == {"persistence"}
    assert report.ok


def test_fakeredis_says_little_and_that_is_no_error() -> None:
    report = check(fakeredis.FakeRedis())
    assert named(report, "eviction").status is UNKNOWN
    assert "unknown command" in named(report, "eviction").found
    assert named(report, "round_trip").status is OK
    assert report.ok


@pytest.mark.backend("valkey", "redis62")
def test_a_user_with_no_more_rights_than_needed_lacks_none(client: Client, key_prefix: str) -> None:
    report = check(client, key_prefix)
    assert named(report, "access").status is OK
    assert named(report, "role").status is UNKNOWN
    assert "permission" in named(report, "role").found
    assert report.worst is UNKNOWN


@contextmanager
def user(server: LocalServer, line: str) -> Iterator[redis.Redis]:
    server.admin.execute_command(*line.replace(PASSWORD, "secret").split(" "))
    with server.client(username="agents", password="secret") as client:
        yield client


def test_the_rights_to_look_make_everything_known(own_server: OwnServers) -> None:
    with user(own_server(options=GOOD), acl_line("test", doctor=True)) as client:
        report = check(client)
    assert report.worst is OK
    assert "agents may do all" in named(report, "access").found


@pytest.mark.parametrize("name", ["valkey", "redis62"])
def test_each_right_that_is_missing_is_found(own_server: OwnServers, name: str) -> None:
    server = own_server(name)
    for grant in GRANTS:
        line = acl_line("test", doctor=True).replace(f" +{grant.command} ", " ")
        line = line.removesuffix(f" +{grant.command}")
        with user(server, line) as client:
            found = named(check(client), "access")
        expected = [grant.command] + ["incr"] * (grant.command == "unlink")
        if grant.command == "unlink":
            expected = ["unlink"]  # then INCR is not tried: it would leave something behind
        assert found.status is ERROR
        assert found.found == f"agents may not call {', '.join(expected)}"
        assert server.admin.keys() == []


def test_a_user_of_another_prefix_is_found(own_server: OwnServers) -> None:
    with user(own_server(), acl_line("other", doctor=True)) as client:
        found = named(check(client), "access")
    assert (found.status, found.server != "") == (ERROR, True)
    assert "may not touch keys under the prefix" in found.found


def test_threads_are_compared_with_the_connections_that_the_server_has_left(
    own_server: OwnServers,
) -> None:
    server = own_server(options=("--maxclients", "20"))
    stop = threading.Event()
    others = [threading.Thread(target=stop.wait, name=f"other-{i}") for i in range(12)]
    for other in others:
        other.start()
    try:
        with server.client() as client:
            found = named(check(client), "threads")
    finally:
        stop.set()
        for other in others:
            other.join()
    assert found.status is WARNING
    assert "the server takes" in found.found


def test_a_replica_is_no_place_for_agents(own_server: OwnServers) -> None:
    primary = own_server(tcp=True, options=("--repl-diskless-sync-delay", "0"))
    host, port = primary.address
    replica = own_server(tcp=True, options=("--replicaof", f"{host} {port}"))
    eventually(
        lambda: replica.admin.info()["master_link_status"] == "up", timeout=20, what="no link"
    )
    assert named(check(replica.client()), "role").status is ERROR
    assert named(check(primary.client()), "replicas").status is WARNING


def test_nobody_there_is_an_error_of_its_own() -> None:
    with pytest.raises(CoordinatorUnavailableError, match="refused"):
        check(redis.Redis(port=free_port()), call_timeout=0.5)


def test_a_wrong_password_is_an_error_of_its_own(own_server: OwnServers) -> None:
    with pytest.raises(ConfigurationError, match="password"):
        check(own_server().client(username="agents", password="wrong"))


def test_a_silent_server_is_given_up_in_time(
    own_server: OwnServers,
) -> None:
    server = own_server(tcp=True)
    with (
        FaultProxy(server.address) as proxy,
        RedisMessageCoordinator.from_url(proxy.url, call_timeout=0.9) as coordinator,
    ):
        assert coordinator.check().ok
        proxy.black_hole()
        with pytest.raises(CoordinatorUnavailableError):
            coordinator.check()


def test_a_connection_that_was_closed_meanwhile_is_opened_again(
    own_server: OwnServers,
) -> None:
    server = own_server()
    with RedisMessageCoordinator(server.client(), "test") as coordinator:
        coordinator.stats(WORKER)
        server.admin.client_kill_filter(_type="normal", skipme=True)
        assert coordinator.check().ok


def test_a_primary_that_is_gone_is_told_among_the_others() -> None:
    with LocalCluster(binary_of("cluster")) as cluster:
        client = cluster.client()
        with RedisMessageCoordinator(client, "test", call_timeout=1.0) as coordinator:
            assert coordinator.check().ok
            gone = cluster.nodes[2]
            gone.kill()
            report = coordinator.check()
    reachable = {one.server: one.status for one in report.findings if one.name == "reachable"}
    assert sorted(reachable.values()) == [ERROR, OK, OK]
    assert reachable["{}:{}".format(*gone.address)] is ERROR


def test_a_cluster_that_is_gone_is_an_error_of_its_own() -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    with (
        RedisMessageCoordinator.from_url(url, call_timeout=0.5) as coordinator,
        pytest.raises(CoordinatorUnavailableError),
    ):
        coordinator.check()


def test_a_cluster_that_refuses_the_user_is_an_error_of_its_own() -> None:
    with LocalCluster(binary_of("cluster")) as cluster:
        login = cluster.url.replace("redis://", "redis+cluster://x:y@")
        with (
            RedisMessageCoordinator.from_url(login, call_timeout=1.0) as coordinator,
            pytest.raises(CoordinatorUnavailableError),
        ):
            coordinator.check()


def test_a_strict_coordinator_begins_on_a_good_server(own_server: OwnServers) -> None:
    client = own_server(options=GOOD).client()
    with RedisMessageCoordinator(client, "test", strict=True) as coordinator:
        assert coordinator.check().worst is OK


def test_a_strict_coordinator_refuses_a_server_that_forgets(own_server: OwnServers) -> None:
    server = own_server(
        options=("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), tcp=True
    )
    with pytest.raises(ConfigurationError, match=r"eviction .*: allkeys-lru drops.*noeviction"):
        RedisMessageCoordinator.from_url(server.url, "test", strict=True)
    assert server.connections() == set()
    with RedisMessageCoordinator.from_url(server.url, "test") as coordinator:
        assert not coordinator.check().ok


def test_a_strict_coordinator_does_not_begin_without_a_server() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    with pytest.raises(CoordinatorUnavailableError):
        RedisMessageCoordinator.from_url(url, strict=True, call_timeout=0.5)
    with pytest.raises(TypeError, match="strict must be a bool"):
        RedisMessageCoordinator(redis.Redis(), strict="yes")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["doctor", *arguments])
    out, err = capsys.readouterr()
    return status, out + err


def test_the_command_tells_each_finding_with_what_to_do(
    own_server: OwnServers, capsys: pytest.CaptureFixture[str]
) -> None:
    url = own_server().url
    status, text = run(capsys, "--url", url)
    assert status == 0
    assert "persistence   warning  none: a restart loses everything -> Set appendonly yes." in text
    assert text.endswith("worst: warning\n")
    assert run(capsys, "--url", url, "--strict")[0] == 1


def test_the_command_fails_when_something_is_wrong(
    own_server: OwnServers, capsys: pytest.CaptureFixture[str]
) -> None:
    server = own_server(options=("--min-replicas-to-write", "1"))
    status, text = run(capsys, "--url", server.url, "--json")
    document = json.loads(text)
    assert (status, document["ok"], document["worst"]) == (1, False, "error")
    assert cattrs.structure(document["findings"], list[Finding])
    [error] = [one for one in document["findings"] if one["status"] == "error"]
    assert error["name"] == "replicas"


def test_the_command_says_in_one_line_that_nobody_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text = run(capsys, "--url", f"redis://me:secret@127.0.0.1:{free_port()}")
    assert status == 2
    assert text.count("\n") == 1
    assert "secret" not in text


def test_the_command_prints_the_rights_of_a_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--acl") == (0, f"{acl_line('tta-coord')}\n")
    status, text = run(capsys, "--acl", "--look", "--json", "--user", "shop", "--prefix", "shop")
    line = acl_line("shop", user="shop", doctor=True)
    assert (status, json.loads(text)) == (0, {"acl": line})
    assert all(f"+{grant.command}" in line.split(" ") for grant in (*GRANTS, *DOCTOR_GRANTS))
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--acl", "--user", "x +@all"])


def test_the_clock_of_the_server_is_compared_with_the_middle_of_the_round_trip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    clocks = SimpleNamespace(time=lambda: now, monotonic=lambda: now)
    monkeypatch.setattr(facts, "time", clocks)

    class Gate:
        def ask(self, _pool: object, _command: object) -> list[object]:
            nonlocal now
            now += 4.0
            return [(b"%d" % (now - 2.0 + 7.0), b"500000")]

    class Refusing(Gate):
        def ask(self, pool: object, command: object) -> list[object]:
            super().ask(pool, command)
            return [RuntimeError("no permission")]

    gate: Any = Gate()
    refusing: Any = Refusing()
    pool: Any = None
    assert facts._times(gate, pool) == (4.0, 7.5)
    assert facts._times(refusing, pool) == (4.0, 0.0)
