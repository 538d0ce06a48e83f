"""BridgeProtocol over WebSockets, by the library `websockets` of the extra `serve`.

No redirect is followed, as the token would go along; no message is compressed, so that a small
frame is no large one; and a proxy is used where the environment names one.
"""

import logging
import ssl
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from errno import ECONNREFUSED
from importlib.util import find_spec
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from lykke_cli.application.bridge_frames import SUBPROTOCOL, Problem
from lykke_cli.application.bridge_refusals import (
    not_ready,
    reading_refused,
    request_refused,
    token_refused,
)
from lykke_cli.application.errors import ServerUnavailable, UsageMistake
from lykke_cli.application.gateways.bridge_protocol import (
    BROKEN_OFF,
    BridgeClosed,
    BridgeConnection,
    BridgeRefused,
)
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.bridge import BridgeSettings
from lykke_cli.infrastructure.configuration.network import network_reason
from lykke_cli.infrastructure.configuration.tls import (
    BRIDGE_OPTIONS,
    is_loopback,
    tls_reason,
    tls_remedy,
)

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed

CONNECT_WAIT = 10.0  # seconds for a connection with its handshakes
CLOSE_WAIT = 1.0  # seconds for the other side's answer to a close frame
LARGEST_FRAME = 32 << 20  # bytes; a bridge sends 256 KiB at once, and more only of a larger entry
FRAMES_AHEAD = 4  # that are taken from the network before they are asked for
_MALFORMED = {1002, 1003, 1007}  # what this side closes with when frames make no sense
_TOO_LARGE = 1009
_MOST_OF_A_REASON = 4 << 10  # bytes of an answer in which a reason is looked for


def require_websockets() -> None:
    """Raises UsageMistake when the library is not installed."""
    if find_spec("websockets") is None:
        raise UsageMistake("--from needs the extra serve: pip install 'lykke-cli[serve]'.")


