"""redis-py's errors, and those of our own connection, translated at the edge."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redis import exceptions

from lykke_cli.application.errors import LoginRefused, ServerUnavailable
from lykke_cli.infrastructure.configuration.network import network_reason
from lykke_cli.infrastructure.configuration.tls import REDIS_OPTIONS, tls_reason, tls_remedy
from lykke_cli.infrastructure.redis.connection import Refused

MOST_SHOWN = 200  # characters of a reason
_CLOSED = re.compile(r"closed by server|connection lost|reset by peer|broken pipe", re.IGNORECASE)
_OF_CLUSTERS: dict[str, type[exceptions.RedisError]] = {
    "MOVED": exceptions.MovedError,
    "ASK": exceptions.AskError,
    "TRYAGAIN": exceptions.TryAgainError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
}
_REFUSALS: dict[str, type[exceptions.RedisError]] = {
    "NOAUTH": exceptions.AuthenticationError,
    "WRONGPASS": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
    "LOADING": exceptions.BusyLoadingError,
    "ERR": exceptions.ResponseError,
}
_PASSWORD_REFUSED = (  # with the code ERR: where none is set, or the server is older than Redis 6
    *("AUTH <password> called without any password", "Client sent AUTH, but no password is set"),
    "invalid password",
)


class Situation(NamedTuple):
    """What is raised: its text about {server} and {why}, and the remedy."""

    kind: type[ServerUnavailable]
    text: str
    remedy: str


_REFUSED = Situation(
    ServerUnavailable,
    "Redis at {server} refused a command ({why}).",
    "Check the database number in REDIS_URL.",
)
_UNREACHABLE = Situation(
    ServerUnavailable,
    "Cannot reach Redis at {server} ({why}).",
    "Is it running{other_tls}? Set REDIS_URL or give --redis-url.",
)
# The first of these that is among an error and its causes decides.
_SITUATIONS: dict[tuple[type[BaseException], ...], Situation] = {
    (exceptions.AuthenticationError, exceptions.AuthorizationError): Situation(
        LoginRefused,
        "Redis at {server} refused the login ({why}).",
        "Check the user and the password in REDIS_URL.",
    ),
    (exceptions.NoPermissionError,): Situation(
        LoginRefused,
        "Redis at {server} does not permit this user to do that ({why}).",
        "Ask for the right with ACL SETUSER.",
    ),
    (ssl.SSLError,): Situation(
        ServerUnavailable,
        "Cannot reach Redis at {server} ({why}).",
        "{certificate} Set REDIS_URL or give --redis-url.",
    ),
    (exceptions.TimeoutError, TimeoutError): Situation(
        ServerUnavailable,
        "Redis at {server} did not answer in time.",
        "Is it overloaded or behind a firewall{or_no_tls}? Set REDIS_URL or give --redis-url.",
    ),
    (exceptions.ResponseError,): _REFUSED,
}


@contextmanager
def redis_errors(server: str) -> Iterator[None]:
    """Translate what redis-py raises, and Refused; `server` is the URL as it may be shown."""
    try:
        yield
    except (exceptions.RedisError, OSError, Refused) as error:
        raise translate(error, server) from error


def translate(error: BaseException, server: str) -> ServerUnavailable:
    """What to raise instead: one line with the server, the reason and the remedy."""
    if isinstance(error, Refused):
        error = _refusal(str(error))
    causes, why = _chain(error), reason(error)
    situation = next(
        (
            situation
            for kinds, situation in _SITUATIONS.items()
            if any(isinstance(cause, kinds) for cause in causes)
        ),
        _UNREACHABLE,
    )
    remedy = situation.remedy if situation is not _REFUSED or "DB index" in why else None
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    hints = {
        "certificate": "" if tls is None else tls_remedy(tls, REDIS_OPTIONS),
        "or_no_tls": ", or does its port not speak TLS" if server.startswith("rediss:") else "",
        "other_tls": _other_tls(server) if _CLOSED.search(why) else "",
    }
    return situation.kind(
        situation.text.format(server=server, why=why),
        remedy=None if remedy is None else remedy.format(**hints),
    )


def refused_as(error: BaseException | None) -> type[BaseException] | None:
    """The class of a refusal; below its version 5 redis-py knows a cluster's only in its own client
    of clusters."""
    code = str(error).partition(" ")[0]
    return None if error is None else _OF_CLUSTERS.get(code, type(error))


def _refusal(text: str) -> exceptions.RedisError:
    """The server's answer as the error that redis-py would make of it."""
    code, _, rest = text.partition(" ")
    if rest.startswith(_PASSWORD_REFUSED):
        return exceptions.AuthenticationError(rest)
    kind = _REFUSALS.get(code)
    return exceptions.ResponseError(text) if kind is None else kind(rest)


def _other_tls(server: str) -> str:
    """What a server that hangs up may mean: it does not say so, or not in time to be heard."""
    if server.startswith("rediss:"):
        names = f"{REDIS_OPTIONS.certificate}=FILE and {REDIS_OPTIONS.key}=FILE"
        return f", and does it accept the client certificate, if any, of {names}"
    return ", and does it want TLS (rediss://)" if server.startswith("redis:") else ""


def reason(error: BaseException) -> str:
    """The innermost reason, on one line: redis-py's own text repeats the address."""
    cause = _chain(error)[-1]
    if isinstance(cause, ssl.SSLError):
        return tls_reason(cause)
    if isinstance(cause, OSError) and (text := network_reason(cause)) is not None:
        return text
    # A server that does not know AUTH repeats its arguments, the password among them.
    text = " ".join(str(cause).split()).partition(", with args beginning with")[0].rstrip(".")
    return text[:MOST_SHOWN] or type(cause).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first.

    An OSError is where it began: its context is an attempt before it.
    """
    chain, inner = [error], error.__cause__ or error.__context__
    while isinstance(inner, exceptions.RedisError | OSError) and inner not in chain:
        chain.append(inner)
        inner = inner.__cause__ or (None if isinstance(inner, OSError) else inner.__context__)
    return chain
