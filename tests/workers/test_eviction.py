"""A worker warns when it starts on a server that may drop keys of its inboxes."""

import logging

import pytest
import redis

from tests.conftest import OwnServers
from tests.support.waiting import eventually
from tests.workers.conftest import Coordinators
from tests.workers.given import Scripted, Serve, event, send
from tta_agent_coordination import RedisMessageCoordinator
from tta_agent_coordination.doctor import Status, rules
from tta_agent_coordination.doctor.facts import Facts
from tta_agent_coordination.doctor.rules import Verdict
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.transport.access import PASSWORD, acl_line

pytestmark = pytest.mark.guarantee("4.6")

EVICTING = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (one for one in caplog.records if getattr(one, "event", "") == "eviction")
    return [one.getMessage() for one in ours]


def handles_and_looked(coordinator: RedisMessageCoordinator, serve: Serve) -> None:
    """Let a worker start and handle a message; it has looked at the server by then."""
    agent = Scripted()
    worker = serve(agent, coordinator)
    send(coordinator, event())
    eventually(lambda: agent.got)
    assert worker.stop()
    assert worker.health().last_error is None


def test_a_server_that_may_drop_messages_is_warned_of_once(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server = own_server(options=EVICTING)
    handles_and_looked(coordinators(server.client()), serve)
    [text] = warnings(caplog)
    assert text.startswith("worker greeter:1: the server may drop keys of its inboxes: ")
    assert "allkeys-lru drops messages when memory is full. Set maxmemory-policy noevict" in text


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ((), 0),
        (("--maxmemory-policy", "volatile-ttl"), 1),
        (("--maxmemory", "100mb", "--maxmemory-policy", "noeviction"), 0),
    ],
)
def test_what_the_doctor_warns_of_is_warned_of(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture, options: tuple[str, ...], count: int,
) -> None:  # fmt: skip
    server = own_server(options=options)
    handles_and_looked(coordinators(server.client()), serve)
    assert len(warnings(caplog)) == count


def test_a_user_that_may_not_look_is_served_without_a_word(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server = own_server(options=EVICTING)
    server.admin.execute_command(*acl_line("workers").replace(PASSWORD, "secret").split(" "))
    client = server.client(username="agents", password="secret")
    with caplog.at_level(logging.INFO):
        handles_and_looked(coordinators(client), serve)
    ours = [one for one in caplog.records if one.name == "tta_agent_coordination"]
    assert [one.event for one in ours] == ["worker_started", "worker_stopped"]


def test_a_server_that_goes_away_just_then_is_no_error(
    own_server: OwnServers, coordinators: Coordinators, serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server = own_server(options=EVICTING, tcp=True)
    with FaultProxy(server.address) as proxy:
        fault = proxy.drop_reply_of("INFO", times=2)  # it is asked once more
        coordinator = coordinators(redis.Redis.from_url(proxy.url), call_timeout=1.0)
        handles_and_looked(coordinator, serve)
        assert fault.used_up
    assert warnings(caplog) == []


@pytest.mark.backend("cluster")
def test_one_of_several_fetching_threads_looks_at_every_server(
    coordinator: RedisMessageCoordinator, serve: Serve, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    looked: list[str] = []

    def judge(rule: object, facts: Facts) -> Verdict:
        assert rule is rules.eviction
        looked.append(facts.info["maxmemory_policy"])
        return Verdict(Status.WARNING, f"no. {len(looked)}", "Mend it.")

    monkeypatch.setattr(rules, "judge", judge)
    handles_and_looked(coordinator, serve)
    assert looked == ["noeviction"] * 3
    [text] = warnings(caplog)
    assert [f"no. {number}. Mend it." in text for number in (1, 2, 3)] == [True] * 3
