"""No password is ever shown: in errors and what caused them, in logs, in ``repr``, in output."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress

import attrs
import pytest
import redis
import redis.asyncio

from tests.conftest import OwnServers
from tests.contract.given import ONE, SENDER, WORKER, message
from tests.support.waiting import eventually
from tta_agent_coordination import (
    Agent,
    AgentWorker,
    ConfigurationError,
    CoordinationError,
    CoordinatorUnavailableError,
    RedisAgentRegistry,
    RedisMessageCoordinator,
)
from tta_agent_coordination.cli import main
from tta_agent_coordination.server_process import free_port
from tta_agent_coordination.transport.connections import route_to
from tta_agent_coordination.transport.url import target_of

USER, SECRET = "canary-user", "canary-5ecret"
LOGIN = f"{USER}:{SECRET}@"


class Echo(Agent):
    def process(self, payload: dict) -> dict:
        return payload


@pytest.fixture(autouse=True)
def quiet_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look through everything that is logged, by whomever, at any level."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert SECRET not in f"{record.getMessage()} {record.args} {record.exc_text}"
        assert SECRET not in repr(record.__dict__)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came from, also what is not printed."""
    seen = list[BaseException | None]()
    todo = [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in seen:
            seen.append(one)
            yield one
            todo += [one.__cause__, one.__context__]


def assert_silent(error: BaseException, *secrets: str) -> None:
    for one in chain(error):
        for secret in (SECRET, *secrets):
            assert secret not in f"{one} {one!r} {one.args}", type(one)
    assert SECRET not in "".join(traceback.format_exception(error))


def failing(call: Callable[[], object]) -> BaseException:
    with pytest.raises((CoordinationError, TypeError, ValueError)) as caught:
        call()
    return caught.value


MALFORMED = [
    f"redis://{LOGIN}host:port/0",
    f"redis://{LOGIN}host:99999999/0",
    f"redis://{LOGIN}host/0?db=x&socket_timeout={SECRET}",
    f"redis://{LOGIN}[::1/0",
    f"rediss://{LOGIN}host:{SECRET}",
    f"redis+cluster://{LOGIN}host:1,other:x",
    f"redis+cluster://{LOGIN}[host:1",
    f"redis://{USER}:12/{SECRET}@host",
    f"redis://{USER}:12#{SECRET}/x@host",
    f"http://{LOGIN}host",
    f"{LOGIN}host",
    f"{LOGIN}host://x",
    f"{SECRET}",
    f"://{LOGIN}host",
    f"redis:/{LOGIN}host",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_the_error_of_a_malformed_url_shows_nothing_of_it(url: str) -> None:
    for made in (RedisMessageCoordinator.from_url, RedisAgentRegistry.from_url):
        error = failing(lambda made=made: made(url))
        assert isinstance(error, ConfigurationError)
        assert_silent(error, USER)


@pytest.mark.parametrize(
    "target",
    [
        f"redis://{LOGIN}host",
        f"redis://{LOGIN}host".encode(),
        redis.asyncio.Redis.from_url(f"redis://{LOGIN}host"),
        redis.ConnectionPool.from_url(f"redis://{LOGIN}host"),
        {"password": SECRET},
    ],
    ids=["text", "bytes", "asyncio", "pool", "mapping"],
)
def test_the_error_of_a_wrong_argument_does_not_show_it(target: object) -> None:
    for made in (RedisMessageCoordinator, RedisAgentRegistry):
        assert_silent(failing(lambda made=made: made(target)), USER)
    if not isinstance(target, str):
        assert_silent(failing(lambda: RedisMessageCoordinator.from_url(target)), USER)


def reachable_from(value: object, depth: int = 4) -> Iterator[object]:
    """A value and what hangs on it, as a debugger or an error tracker would show it."""
    yield value
    module = type(value).__module__
    if depth and module.startswith("tta_agent_coordination"):
        names = [*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())]
        for name in names:
            yield from reachable_from(getattr(value, name, None), depth - 1)


URLS = [
    f"redis://{LOGIN}host/0",
    f"rediss://{LOGIN}host/0",
    f"unix://{LOGIN}/tmp/socket",
    f"redis+cluster://{LOGIN}host:1,other:2",
    f"redis://host/0?username={USER}&password={SECRET}",
]


@pytest.mark.parametrize("url", URLS)
def test_no_object_of_ours_shows_the_password(url: str) -> None:
    address = target_of(url)
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        RedisAgentRegistry.from_url(url) as registry,
    ):
        worker = AgentWorker(Echo(ONE), coordinator, registry)
        shown = [
            coordinator,
            registry,
            worker,
            coordinator.internals.link,
            route_to(address, limit=1.0),
        ]
        for value in [one for top in shown for one in reachable_from(top)]:
            if type(value).__module__.startswith("tta_agent_coordination"):
                assert SECRET not in f"{value!r} {value}"
    if attrs.has(type(address)):
        assert SECRET not in repr(address)


