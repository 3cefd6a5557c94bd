"""TLS before a server that has none, with certificates of the tests' own."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from tta_agent_coordination.proxy import Address

CALL_TIMEOUT = 5.0
"""Seconds that the thread may take to start and to end."""


class Authority:
    """A certificate authority.

    Attributes:
        file: Its own certificate, as ``ssl_ca_certs`` wants it.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.file = str(folder / "authority.pem")
        self._authority.cert_pem.write_to_path(self.file)

    def server(self, *names: str, days: float = 1.0, mutual: bool = False) -> ssl.SSLContext:
        """What a server of these names needs, for so many days from now.

        It asks for a certificate of the client's, if it is ``mutual``.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        end = datetime.now(UTC) + timedelta(days=days)
        self._authority.issue_cert(*names, not_after=end).configure_cert(context)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            self._authority.configure_trust(context)
        return context

    def client(self, name: str) -> dict[str, str]:
        """A client's certificate, as settings of redis-py."""
        issued = self._authority.issue_cert(name)
        certificate, key = self._folder / "client.pem", self._folder / "client.key"
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


class TlsFront:
    """Listens on a loopback port, ends TLS there and passes everything on; one named thread.

    Attributes:
        port: Where it listens.
        shaken: How many connections got through the handshake.
    """

    def __init__(self, context: ssl.SSLContext, server: Address) -> None:
        self._context = context
        self._server = server
        self.port = 0
        self.shaken = 0
        self._loop = asyncio.new_event_loop()
        self._links: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front")

    def url(self, host: str = "localhost", login: str = "") -> str:
        return f"rediss://{login}{host}:{self.port}/0"

    def present(self, context: ssl.SSLContext) -> None:
        """Show another certificate to whoever connects from now on."""
        self._call(self._listen_anew(context))

    def __enter__(self) -> Self:
        self._loop.set_exception_handler(lambda _loop, _context: None)  # refused handshakes
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()

    def _call(self, job: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(job, self._loop)
        return future.result(CALL_TIMEOUT)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._context
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _listen_anew(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener.close()
        await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.shaken += 1
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        if isinstance(self._server, str):
            far_reader, far_writer = await asyncio.open_unix_connection(self._server)
        else:
            far_reader, far_writer = await asyncio.open_connection(*self._server)
        ways = [
            asyncio.create_task(_pump(reader, far_writer)),
            asyncio.create_task(_pump(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, far_writer):
                end.transport.abort()

    async def _shut(self) -> None:
        self._listener.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await asyncio.sleep(0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
