"""The sockets that a bridge listens on, and how they are named."""

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from lykke_cli.application.errors import UsageMistake

MANY_FILES = 1 << 20


def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, all on one port, which 0 leaves to the system.

    They do not listen yet: nobody is kept waiting by a bridge that is still starting. Raises
    UsageMistake where an address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UsageMistake(
            f"--host {host}: there is no such host; 127.0.0.1 is this machine alone, 0.0.0.0 all "
            "its addresses."
        ) from None
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, (address[0], port)))
        except OSError as error:
            failures.append(error)
            continue
        port = sockets[-1].getsockname()[1]
    is_whole = all(error.errno == errno.EADDRNOTAVAIL for error in failures)  # as ::1 may be
    if sockets and is_whole:
        return sockets
    for opened in sockets:
        opened.close()
    raise _mistake(failures, host, port)


def is_local(sockets: Sequence[socket.socket]) -> bool:
    """Whether only this machine reaches them."""
    return all(ipaddress.ip_address(each.getsockname()[0]).is_loopback for each in sockets)


def url(host: str, sockets: Sequence[socket.socket]) -> str:
    """Where clients find them."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{sockets[0].getsockname()[1]}"


def allow_many_files() -> None:
    """Let this process, and those that it makes, have as many sockets as the system allows."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bound(family: int, address: tuple[str | int, int]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two have the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _mistake(failures: Sequence[OSError], host: str, port: int) -> UsageMistake:
    numbers = {error.errno for error in failures}
    if errno.EADDRINUSE in numbers:
        return UsageMistake(f"--port {port}: another program has it on {host}; give another port.")
    if errno.EACCES in numbers:
        return UsageMistake(
            f"--port {port}: this user may not have it; give one from 1024 on, and a proxy before "
            "it."
        )
    if errno.EADDRNOTAVAIL in numbers:
        return UsageMistake(
            f"--host {host}: that is no address of this machine; 0.0.0.0 is all that it has."
        )
    reason = os.strerror(failures[0].errno or 0)
    return UsageMistake(f"--host {host} --port {port}: cannot listen there: {reason}.")
