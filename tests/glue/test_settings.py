"""What an application is configured with, and what is made from it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fakeredis
import pytest
import redis

from tests.support.backends import Backend
from tests.workers.given import OWN, Scripted
from tta_agent_coordination import (
    Agent,
    AgentCapability,
    AgentId,
    AgentMessage,
    ConfigurationError,
    MessageType,
    RedisAgentRegistry,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.agents.agent import AgentProxy
from tta_agent_coordination.glue.coordination import Coordination
from tta_agent_coordination.glue.serving import agent_at, serve
from tta_agent_coordination.glue.settings import KEYS, Settings
from tta_agent_coordination.glue.surrounded import SurroundedAgent
from tta_agent_coordination.proxy import FaultProxy


def settings(**given: Any) -> Settings:
    return Settings(given, "TTA_".__add__)


def first(**given: Any) -> str:
    [problem] = settings(**given).problems()
    return f"{problem.text} | {problem.hint}"


# Settings ------------------------------------------------------------------------------------


def test_nothing_needs_to_be_set() -> None:
    assert settings().problems() == []
    settings().check()


def test_every_option_of_coordinator_and_registry_can_be_set() -> None:
    expected = {"URL", "CLIENT", "KEY_PREFIX", "READY_TIMEOUT", "CALL_TIMEOUT", "CONSUMER_NAME"}
    expected |= {"QUEUE_SIZE", "RETRY_ATTEMPTS", "HEARTBEAT_TTL_S", "RESTART_POLICY"}
    assert expected <= set(KEYS)


def test_what_is_set_arrives() -> None:
    made = settings(
        URL="redis://example:7000/3", KEY_PREFIX="shop", QUEUE_SIZE=7, HEARTBEAT_TTL_S=9.0
    )
    with made.make(RedisMessageCoordinator, call_timeout=0.5) as coordinator:
        pool = coordinator.internals.link._target.connection_pool
        assert pool.connection_kwargs["host"] == "example"
        assert coordinator._calls.policy.queue_size == 7
        assert coordinator._calls.keys.prefix == "shop"
        assert coordinator.internals.link._limit == pytest.approx(0.5 / 3)
    with made.make(RedisAgentRegistry) as registry:
        assert registry._times.ttl == 9.0
        assert registry._keys.prefix == "shop"


def test_the_environment_says_where_the_server_is_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTA_COORDINATION_URL", "redis://from-the-environment")

    def host(**given: Any) -> str:
        with settings(**given).make(RedisMessageCoordinator) as coordinator:
            return coordinator.internals.link._target.connection_pool.connection_kwargs["host"]

    assert host() == "from-the-environment"
    assert host(URL="redis://set") == "set"
    monkeypatch.delenv("TTA_COORDINATION_URL")
    assert host() == "127.0.0.1"


def test_a_client_can_be_given_in_place_of_a_url() -> None:
    client = redis.Redis(host="given")
    with settings(CLIENT=client).make(RedisMessageCoordinator) as coordinator:
        assert coordinator.internals.link._target is client


def test_an_unknown_key_is_named_with_the_one_that_was_meant() -> None:
    assert first(KEY_PREFX="shop") == (
        "there is no setting TTA_KEY_PREFX | did you mean TTA_KEY_PREFIX?"
    )
    assert first(url="redis://x").endswith("did you mean TTA_URL?")
    assert "the settings are TTA_URL, TTA_CLIENT," in first(WHATEVER_ELSE=1)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"URL": "ftp://x"}, "TTA_URL is wrong: the URL must begin with one of redis://"),
        ({"URL": 7}, "TTA_URL is wrong: url must be a str, not 7 (int)"),
        ({"CLIENT": "redis://x"}, "TTA_CLIENT is wrong: redis must be a Redis, not a str"),
        ({"KEY_PREFIX": ""}, "TTA_KEY_PREFIX must be 1 to 128 characters"),
        ({"CALL_TIMEOUT": -1}, "TTA_CALL_TIMEOUT must be a finite number of seconds from 0"),
        ({"QUEUE_SIZE": "many"}, "TTA_QUEUE_SIZE must be a whole number, not 'many' (str)"),
        ({"HEARTBEAT_TTL_S": 0}, "must be above 0 and below TTA_HEARTBEAT_TTL_S (0)"),
        ({"READY_TIMEOUT": "soon"}, "TTA_READY_TIMEOUT must be a number of seconds, not 'soon'"),
        ({"READY_TIMEOUT": 0}, "TTA_READY_TIMEOUT must be more than 0 seconds, not 0"),
        ({"REPLICAS": 1, "CLIENT": fakeredis.FakeRedis()}, "TTA_REPLICAS must be 0 with fakeredis"),
    ],
)
def test_a_wrong_value_is_named_by_its_key_with_its_type_and_what_is_allowed(
    given: dict[str, Any], text: str
) -> None:
    [problem] = settings(**given).problems()
    assert text in problem.text
    assert problem.text.startswith("TTA_")


def test_all_wrong_values_are_told_of_at_once() -> None:
    problems = settings(QUEUE_SIZE="7", KEY_PREFIX="shop", RETRY_ATTEMPTS=-1).problems()
    assert [problem.text for problem in problems] == [
        "TTA_QUEUE_SIZE must be a whole number, not '7' (str)",
        "TTA_RETRY_ATTEMPTS must be at least 0, not -1 (int)",
    ]
    hints = ["what comes from the environment is text: convert it with int() or float()", ""]
    assert [problem.hint for problem in problems] == hints


def test_two_values_that_do_not_fit_together_are_both_named() -> None:
    assert settings(HEARTBEAT_TTL_S=90.0, HEARTBEAT_INTERVAL_S=40.0).problems() == []
    assert first(HEARTBEAT_TTL_S=5.0, HEARTBEAT_INTERVAL_S=40.0).startswith(
        "TTA_HEARTBEAT_INTERVAL_S (40) must be above 0 and below TTA_HEARTBEAT_TTL_S (5)"
    )


def test_a_value_that_only_fits_with_another_is_not_blamed_for_a_third() -> None:
    problem = first(HEARTBEAT_TTL_S=90.0, HEARTBEAT_INTERVAL_S=40.0, GRACE_S="long")
    assert problem.startswith("TTA_GRACE_S must be a number of seconds, not 'long' (str)")


def test_a_wrong_url_in_the_environment_is_not_laid_on_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTA_COORDINATION_URL", "redis://:hidden/@x")
    problem = first(QUEUE_SIZE=7)
    assert problem.startswith("TTA_COORDINATION_URL is wrong: the redis:// URL is malformed")
    assert "hidden" not in problem
    assert first(QUEUE_SIZE="7").startswith("TTA_QUEUE_SIZE must be")


def test_a_url_and_a_client_are_one_too_many() -> None:
    problem = first(URL="redis://x", CLIENT=redis.Redis())
    assert problem == "TTA_URL and TTA_CLIENT are both set | keep one of them"


def test_a_problem_is_raised_with_its_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"TTA_QUEUE; did you mean TTA_QUEUE_SIZE\?$"):
        settings(QUEUE=1).check()
    with pytest.raises(ConfigurationError, match=r"^TTA_QUEUE_SIZE must .*[^;]$"):
        Coordination(settings(QUEUE_SIZE=0))


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(settings(URL="redis://:secret@x"))


# Coordination --------------------------------------------------------------------------------


@pytest.fixture
def coordination(backend: Backend, key_prefix: str) -> Iterator[Coordination]:
    made = Coordination(settings(CLIENT=backend.client(), KEY_PREFIX=key_prefix))
    yield made
    made.close()


def test_what_is_made_works_and_is_closed(coordination: Coordination) -> None:
    coordination.registry.register(Scripted())
    assert coordination.registry.get(OWN) is not None
    message = AgentMessage(OWN, OWN)
    assert coordination.coordinator.send_message(OWN, OWN, message).delivered
    readiness = coordination.readiness()
    assert (readiness.status, readiness.error) == (200, None)
    coordination.close()
    for closed in (coordination.coordinator.stats, coordination.registry.get):
        with pytest.raises(ConfigurationError, match="closed"):
            closed(OWN)


@pytest.mark.backend("valkey")
def test_it_is_not_ready_while_the_server_is_away_and_says_so_once(
    backend: Backend, proxy: FaultProxy, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tta_agent_coordination.glue")
    caplog.set_level(logging.INFO, "tta_agent_coordination")
    client = backend.client_through(proxy)
    made = Coordination(settings(CLIENT=client, KEY_PREFIX=key_prefix, READY_TIMEOUT=0.3))
    try:
        assert made.readiness().document()["status"] == "ready"
        proxy.black_hole()
        answers = [made.readiness() for _ in range(2)]
        assert {answer.status for answer in answers} == {503}
        assert answers[0].error == "CoordinatorUnavailableError"
        assert answers[0].seconds < 3.0
        assert answers[0].document()["status"] == "not ready"
        proxy.heal()
        while made.readiness().status == 503:
            pass
    finally:
        made.close()
    said = [record.getMessage() for record in caplog.records if "ready" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("not ready: Redis could not be reached")
    assert said[1] == "ready again"


# Surrounded agents ---------------------------------------------------------------------------


class Everything(Agent):
    """Has every hook, and notes whether it is surrounded."""

    agent_id = OWN
    status = "painting"

    def __init__(self, inside: list[str]) -> None:
        super().__init__(name="everything")
        self.inside = inside
        self.calls: list[tuple[str, bool]] = []
        self.on(topic="special")(self.special)

    def note(self, what: str) -> None:
        self.calls.append((what, bool(self.inside)))

    def process(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.note("process")
        return payload

    def special(self, message: AgentMessage) -> dict[str, Any]:
        del message
        self.note("special")
        return {}

    def start(self) -> None:
        self.note("start")

    def stop(self) -> None:
        self.note("stop")

    def health_check(self) -> bool:
        self.note("health_check")
        return False

    def export_state(self) -> dict[str, Any]:
        self.note("export_state")
        return {"state": 1}

    def import_state(self, state: dict[str, Any]) -> None:
        self.note(f"import_state {state}")

    def get_capabilities(self) -> tuple[AgentCapability, ...]:
        self.note("get_capabilities")
        return (AgentCapability("paint"),)


def test_each_call_of_an_agent_is_surrounded() -> None:
    inside: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        inside.append("in")
        yield
        inside.pop()

    agent = Everything(inside)
    surrounded = SurroundedAgent(agent, around)

    assert (surrounded.agent_id, surrounded.name) == (OWN, "everything")
    assert surrounded.status == "painting"
    request = AgentMessage(OWN, OWN, {"x": 1}, message_type=MessageType.REQUEST)
    assert surrounded.handle(request) == {"x": 1}
    special = AgentMessage(OWN, OWN, routing=RoutingKey("special"))
    assert surrounded.handle(special) == {}
    assert surrounded.process({"x": 2}) == {"x": 2}
    surrounded.start()
    surrounded.stop()
    assert surrounded.health_check() is False
    assert surrounded.export_state() == {"state": 1}
    surrounded.import_state({"a": 1})
    assert surrounded.get_capabilities() == (AgentCapability("paint"),)
    names = [name for name, _ in agent.calls]
    assert names == [
        "process",
        "special",
        "process",
        "start",
        "stop",
        "health_check",
        "export_state",
        "import_state {'a': 1}",
        "get_capabilities",
    ]
    assert all(was_inside for _, was_inside in agent.calls)
    assert inside == []


def test_a_coroutine_is_surrounded_while_it_runs() -> None:
    inside: list[str] = []
    seen: list[list[str]] = []

    @contextmanager
    def around() -> Iterator[None]:
        inside.append("in")
        yield
        inside.pop()

    class Later(Agent):
        agent_id = OWN

        async def process(self, payload: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(0)
            seen.append(list(inside))
            return payload

        async def start(self) -> None:
            seen.append(list(inside))

    surrounded = SurroundedAgent(Later(), around)
    request = AgentMessage(OWN, OWN, {"x": 1}, message_type=MessageType.REQUEST)

    async def call() -> Any:
        await surrounded.start()
        return await surrounded.handle(request)

    assert asyncio.run(call()) == {"x": 1}
    assert seen == [["in"], ["in"]]
    assert inside == []


def test_an_agent_of_the_users_own_kind_can_be_surrounded() -> None:
    class Own(AgentProxy):
        agent_id = OWN
        name = "own"
        got: list[dict[str, Any]] = []  # noqa: RUF012 - one agent is made

        def process(self, payload: dict[str, Any]) -> dict[str, Any]:
            self.got.append(payload)
            return {}

    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    own = Own()
    surrounded = SurroundedAgent(own, nothing)
    assert surrounded.handle(AgentMessage(OWN, OWN, {"x": 1})) is None
    assert own.got == [{"x": 1}]
    assert surrounded.status is None


# Serving -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "agent_id"),
    [
        ("tests.glue.agents.Echo", OWN),
        ("tests.glue.agents:Echo", OWN),
        ("tests.glue.agents.made", AgentId("echo", "made")),
        ("tests.glue.agents.make", AgentId("echo", "function")),
    ],
)
def test_an_agent_is_found_by_its_path(path: str, agent_id: AgentId) -> None:
    assert agent_at(path).agent_id == agent_id


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tests.glue.nothing.Echo", "there is no agent 'tests.glue.nothing.Echo': "),
        ("tests.glue.agents.Nothing", "has no attribute 'Nothing'"),
        ("not a path", "there is no agent 'not a path'"),
        ("tests.glue.agents.Demanding", "makes no agent without arguments: "),
        (
            "tests.glue.agents.OWN",
            "is of type AgentId, and no agent: name an instance of Agent, or",
        ),
        ("tests.glue.agents.Path", "and no agent"),
    ],
)
def test_what_is_no_agent_is_named(path: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        agent_at(path)


def test_a_wrong_option_of_the_worker_is_named() -> None:
    made = Coordination(settings(CLIENT=fakeredis.FakeRedis()))
    with pytest.raises(ConfigurationError, match="threads must be"):
        serve(made, ["tests.glue.agents.Echo"], around_nothing, registered=False, threads=0)
    made.close()


def test_an_agent_that_cannot_be_called_is_refused_where_it_is_named() -> None:
    made = Coordination(settings(CLIENT=fakeredis.FakeRedis()))
    with pytest.raises(ConfigurationError, match="process of agent greeter:1 is called with one"):
        serve(made, ["tests.glue.agents.Unfit"], around_nothing, registered=False)
    made.close()


@contextmanager
def around_nothing() -> Iterator[None]:
    yield
