"""The public keys of a JWKS URL: fetched in a thread, kept, and asked for anew in time."""

import asyncio
import logging
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.infrastructure.configuration.tls import is_loopback
from lykke_cli.web.tokens import VerifyingKey, fitting_algorithms, public_algorithms

TIMEOUT = 5.0  # seconds
LARGEST = 256 << 10  # bytes
MOST_KEYS = 64
LIFETIME = 300.0  # seconds until the keys are looked at again: one may have been taken back
COOL_DOWN = 30.0  # seconds between two fetches, when tokens name keys that nobody knows
FIRST_RETRY = 1.0  # seconds between two fetches while there are no keys at all

logger = logging.getLogger(__name__)


class KeyServer:
    """Keys by their ids. While the server is away, those that are known go on.

    `clock` gives seconds. Raises UsageMistake for algorithms that are none of public keys.
    """

    def __init__(
        self,
        url: str,
        algorithms: Collection[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._algorithms = public_algorithms(algorithms)
        self._clock = clock
        self._keys: list[tuple[str | None, VerifyingKey]] = []
        self._asked_at = self._fetched_at = float("-inf")
        self._is_away = False
        self._asking: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        if algorithm not in self._algorithms:
            return None
        found = self._known(kid, algorithm)
        if found is not None:
            if self._clock() - self._fetched_at > LIFETIME:
                self._ask()
            return found
        self._ask()
        if self._asking is not None:
            await asyncio.wait((self._asking,), timeout=TIMEOUT)
            found = self._known(kid, algorithm)
        if found is None and (self._asking or self._is_away or not self._keys):
            raise ServerUnavailable("The keys to check tokens with cannot be fetched now.")
        return found

    def _known(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """By the id; where the token names none, the only key."""
        if kid is None and len(self._keys) > 1:
            return None
        for name, key in self._keys:
            if kid in (None, name) and algorithm in key.algorithms:
                return key
        return None

    def _ask(self) -> None:
        """Begin to fetch, once for all who wait, unless it was done a moment ago."""
        pause = COOL_DOWN if self._keys else FIRST_RETRY
        if self._asking is None and self._clock() - self._asked_at >= pause:
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            self._is_away = True
            logger.warning("cannot fetch the keys of LYKKE_JWKS_URL: %s", error)
        else:
            self._is_away = False
            self._fetched_at = self._clock()
        finally:
            self._asking = None

    def _read(self) -> list[tuple[str | None, VerifyingKey]]:
        keys = list(read_key_set(fetch(self._url), self._algorithms))
        if not keys:
            raise ValueError("none of them can be used")
        return keys


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


def read_key_set(
    content: bytes, algorithms: Collection[str]
) -> Iterator[tuple[str | None, VerifyingKey]]:
    """The keys of a key set's JSON that are public and for these algorithms, with their ids.

    What is none of that is left out, as RFC 7517 says. Raises ValueError for no key set.
    """
    try:
        document = msgspec.json.decode(content, type=_KeySet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("what is there is no key set") from None
    for data in document.keys[:MOST_KEYS]:
        name, algorithm = data.get("kid"), data.get("alg")
        try:
            key = jwt.PyJWK(data).key
        except (jwt.PyJWTError, UnsupportedAlgorithm, LookupError, TypeError, ValueError):
            continue
        fitting = tuple(
            each
            for each in fitting_algorithms(key)
            if each in algorithms and algorithm in (None, each)
        )
        if fitting and data.get("use", "sig") == "sig" and isinstance(name, str | None):
            yield name, VerifyingKey(key, fitting)


def fetch(url: str) -> bytes:
    """What is at a URL, at most LARGEST; blocks. Raises OSError, without the URL in its text."""
    deadline = time.monotonic() + TIMEOUT
    content = b""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    # What is not secured is for this machine alone: no proxy of the environment's may answer it.
    proxies: dict[str, str] | None = {} if request.type == "http" else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _SameScheme)
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            while chunk := response.read1(LARGEST):
                content += chunk
                if len(content) > LARGEST:
                    raise OSError(f"more than {LARGEST >> 10} KiB")
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
    except HTTPError as error:
        error.close()
        raise OSError(f"HTTP status {error.code}") from None
    except (HTTPException, ValueError) as error:
        raise OSError(f"no HTTP answer ({type(error).__name__})") from None
    return content


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """A redirection never leaves TLS, nor this machine where there is none."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urlsplit(newurl)
        if target.scheme != req.type or (
            target.scheme == "http" and not is_loopback(target.hostname or "")
        ):
            fp.close()
            raise URLError("redirected away from where it is safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
