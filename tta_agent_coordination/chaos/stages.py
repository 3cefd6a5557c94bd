"""The servers of a run: one given, one of its own, or several of its own."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from tta_agent_coordination.chaos.settings import ChaosError
from tta_agent_coordination.embedded import EmbeddedServer
from tta_agent_coordination.proxy import Address
from tta_agent_coordination.transport.console import Console

AOF_ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
AOF_EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")


class Stage(ABC):
    """The servers that a scenario plays on; a context manager.

    Attributes:
        url: Where coordinators find them.
    """

    url: str

    @abstractmethod
    def console(self) -> Console:
        """Return the console of the server that holds the inbox now."""

    @abstractmethod
    def consoles(self) -> Sequence[Console]:
        """Return those of all servers that hold keys, where they are this run's own."""

    @abstractmethod
    def close(self) -> None:
        """End what was started."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class GivenServer(Stage):
    """A server of somebody's, which is only asked what any client may ask."""

    def __init__(self, url: str) -> None:
        """Use the server at `url`."""
        self.url = url
        self._console = Console(url)

    def console(self) -> Console:
        """See `Stage.console`."""
        return self._console

    def consoles(self) -> Sequence[Console]:
        """Return none: other keys there are no concern of ours."""
        return ()

    def close(self) -> None:
        """Close the connection."""
        self._console.close()


class OwnServer(Stage):
    """One server of the run's own.

    Attributes:
        port: Of 127.0.0.1; None: it has a unix socket.
    """

    def __init__(
        self, folder: Path, options: Sequence[str] = (), *, port: int | None = None
    ) -> None:
        """Start it in `folder`, at a unix socket unless a port is given."""
        self.port = port
        self._folder = folder
        self._options = tuple(options)
        self._server = EmbeddedServer(directory=folder, port=port, options=options)
        self._server.start()
        self.url = self._server.url
        self._console = Console(self.url)

    def console(self) -> Console:
        """See `Stage.console`."""
        return self._console

    def consoles(self) -> Sequence[Console]:
        """See `Stage.consoles`."""
        return (self._console,)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._server.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, and return when it is gone."""
        self.signal(signal.SIGKILL)
        self._server.stop()
        self._console.close()

    def start(self, *more: str) -> None:
        """Start it again where it was, with what it had written to its disk and `more` options."""
        self._server = EmbeddedServer(
            directory=self._folder, port=self.port, options=(*self._options, *more)
        )
        self._server.start()

    def close(self) -> None:
        """End it."""
        self._console.close()
        self._server.stop()


def address_of(url: str) -> Address:
    """Return where a server listens, for a proxy before it.

    Raises:
        ChaosError: A proxy cannot stand before it: it is a cluster, or speaks TLS.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    if parts.scheme == "redis":
        return (parts.hostname or "localhost", parts.port or 6379)
    raise ChaosError(f"a proxy can only stand before redis:// and unix://, not {parts.scheme}://")


def through(url: str, port: int) -> str:
    """Return the URL of the same server through a proxy at this port of 127.0.0.1."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    path = "" if parts.scheme == "unix" else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"redis://{login}{at}127.0.0.1:{port}{path}{query}"
