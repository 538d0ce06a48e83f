"""Why a connection did not come about, in a few words."""

import os
import re
import socket

_ERRNO = re.compile(r"\[Errno (-?\d+)\]")


def network_reason(error: OSError) -> str | None:
    """What the system says, without the address; None where it does not say."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    if error.errno:
        return os.strerror(error.errno).lower()
    numbers = _ERRNO.findall(str(error))  # several addresses were tried, each in vain
    return os.strerror(int(numbers[-1])).lower() if numbers else None