@pytest.mark.parametrize("where", ["redis", "rediss", "unix", "redis+cluster"])
def test_the_error_of_a_server_that_is_not_there_shows_no_password(where: str) -> None:
    place = "/no/such/socket" if where == "unix" else f"127.0.0.1:{free_port()}"
    url = f"{where}://{LOGIN}{place}"
    with RedisMessageCoordinator.from_url(url, call_timeout=0.3) as coordinator:
        for _ in range(4):  # at last the circuit breaker opens
            error = failing(lambda: coordinator.stats(WORKER))
            assert isinstance(error, CoordinatorUnavailableError)
            assert_silent(error, USER)
        assert_silent(failing(coordinator.check), USER)


def test_the_error_of_a_wrong_password_does_not_show_it(
    own_server: OwnServers, capsys: pytest.CaptureFixture[str]
) -> None:
    server = own_server(tcp=True)
    server.admin.acl_setuser(USER, enabled=True, passwords=["+right"], commands=["+@all"])
    url = server.url.replace("redis://", f"redis://{LOGIN}")
    with RedisMessageCoordinator.from_url(url) as coordinator:
        for call in (
            lambda: coordinator.send_message(SENDER, WORKER, message()),
            lambda: coordinator.receive(WORKER, wait=1.0),
            coordinator.check,
        ):
            error = failing(call)
            assert isinstance(error, ConfigurationError)
            assert_silent(error)
        worker = AgentWorker(Echo(ONE), coordinator, threads=1)
        worker.start()
        eventually(lambda: worker.health().last_error, timeout=10, what="no error")
        assert SECRET not in repr(worker.health())
        worker.stop()
    for command in (["inbox", "worker"], ["doctor"], ["agents", "--once"]):
        assert main([*command, "--url", url]) == 2
    assert SECRET not in "".join(capsys.readouterr())


def test_arguments_that_are_refused_are_not_repeated_with_their_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with suppress(SystemExit):
        main(["inbox", f"redis://{LOGIN}host"])
    with suppress(SystemExit):
        main(["inbox", "a", f"redis://{LOGIN}host"])
    for url in MALFORMED:
        assert main(["inbox", "a", "--url", url]) == 2
    assert SECRET not in "".join(capsys.readouterr())


def test_a_working_server_is_used_without_a_word_of_the_password(
    own_server: OwnServers, capsys: pytest.CaptureFixture[str]
) -> None:
    server = own_server(tcp=True)
    server.admin.acl_setuser(
        USER, enabled=True, passwords=[f"+{SECRET}"], commands=["+@all"], keys=["*"]
    )
    url = server.url.replace("redis://", f"redis://{LOGIN}")
    with (
        RedisMessageCoordinator.from_url(url) as coordinator,
        AgentWorker(Echo(ONE), coordinator, threads=1),
    ):
        coordinator.request(SENDER, ONE, {}, timeout=10.0)
        server.restart()  # the user is gone, and every connection
        failing(lambda: coordinator.stats(WORKER))
        assert SECRET not in repr(coordinator)
    main(["doctor", "--url", url, "--json"])
    assert SECRET not in "".join(capsys.readouterr())
