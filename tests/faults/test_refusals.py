"""Servers that answer, but not with what was asked for."""

import logging
import threading
import traceback

import pytest
import redis

from tests.conftest import OwnServers
from tests.faults.calls import INBOX, SENDER, message
from tests.faults.conftest import Coordinators
from tests.faults.test_gate import CALL_TIMEOUT, taking
from tests.faults.test_threads import beside
from tests.support.backends import Backend
from tests.support.servers import LocalServer
from tests.support.waiting import eventually
from tta_agent_coordination import (
    AgentId,
    ConfigurationError,
    CoordinationError,
    CoordinatorUnavailableError,
    LeaseOutcome,
    RedisMessageCoordinator,
)
from tta_agent_coordination.errors import CoordinatorAccessError
from tta_agent_coordination.proxy import FaultProxy

SECRET = "tell-nobody-7319"
AT_ONCE = 0.5

KINDS = pytest.mark.parametrize("kind", ["valkey", "redis62"])


# Credentials --------------------------------------------------------------------------------


@pytest.mark.guarantee("2.13")
@KINDS
@pytest.mark.parametrize("given", [SECRET, None], ids=["wrong-password", "no-password"])
def test_a_wrong_password_is_said_at_once_and_opens_no_breaker(
    own_server: OwnServers, coordinators: Coordinators, kind: str, given: str | None
) -> None:
    server = own_server(kind)
    server.admin.config_set("requirepass", "the-right-one")
    coordinator = coordinators(server.client(password=given))

    for _ in range(10):
        with pytest.raises(CoordinatorAccessError, match="password"), taking(0.0, AT_ONCE):
            coordinator.stats(INBOX)

    right = coordinators(server.client(password="the-right-one"))
    assert right.stats(INBOX).leased == 0


@pytest.mark.guarantee("2.13")
@KINDS
def test_a_user_without_the_permission_is_told_so(
    own_server: OwnServers, coordinators: Coordinators, kind: str
) -> None:
    server = own_server(kind)
    server.admin.execute_command("ACL SETUSER weak on >pw ~* +@all -evalsha -eval")
    server.admin.execute_command("ACL SETUSER elsewhere on >pw ~other:* +@all")

    for user in ("weak", "elsewhere"):
        coordinator = coordinators(server.client(username=user, password="pw"))
        with pytest.raises(CoordinatorAccessError) as caught, taking(0.0, AT_ONCE):
            coordinator.send_message(SENDER, INBOX, message(1))
        assert isinstance(caught.value, ConfigurationError)
        assert isinstance(caught.value, CoordinatorUnavailableError)


