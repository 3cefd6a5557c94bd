"""The app for Django, in a Django of this process: settings, checks, commands, connections."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client, override_settings

from tests.conftest import OwnServers
from tests.support.backends import Backend
from tests.workers.given import ASKER, LONG, OWN, Payload, Scripted, Serve, event, in_thread
from tta_agent_coordination import ConfigurationError, InboxFullError, RedisMessageCoordinator
from tta_agent_coordination import django as app
from tta_agent_coordination.proxy import FaultProxy

Configured = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A project with a database in a file."""
    if settings.configured:  # pytest-xdist may come to this module twice
        return
    database = tmp_path_factory.mktemp("django") / "db.sqlite3"
    settings.configure(
        INSTALLED_APPS=["tta_agent_coordination.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        ROOT_URLCONF="tta_agent_coordination.django.urls",
        ALLOWED_HOSTS=["testserver"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture(autouse=True)
def closed_database() -> Iterator[None]:
    yield
    connection.close()


@pytest.fixture
def configured(key_prefix: str) -> Configured:
    """Set ``TTA_COORDINATION`` for a while."""

    @contextmanager
    def change(backend: Backend, **more: Any) -> Iterator[None]:
        given = {"CLIENT": backend.client(), "KEY_PREFIX": key_prefix, **more}
        with override_settings(TTA_COORDINATION=given):
            yield

    return change


def run(*arguments: str, **options: Any) -> str:
    """Run a command of ``manage.py``; return what it wrote."""
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


# Settings and checks -------------------------------------------------------------------------


def test_the_project_shares_one_coordinator_and_one_registry(
    backend: Backend, configured: Configured
) -> None:
    with configured(backend):
        assert app.coordinator() is app.coordinator()
        app.registry().register(Scripted())
        assert app.registry().get(OWN) is not None
        before = app.coordinator()
        assert before.stats(OWN).leased == 0
    with pytest.raises(ConfigurationError, match="closed"):
        before.stats(OWN)
    app.close()


def test_threads_that_ask_first_share_one() -> None:
    barrier = threading.Barrier(4, timeout=LONG)

    def ask() -> Any:
        barrier.wait()
        return app.coordinator()

    with override_settings(TTA_COORDINATION={}):
        threads = [in_thread(ask, f"asks-{number}") for number in range(4)]
        assert len({id(thread()) for thread in threads}) == 1


def test_another_setting_changes_nothing() -> None:
    with override_settings(TTA_COORDINATION={}):
        before = app.coordinator()
        with override_settings(DEBUG=True):
            assert app.coordinator() is before


def test_a_good_setting_passes_the_checks() -> None:
    with override_settings(TTA_COORDINATION={"URL": "redis://127.0.0.1:1"}):
        assert run_checks(tags=["tta_coordination"]) == []  # it asks no server


def test_an_unknown_key_is_an_error_with_a_hint() -> None:
    with override_settings(TTA_COORDINATION={"KEY_PREFX": "shop"}):
        for deploy in (False, True):
            [found] = run_checks(tags=["tta_coordination"], include_deployment_checks=deploy)
            assert found.id == "tta_coordination.E001"
            assert found.msg == "there is no setting TTA_COORDINATION['KEY_PREFX']"
            assert found.hint == "did you mean TTA_COORDINATION['KEY_PREFIX']?"
        with pytest.raises(ConfigurationError, match="KEY_PREFX"):
            app.coordinator()


@pytest.mark.parametrize("setting", ["redis://127.0.0.1", 7])
def test_a_setting_that_is_no_dictionary_is_an_error(setting: object) -> None:
    with override_settings(TTA_COORDINATION=setting):
        [found] = run_checks(tags=["tta_coordination"])
        assert found.msg == "TTA_COORDINATION is no dictionary"
        assert found.hint == "write TTA_COORDINATION = {'URL': 'redis://…'}"


def test_a_wrong_value_stops_every_command() -> None:
    with (
        override_settings(TTA_COORDINATION={"QUEUE_SIZE": 0}),
        pytest.raises(
            Exception, match=r"TTA_COORDINATION\['QUEUE_SIZE'\] must be at least 1, not 0 \(int\)"
        ),
    ):
        call_command("check")


def test_the_server_is_looked_at_before_a_deployment(own_server: OwnServers) -> None:
    # given a server that drops messages when memory is full, and all of them at a restart
    server = own_server(options=("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"))
    with override_settings(TTA_COORDINATION={"URL": server.url}):
        found = run_checks(tags=["tta_coordination"], include_deployment_checks=True)
    by_name = {one.msg.partition(" ")[0]: one for one in found}
    assert by_name["eviction"].id == "tta_coordination.E003"
    assert "noeviction" in by_name["eviction"].hint
    assert by_name["persistence"].id == "tta_coordination.W001"
    assert {one.id for one in found} == {"tta_coordination.E003", "tta_coordination.W001"}


def test_a_strict_setting_asks_the_server_at_the_first_use_and_not_in_a_check(
    own_server: OwnServers,
) -> None:
    server = own_server(options=("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"))
    with override_settings(TTA_COORDINATION={"URL": server.url, "STRICT": True}):
        assert run_checks(tags=["tta_coordination"]) == []
        with pytest.raises(ConfigurationError, match="strict, and eviction"):
            app.coordinator()


@pytest.mark.backend("valkey")
def test_a_server_that_does_not_answer_is_an_error_of_the_deployment(
    backend: Backend, proxy: FaultProxy, configured: Configured
) -> None:
    proxy.refuse()
    client = backend.client_through(proxy)
    with configured(backend, CLIENT=client, CALL_TIMEOUT=0.2):
        assert run_checks(tags=["tta_coordination"]) == []
        [found] = run_checks(tags=["tta_coordination"], include_deployment_checks=True)
    assert found.id == "tta_coordination.E002"
    assert "Redis could not be reached" in found.msg
    assert found.hint == "start the server, or correct TTA_COORDINATION"


# Health --------------------------------------------------------------------------------------


@pytest.mark.backend("valkey")
def test_liveness_and_readiness_are_told(
    backend: Backend, proxy: FaultProxy, configured: Configured
) -> None:
    with configured(backend, CLIENT=backend.client_through(proxy), READY_TIMEOUT=0.2):
        web = Client()
        live = web.get("/live")
        assert live.json() == {"status": "alive"}
        assert "no-store" in live.headers["Cache-Control"]
        ready = web.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert "no-store" in ready.headers["Cache-Control"]
        proxy.black_hole()
        assert web.get("/ready").status_code == 503
        assert web.get("/live").status_code == 200
        assert web.post("/ready").status_code == 405


# Transactions --------------------------------------------------------------------------------


@pytest.mark.backend("valkey")
def test_a_message_is_sent_when_the_transaction_commits(
    backend: Backend, configured: Configured
) -> None:
    with configured(backend):
        with transaction.atomic():
            app.send_on_commit(ASKER, OWN, event(1))
            assert app.coordinator().receive(OWN) is None
        received = app.coordinator().receive(OWN)
        assert received.message.payload == {"number": 1}


@pytest.mark.backend("valkey")
def test_a_transaction_that_is_rolled_back_sends_nothing(
    backend: Backend, configured: Configured
) -> None:
    with configured(backend):
        with transaction.atomic():
            app.send_on_commit(ASKER, OWN, event(1))
            transaction.set_rollback(True)
        assert app.coordinator().receive(OWN) is None


@pytest.mark.backend("valkey")
def test_a_full_inbox_is_an_error_where_the_commit_is(
    backend: Backend, configured: Configured
) -> None:
    with configured(backend, QUEUE_SIZE=1):
        app.send_on_commit(ASKER, OWN, event(1))  # no transaction: at once
        with (
            pytest.raises(InboxFullError, match="greeter:1 takes no message: queue full"),
            transaction.atomic(),
        ):
            app.send_on_commit(ASKER, OWN, event(2), delay=0.5, using="default")
        assert app.coordinator().stats(OWN).ready[5] == 1


# Database connections ------------------------------------------------------------------------


class Querying(Scripted):
    """Asks the database at each message; notes the connection before and after."""

    def __init__(self) -> None:
        super().__init__(self.query)
        self.before: list[object] = []
        self.after: list[object] = []

    def query(self, payload: Payload) -> Payload:
        self.before.append(connection.connection)
        with connection.cursor() as cursor:
            cursor.execute("select 1")
        if payload.get("old"):
            connection.close_at = 0.0  # as if it were older than it may become
        self.after.append(connection.connection)
        return {}


@contextmanager
def kept(age: int) -> Iterator[None]:
    """Keep connections for so many seconds, in every thread."""
    before = connection.settings_dict["CONN_MAX_AGE"]
    for one in (settings.DATABASES["default"], connection.settings_dict):
        one["CONN_MAX_AGE"] = age
    try:
        yield
    finally:
        connection.settings_dict["CONN_MAX_AGE"] = before


@pytest.mark.backend("valkey")
@pytest.mark.parametrize("age", [0, 600])
def test_a_handler_never_meets_a_stale_connection(
    coordinator: RedisMessageCoordinator, serve: Serve, age: int
) -> None:
    # given an agent that is served by a worker of its own
    agent = Querying()
    with kept(age):
        serve(app.with_fresh_connections(agent), coordinator, threads=1)

        # when its thread handles messages, and the connection gets old in the second
        for old in (False, True, False):
            coordinator.request(ASKER, OWN, {"old": old}, timeout=LONG)

        # then connections are kept for as long as the project says, and no longer
        first = agent.after[0] if age else None
        assert agent.before == [None, first, None]
        assert (agent.after[0] is agent.after[1]) is bool(age)
        in_thread_of(agent, coordinator)


def in_thread_of(agent: Querying, coordinator: RedisMessageCoordinator) -> None:
    """Close the connection of the handler's thread, so that none is left behind."""

    def close(_: Payload) -> Payload:
        connection.close()
        return {}

    agent._act = close
    coordinator.request(ASKER, OWN, {}, timeout=LONG)


# Commands ------------------------------------------------------------------------------------


def test_agent_status_shows_who_is_registered(backend: Backend, configured: Configured) -> None:
    with configured(backend):
        assert run("agent_status") == "no agents are registered\n"
        app.registry().register(Scripted())
        head, line = run("agent_status").splitlines()
        assert head.split()[:3] == ["id", "name", "liveness"]
        assert line.split()[:4] == ["greeter:1", "greeter:1", "alive", "running"]
        [agent] = json.loads(run("agent_status", json=True))["agents"]
        assert agent["agent_id"] == "greeter:1"


@pytest.mark.backend("valkey")
def test_agent_status_says_in_one_line_that_the_server_is_away(
    backend: Backend, proxy: FaultProxy, configured: Configured
) -> None:
    proxy.refuse()
    with (
        configured(backend, CLIENT=backend.client_through(proxy), CALL_TIMEOUT=0.2),
        pytest.raises(CommandError, match="Redis could not be reached"),
    ):
        run("agent_status")


@pytest.mark.backend("fakeredis")
def test_run_agent_says_in_one_line_what_is_wrong(backend: Backend, configured: Configured) -> None:
    with configured(backend):
        with pytest.raises(CommandError, match=r"there is no agent 'shop\.Nobody'"):
            run("run_agent", "shop.Nobody")
        with pytest.raises(CommandError, match="threads must be"):
            run("run_agent", "tests.glue.agents.Echo", threads=0, no_registry=True)
        ended = in_thread(lambda: run("run_agent", "tests.glue.agents.Echo"), "elsewhere")
        with pytest.raises(CommandError, match="main thread"):
            ended()
