"""Certificates made on the spot, and TLS in front of servers that were built without it."""

import asyncio
import datetime
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme

from tests.faults.proxy import Proxy

YEAR = datetime.timedelta(days=365)
_HANDSHAKE = b"\x16"  # the first byte of TLS


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


class TlsProxy(Proxy):
    """Ends TLS on a free loopback port, and passes the rest on to the port `target`.

    With `postgres` a client asks for TLS first, in PostgreSQL's way.
    """

    HOST = "localhost"

    def __init__(self, target: int, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        super().__init__(target, tls=None if postgres else context)
        self._context = context
        self._postgres = postgres

    async def _serve(self) -> None:
        # What a client that refuses the certificate does to the handshake is its own affair.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await super()._serve()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            if self._postgres:
                await reader.readexactly(8)  # SSLRequest
                writer.write(b"S")
                await writer.start_tls(self._context)
            await super()._connected(reader, writer)
        writer.close()


class TlsOrPlainProxy(Proxy):
    """Speaks TLS with whoever begins with it, and passes on what others say as it is.

    So the servers behind such proxies may talk to each other plainly at the addresses at which
    clients find them by TLS.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(0)
        self._secured = TlsProxy(0, context)

    def __enter__(self) -> Self:
        super().__enter__()
        self._secured.lead_to(self.port)
        self._secured.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._secured.__exit__(*exc_info)
        super().__exit__(*exc_info)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            first = await reader.read(65536)
            target = self._secured.port if first[:1] == _HANDSHAKE else self._target
            await self._pass_on(reader, writer, target, first)
        writer.close()
