"""redis-py's errors, translated at the edge; and URLs fit to be shown."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from redis import exceptions

from lykke_cli.application.errors import LoginRefused, ServerUnavailable, UsageMistake

_SCHEMES = ("redis", "rediss", "unix")
_REMEDY = "Is it running? Set REDIS_URL or give --redis-url."


def display_url(url: str) -> str:
    """The URL without password and query; raises UsageMistake for one that is malformed."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _SCHEMES or (parts.scheme != "unix" and not parts.hostname):
        raise UsageMistake(
            "The Redis URL is malformed: write it like redis://user:password@host:6379/0, "
            "rediss://... or unix:///path."
        )
    user = f"{parts.username}@" if parts.username else ""
    if parts.scheme == "unix":
        return f"unix://{user}{parts.path}"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    path = parts.path if parts.path.strip("/") else ""
    return f"{parts.scheme}://{user}{host}:{port or 6379}{path}"


@contextmanager
def redis_errors(server: str) -> Iterator[None]:
    """Translate what redis-py raises; `server` is the URL as it may be shown."""
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
        raise LoginRefused(
            f"Redis at {server} refused the login ({reason(error)}). Check the user and the "
            "password in REDIS_URL."
        ) from error
    except exceptions.NoPermissionError as error:
        raise LoginRefused(
            f"Redis at {server} does not permit this user to do that ({reason(error)}). "
            "Ask for the right with ACL SETUSER."
        ) from error
    except (exceptions.TimeoutError, TimeoutError) as error:
        raise ServerUnavailable(
            f"Redis at {server} did not answer in time. Is it overloaded or behind a firewall? "
            "Set REDIS_URL or give --redis-url."
        ) from error
    except exceptions.ResponseError as error:
        raise ServerUnavailable(
            f"Redis at {server} refused a command ({reason(error)})."
        ) from error
    except (exceptions.RedisError, OSError) as error:
        raise ServerUnavailable(
            f"Cannot reach Redis at {server} ({reason(error)}). {_REMEDY}"
        ) from error


def reason(error: BaseException) -> str:
    """The error's innermost reason: redis-py's own text repeats the address."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()  # asyncio's own text repeats it too
    return str(cause).rstrip(".") or type(cause).__name__
