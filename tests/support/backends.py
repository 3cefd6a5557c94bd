"""What the tests of the contract run over, each for the length of one test."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import fakeredis
import redis
from redis.cluster import RedisCluster
from redis.connection import ConnectionPool

from tests.support.servers import Client, LocalCluster, LocalServer, binary_of, close_client
from tta_agent_coordination.proxy import FaultProxy
from tta_agent_coordination.testing import Sandbox
from tta_agent_coordination.transport import access

IN_MEMORY = ("fakeredis", "sandbox")
"""Those without a server: fakeredis, and what the library's users test with."""

REAL_BACKENDS = ("valkey", "redis62", "cluster", "path")
"""Those with a server, before which a proxy can stand."""

BACKENDS = IN_MEMORY + REAL_BACKENDS
"""Every back end; a ``backend`` mark on a test chooses among them."""

_SCAN_BATCH = 1000

LIMITED = ("limited", "password-of-limited")
"""User and password of one who may do what the library needs, and no more, to the tests' keys."""

_RULES = ["on", f">{LIMITED[1]}", "~test*", "~workers*", *access.rules("test"), "+ping"]


class TwoUsersPool(ConnectionPool):
    """What a test sends itself it sends as the default user, who may do everything.

    A coordinator that is given a client of this pool finds the name and the password of the
    limited user there, and logs in as that one.
    """

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        user, password = LIMITED
        self.connection_kwargs |= {"username": user, "password": password}

    def make_connection(self) -> object:
        limited = self.connection_kwargs
        self.connection_kwargs = {**limited, "username": None, "password": None}
        try:
            return super().make_connection()
        finally:
            self.connection_kwargs = limited


class Servers:
    """The servers of a test session, each started when a test first asks for it."""

    def __init__(self) -> None:
        self._started: dict[str, LocalServer | LocalCluster] = {}

    def get(self, name: str) -> LocalServer | LocalCluster:
        if name not in self._started:
            binary = binary_of(name)
            self._started[name] = (
                LocalCluster(binary)
                if name == "cluster"
                else LocalServer(binary, options=("--user", LIMITED[0], *_RULES))
            )
        return self._started[name]

    def connections(self) -> set[str]:
        """Every client connection of every server, without the tests' own."""
        nodes = [node for server in self._started.values() for node in nodes_of(server)]
        return set[str]().union(*(node.connections() for node in nodes))

    def close(self) -> None:
        for server in self._started.values():
            server.close()


def nodes_of(server: LocalServer | LocalCluster) -> list[LocalServer]:
    """Return the single servers of which it consists."""
    return server.nodes if isinstance(server, LocalCluster) else [server]


class Backend:
    """One back end as one test sees it.

    Attributes:
        name: One of `BACKENDS`.
        url: URL for ``from_url``, or None in memory, where there is none.
        addresses: Where its servers listen, as a `FaultProxy` wants them.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[..., Client],
        admins: Sequence[redis.Redis],
        *,
        server: LocalServer | LocalCluster | None = None,
    ) -> None:
        self.name = name
        self.url = server.url if server else None
        self.addresses = tuple(node.address for node in nodes_of(server)) if server else ()
        self._server = server
        self._connect = connect
        self._admins = admins
        self._clients: list[Client] = []

    @property
    def in_memory(self) -> bool:
        """Whether there is no server."""
        return self._server is None

    @property
    def restartable(self) -> bool:
        """Whether `restart` works."""
        return isinstance(self._server, LocalServer)

    def client(self, **options: object) -> Client:
        """Return a new client with redis-py's defaults and ``options``; closed with the test."""
        return self._keep(self._connect(**options))

    def client_through(self, proxy: FaultProxy, **options: object) -> Client:
        """Return a new client that reaches the server through ``proxy``; closed with the test."""
        if self.name == "cluster":
            options["address_remap"] = proxy.remap
            return self._keep(RedisCluster.from_url(proxy.url, **options))
        return self._keep(two_users_client(proxy.url, **options))

    def restart(self) -> None:
        """Kill the server with SIGKILL and start it again, empty, at the same address."""
        assert isinstance(self._server, LocalServer), f"{self.name} is not restartable"
        self._server.restart()

    def keys(self, pattern: str = "*") -> list[bytes]:
        """Every key stored now, on all primaries."""
        return [key for admin in self._admins for key in _scan(admin, pattern)]

    def delete_keys(self, pattern: str = "*") -> None:
        """Delete the keys that match ``pattern``; the server is the tests' own."""
        for admin in self._admins:
            for key in _scan(admin, pattern):
                admin.unlink(key)

    def close(self) -> None:
        """Close every client that it made."""
        for client in self._clients:
            close_client(client)

    def _keep(self, client: Client) -> Client:
        self._clients.append(client)
        return client


def _scan(admin: redis.Redis, pattern: str) -> list[bytes]:
    return list(admin.scan_iter(match=pattern, count=_SCAN_BATCH))


@contextmanager
def open_backend(name: str, servers: Servers) -> Iterator[Backend]:
    """Offer a back end for one test; its clients are closed behind it."""
    with ExitStack() as opened:
        backend = _in_memory(name, opened) if name in IN_MEMORY else _real(name, servers.get(name))
        opened.callback(backend.close)
        yield backend


def _in_memory(name: str, opened: ExitStack) -> Backend:
    connect = (
        partial(fakeredis.FakeRedis, server=fakeredis.FakeServer())
        if name == "fakeredis"
        else opened.enter_context(Sandbox()).client
    )
    return Backend(name, connect, [connect()])


def _real(name: str, server: LocalServer | LocalCluster) -> Backend:
    connect = RedisCluster.from_url if isinstance(server, LocalCluster) else two_users_client
    admins = [node.admin for node in nodes_of(server)]
    return Backend(name, partial(connect, server.url), admins, server=server)


def two_users_client(url: str, **options: object) -> redis.Redis:
    """Return a client with a `TwoUsersPool`."""
    single = options.pop("single_connection_client", False)
    pool = TwoUsersPool.from_url(url, **options)
    client = redis.Redis(connection_pool=pool, single_connection_client=single)
    client.auto_close_connection_pool = True
    return client
