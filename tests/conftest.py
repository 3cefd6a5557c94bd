"""Fixtures for every test, and some that let no test leave a thread or a connection behind."""

import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.backends import BACKENDS, REAL_BACKENDS, Backend, Servers, open_backend
from tests.support.servers import Client, LocalServer, binary_of
from tests.support.stopped_clock import Clock
from tests.support.waiting import holds_within
from tta_agent_coordination.proxy import FaultProxy

TIDY_UP_TIME = 5.0
"""Seconds that threads and connections get to end after a test."""

OwnServers = Callable[..., LocalServer]


_LONGEST = ("integration", "stateful", "chaos", "migrate", "processes")
"""Folders with tests that take half a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or one worker of pytest-xdist is left with it at the end."""
    items.sort(key=lambda item: item.path.parent.name not in _LONGEST)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a back end over those that its mark names, or over all."""
    if "backend" not in metafunc.fixturenames:
        return
    fitting = REAL_BACKENDS if "proxy" in metafunc.fixturenames else BACKENDS
    mark = metafunc.definition.get_closest_marker("backend")
    names = mark.args if mark else fitting
    if not set(names) <= set(fitting):
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: back ends are {fitting}")
    metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The session's servers (each worker of pytest-xdist is a session), started when needed."""
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail the test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + TIDY_UP_TIME
    for thread in set(threading.enumerate()) - before:
        thread.join(max(deadline - time.monotonic(), 0.0))
    left = sorted(thread.name for thread in set(threading.enumerate()) - before)
    assert not left, f"threads left behind: {left}"


@pytest.fixture(autouse=True)
def no_connection_left_behind(servers: Servers) -> Iterator[None]:
    """Fail the test that leaves a connection to a server of the session behind."""
    before = servers.connections()
    yield
    tidy = holds_within(TIDY_UP_TIME, lambda: servers.connections() <= before)
    assert tidy, f"connections left behind: {sorted(servers.connections() - before)}"


@pytest.fixture(autouse=True)
def tracing_left_on() -> Iterator[None]:
    """Fail the test after which coverage is measured no more."""
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before, f"it left {sys.gettrace()} in place of {before}"


@pytest.fixture
def backend(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Backend]:
    """A back end; every key that the test stored must be deleted again at its end.

    Keys under ``key_prefix`` are, by themselves.
    """
    with open_backend(request.param, servers) as backend:
        yield backend
        left = backend.keys()
        backend.delete_keys()
    assert not left, f"keys left behind: {sorted(left)[:20]}"


@pytest.fixture
def client(backend: Backend) -> Client:
    """A client of the back end, with redis-py's defaults."""
    return backend.client()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this process, and of fakeredis, stands still."""
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    return clock


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Closes what a test opened, the last first."""
    with ExitStack() as closing:
        yield closing


@pytest.fixture
def key_prefix(backend: Backend) -> Iterator[str]:
    """A prefix of the test's own; the keys under it are deleted at its end."""
    prefix = f"test-{secrets.token_hex(6)}"
    yield prefix
    backend.delete_keys(f"{prefix}*")


@pytest.fixture
def proxy(backend: Backend) -> Iterator[FaultProxy]:
    """A proxy before the back end's servers: see `Backend.client_through`."""
    with FaultProxy(*backend.addresses) as proxy:
        yield proxy


@pytest.fixture
def own_server() -> Iterator[OwnServers]:
    """Start servers for this test alone: ``own_server("valkey", tcp=True, options=(...))``.

    The first argument is ``valkey`` (the default), ``redis62`` or ``path``; the others are those
    of `LocalServer`.
    """
    with ExitStack() as started:

        def start(name: str = "valkey", **options: object) -> LocalServer:
            return started.enter_context(LocalServer(binary_of(name), **options))

        yield start
