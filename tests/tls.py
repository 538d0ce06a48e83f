"""Certificates made on the spot, and TLS in front of servers that were built without it."""

import asyncio
import datetime
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme

YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; its own, in the file `file`, is what the other side is to trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def sign(self, host: str, *, name: str | None = None, expired: bool = False) -> Identity:
        """For `host`, and the user `name` as its common name."""
        now = datetime.datetime.now(datetime.UTC)
        since, until = (now - 2 * YEAR, now - YEAR) if expired else (None, None)
        leaf = self._ca.issue_cert(host, common_name=name, not_before=since, not_after=until)
        stem = f"{self.file.stem}-{name or host}{'-expired' if expired else ''}"
        identity = Identity(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        leaf.cert_chain_pems[0].write_to_path(identity.certificate)
        leaf.private_key_pem.write_to_path(identity.key)
        identity.key.chmod(0o600)
        return identity


def server_context(identity: Identity, clients: Authority | None = None) -> ssl.SSLContext:
    """A server's side of TLS; with `clients` they must show a certificate that it signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    if clients is not None:
        context.load_verify_locations(clients.file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsProxy:
    """Ends TLS on a free loopback port, and passes the rest on to the port `target`.

    With `postgres` a client asks for TLS first, in PostgreSQL's way.
    """

    def __init__(self, target: int, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        self.port = 0
        self._target = target
        self._context = context
        self._postgres = postgres
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # What a client that refuses the certificate does to the handshake is its own affair.
        self._loop.set_exception_handler(lambda *_: None)
        server = await asyncio.start_server(self._connected, "localhost", 0, family=2)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            if self._postgres:
                await reader.readexactly(8)  # SSLRequest
                writer.write(b"S")
            await writer.start_tls(self._context)
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