class WebSocketBridge:
    """BridgeProtocol; connects when it is asked to."""

    def __init__(self, settings: BridgeSettings) -> None:
        require_websockets()
        self._settings = settings
        self._address = settings.address
        self._used: str | None = None  # the token of the last login

    @property
    def name(self) -> str:
        return self._address.url

    def has_other_token(self) -> bool:
        return self._settings.read_token() != self._used

    @asynccontextmanager
    async def connect(
        self, user_id: UUID, query: Sequence[tuple[str, str]]
    ) -> AsyncGenerator[BridgeConnection]:
        from websockets.asyncio.client import connect
        from websockets.typing import Subprotocol

        class Connecting(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        self._used = token = self._settings.read_token()
        address = self._address
        # What is not secured is for this machine alone, so that it goes through no proxy.
        is_beside = not address.is_secure and is_loopback(address.host)
        with self._errors():
            connection = await Connecting(
                address.socket_url(user_id, query),
                ssl=address.tls(),
                proxy=None if is_beside else True,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
                compression=None,
                open_timeout=CONNECT_WAIT,
                close_timeout=CLOSE_WAIT,
                ping_interval=None,  # it sends heartbeats
                max_size=LARGEST_FRAME,
                max_queue=FRAMES_AHEAD,
                logger=_silent(),
            )
        try:
            if connection.subprotocol != SUBPROTOCOL:
                raise self._no_bridge(f"it does not speak {SUBPROTOCOL}")
            yield _Connection(connection, self.name)
        finally:
            await connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate why there is no connection."""
        from websockets.exceptions import (
            InvalidProxy,
            InvalidStatus,
            ProxyError,
            WebSocketException,
        )

        try:
            yield
        except InvalidStatus as error:
            answer = error.response
            location = answer.headers.get("Location", "")
            raise self._refusal(answer.status_code, bytes(answer.body or b""), location) from error
        except ssl.SSLError as error:
            remedy = tls_remedy(error, BRIDGE_OPTIONS)
            raise ServerUnavailable(
                f"Cannot reach the bridge at {self.name} ({tls_reason(error)}).", remedy=remedy
            ) from error
        except TimeoutError as error:
            raise ServerUnavailable(
                f"The bridge at {self.name} did not answer in time.",
                remedy="Is it overloaded or behind a firewall?",
            ) from error
        except InvalidProxy as error:
            raise UsageMistake(
                "The proxy in the environment cannot be used: its URL is like http://host:3128."
            ) from error
        except ImportError as error:  # python-socks, which is looked for where it is needed
            raise UsageMistake(
                "The proxy in the environment is a SOCKS proxy: pip install python-socks[asyncio]."
            ) from error
        except ProxyError as error:
            raise ServerUnavailable(
                f"Cannot reach the bridge at {self.name}: the proxy in the environment refused.",
                remedy="NO_PROXY names the hosts that are reached without it.",
            ) from error
        except WebSocketException as error:
            if isinstance(error.__cause__, EOFError):  # it is restarted, or what is before it
                raise ServerUnavailable(
                    f"Cannot reach the bridge at {self.name} (it hung up).",
                    remedy="Is `lykke serve` running there?",
                ) from error
            raise self._no_bridge("what answers speaks no WebSocket") from error
        except OSError as error:
            why = network_reason(error) or "it hung up"
            is_cut_off = isinstance(error, ConnectionError) and error.errno != ECONNREFUSED
            tls = ", and does its port speak TLS" if self._address.is_secure and is_cut_off else ""
            raise ServerUnavailable(
                f"Cannot reach the bridge at {self.name} ({why}).",
                remedy=f"Is `lykke serve` running there{tls}?",
            ) from error

    def _refusal(self, status: int, body: bytes, location: str) -> LykkeError:
        why = _reason_in(body)
        match status:
            case 400:
                return request_refused(self.name, why)
            case 401 | 407:
                return token_refused(self.name, why)
            case 403:
                return reading_refused(self.name, why)
            case 429 | 500 | 502 | 503 | 504:
                return not_ready(self.name, why or f"HTTP {status}")
            case 300 | 301 | 302 | 303 | 307 | 308:
                where = f"{' '.join(location.split())[:200]!r}"
                return self._no_bridge(f"it leads on to {where}, which is not followed")
        return self._no_bridge(f"HTTP {status}")

    def _no_bridge(self, why: str) -> ServerUnavailable:
        return ServerUnavailable(
            f"There is no bridge at {self.name} ({why}).",
            remedy="--from takes the URL of `lykke serve`, with the prefix it has there, if any.",
        )


class _Connection:
    """BridgeConnection."""

    def __init__(self, connection: "ClientConnection", name: str) -> None:
        self._connection = connection
        self._name = name

    async def send(self, frame: bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(frame, text=True)
        except ConnectionClosed as error:
            raise self._end(error) from error

    async def receive(self) -> bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise self._end(error) from error

    def _end(self, error: "ConnectionClosed") -> LykkeError:
        """What the end of it means; where the frames made no sense, this side has closed first."""
        if error.rcvd is not None and not error.rcvd_then_sent:
            return BridgeClosed(code=error.rcvd.code, reason=error.rcvd.reason)
        sent = None if error.sent is None or error.rcvd_then_sent else error.sent.code
        if sent == _TOO_LARGE:
            most = f"{LARGEST_FRAME >> 20} MiB"
            return BridgeRefused(
                f"The bridge at {self._name} sent a message of more than {most}.",
                remedy="No entry is as large; is it a bridge at all?",
            )
        if sent in _MALFORMED:
            return BridgeRefused(
                f"The bridge at {self._name} sent what is no WebSocket message.",
                remedy="Is there a proxy between that changes it?",
            )
        if error.rcvd is not None:
            return BridgeClosed(code=error.rcvd.code, reason=error.rcvd.reason)
        return BridgeClosed(code=BROKEN_OFF)


def _reason_in(body: bytes) -> str:
    """The message of an HTTP answer of ours; empty where it is another's."""
    try:
        return msgspec.json.decode(body[:_MOST_OF_A_REASON], type=Problem).message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _silent() -> logging.Logger:
    """For the library: whatever goes wrong it raises as well, and in detail it logs the token."""
    log = logging.getLogger("websockets.of_lykke")
    log.setLevel(logging.CRITICAL)
    return log