@pytest.mark.parametrize("place", ["refused", "unreachable", "malformed"])
def test_no_error_log_or_repr_shows_the_password(
    own_server: OwnServers,
    place: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server = own_server(tcp=True)
    server.admin.config_set("requirepass", "the-right-one")
    host, port = server.address
    if place == "unreachable":
        server.stop()
    if place == "malformed":
        port = "not-a-port"
    shown: list[str] = []
    for scheme in ("redis", "rediss", "redis+cluster"):
        try:
            with RedisMessageCoordinator.from_url(
                f"{scheme}://somebody:{SECRET}@{host}:{port}", call_timeout=0.3
            ) as coordinator:
                shown += [repr(coordinator), repr(coordinator._calls), str(coordinator)]
                coordinator.send_message(SENDER, INBOX, message(1))
        except CoordinationError as error:
            shown += [repr(error), *traceback.format_exception(error)]
    printed = capsys.readouterr()
    shown += [caplog.text, printed.out, printed.err]

    assert any("Error" in text for text in shown)
    assert SECRET not in "".join(shown)


# Servers that cannot serve at the moment ----------------------------------------------------


def replica_of(server: LocalServer, replica: LocalServer) -> None:
    host, port = server.address
    replica.admin.replicaof(host, port)
    eventually(lambda: replica.admin.info("replication")["master_link_status"] == "up", timeout=10)


@pytest.mark.guarantee("2.13")
@KINDS
def test_a_replica_that_becomes_the_primary_is_waited_for(
    own_server: OwnServers, coordinators: Coordinators, kind: str
) -> None:
    # given a client of a replica
    at_once = ("--repl-diskless-sync-delay", "0")
    primary, replica = (own_server(kind, tcp=True, options=at_once) for _ in range(2))
    replica_of(primary, replica)
    with FaultProxy(replica.address) as proxy:
        client = redis.Redis.from_url(proxy.url)
        hasty = coordinators(client, call_timeout=CALL_TIMEOUT)
        with pytest.raises(CoordinatorUnavailableError), taking(0.2, CALL_TIMEOUT):
            hasty.send_message(SENDER, INBOX, message(0))
        assert proxy.count("EVALSHA") > 1
        proxy.forget()

        # when it is made the primary while a call is under way
        def promote() -> None:
            proxy.wait_for("EVALSHA", count=3)
            replica.admin.replicaof("NO", "ONE")

        patient = coordinators(client)
        with beside("promoter", promote):
            result = patient.send_message(SENDER, INBOX, message(1))

        # then that call succeeds
        assert result.delivered
        assert not result.duplicate
        patient.close()
        hasty.close()


@pytest.mark.guarantee("2.13")
def test_a_server_that_loads_its_data_is_waited_for(
    own_server: OwnServers, coordinators: Coordinators
) -> None:
    # given a server that takes a second to load what it stored
    server = own_server(
        options=("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    )
    coordinator = coordinators(server.client())
    coordinator.send_message(SENDER, INBOX, message(1))
    server.admin.mset({f"ballast:{number}": "x" * 100 for number in range(500)})
    server.admin.save()
    server.kill()

    # when it comes up again during a call
    with FaultProxy(server.address) as proxy:
        through = coordinators(redis.Redis.from_url(proxy.url))
        with beside("starter", server.start):
            got = through.receive(INBOX)

        # then the call gets its answer
        assert got is not None
        assert got.message.message_id == "message-0001"
        through.close()


@pytest.mark.guarantee("2.13")
@KINDS
def test_a_busy_server_is_waited_for(
    own_server: OwnServers, coordinators: Coordinators, kind: str
) -> None:
    # given a server in a script that does not end
    server = own_server(kind, options=("--lua-time-limit", "50"))
    coordinator = coordinators(server.client())
    coordinator.stats(INBOX)
    stuck = server.client(socket_timeout=20.0)

    def get_stuck() -> None:
        with pytest.raises(redis.ResponseError):
            stuck.eval("while true do end", 0)

    # when it is ended in the middle of a call
    def kill() -> None:
        threading.Event().wait(0.3)  # long enough for the call to meet it
        server.admin.script_kill()

    with beside("stuck", get_stuck):
        eventually(lambda: is_busy(server.admin))
        with beside("killer", kill), taking(0.2, 2.0):
            # then the call gets its answer
            coordinator.stats(INBOX)


def is_busy(admin: redis.Redis) -> bool:
    try:
        admin.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


# Out of memory ------------------------------------------------------------------------------


@KINDS
def test_a_full_server_refuses_messages_and_lets_consumers_work_on(
    own_server: OwnServers, coordinators: Coordinators, kind: str
) -> None:
    # given an inbox with messages in every state, and a server that is out of memory
    server = own_server(kind)
    coordinator = coordinators(server.client())
    coordinator.send_many(SENDER, [message(number) for number in range(12)])
    first, second, third, fourth, fifth = coordinator.receive_many(INBOX, 5, 60.0)
    coordinator.receive(INBOX, 0.0)
    server.admin.config_set("maxmemory-policy", "noeviction")
    server.admin.config_set("maxmemory", 1)

    # then sending says so, at once
    for send in (
        lambda: coordinator.send_message(SENDER, INBOX, message(99)),
        lambda: coordinator.send_message(SENDER, AgentId("new"), message(99)),
        lambda: coordinator.send_many(SENDER, [message(98), message(99)]),
    ):
        with (
            pytest.raises(CoordinatorUnavailableError, match="out of memory"),
            taking(0.0, AT_ONCE),
        ):
            send()
    assert coordinator._calls.link.commands.state == "closed"

    # and everything that makes room goes on
    assert coordinator.extend(INBOX, first.token, 120.0) is LeaseOutcome.DONE
    assert coordinator.ack(INBOX, first.token) is LeaseOutcome.DONE
    assert coordinator.nack(INBOX, second.token, delay=0.0) is LeaseOutcome.DONE
    assert coordinator.nack(INBOX, third.token, "permanent", "broken") is LeaseOutcome.DONE
    assert coordinator.nack(INBOX, fourth.token, delay=60.0) is LeaseOutcome.DONE
    assert coordinator.release(INBOX, fifth.token) is LeaseOutcome.DONE
    assert coordinator.recover_pending(INBOX) == 1
    assert coordinator.recover_pending(INBOX) == 0
    assert coordinator.recover_pending() == 0
    assert coordinator.stats(INBOX).ready[message(1).priority] == 9
    received = coordinator.receive_many(INBOX, 100)
    assert len(received) == 9
    assert all(coordinator.ack_many(INBOX, [got.token for got in received]))
    assert [letter.reason for letter in coordinator.dead_letters(INBOX)] == ["permanent"]
    assert coordinator.receive(INBOX, wait=0.1) is None
    assert coordinator.purge_dead_letters(INBOX) == 1
    assert coordinator.purge(INBOX) == 1


# Nodes of a cluster -------------------------------------------------------------------------


@pytest.mark.backend("cluster")
def test_a_plain_client_of_a_cluster_node_is_told_which_one_it_needs(
    backend: Backend, key_prefix: str, coordinators: Coordinators
) -> None:
    host, port = backend.addresses[0]
    coordinator = coordinators(redis.Redis(host=host, port=port), key_prefix)

    def send_to_many() -> None:
        for number in range(50):
            coordinator.send_message(SENDER, AgentId("worker", str(number)), message(number))

    with (
        pytest.raises(ConfigurationError, match=r"RedisCluster .* redis\+cluster://"),
        taking(0.0, AT_ONCE),
    ):
        send_to_many()

    assert coordinator._calls.link.commands.state == "closed"
