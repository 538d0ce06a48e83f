"""How much of a bridge one client may take, so that the others get their share."""

import ipaddress
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from uuid import UUID

import msgspec

from lykke_cli.domain.errors import LykkeError

IPV6_NETWORK = 64  # bits: what one household or machine is given is at least that


class TooMany(LykkeError):
    """There are too many connections already: close 4429, or HTTP 429."""

    code = "too_many"


EVERYBODY = "*"  # no address of a client


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may take. Raises ValueError where a limit lets nothing through."""

    sockets_per_user: int = 50
    """Connections at a time that follow one user, or every user, in one process."""
    sockets_per_address: int = 1000
    """Connections at a time from one address (of IPv6 a /64), in one process."""
    message_bytes: int = 64 << 10
    """The largest message that a client may send."""
    messages_per_second: float = 10
    """How many a client may send for long; as many may come at once."""
    heartbeat: float = 25.0
    """Seconds without a message, after which one is sent."""
    stall: float = 30.0
    """Seconds that a client may leave what it was sent untaken."""
    handshake: float = 5.0
    """Seconds that a client has to say who it is and where it begins."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be more than 0, and not infinite")


class Allowance:
    """How many messages a client may still send: `rate` a second, and as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._left = self._most
        self._at: float | None = None

    def takes(self, now: float) -> bool:
        """Whether one more may come, at this time of a monotonic clock; it is counted if so."""
        if self._at is not None:
            self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Seats:
    """How many connections there are, of each user and from each address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken = Counter[UUID | str]()

    def taken(self, followed: UUID | str | None, address: str) -> AbstractContextManager[None]:
        """One connection more for the length of the block; raises TooMany before it begins.

        Without an `address`, as on a Unix socket, only those of whom it follows are counted, which
        is a user, or EVERYBODY; and as long as that is not known, only the address's.
        """
        network = network_of(address)
        if followed and self._taken[followed] >= self._limits.sockets_per_user:
            raise TooMany(f"There are too many connections that follow {_in_words(followed)}.")
        if network and self._taken[network] >= self._limits.sockets_per_address:
            raise TooMany("There are too many connections from this address.")
        return _Seat(self._taken, [one for one in (followed, network) if one])

    def __len__(self) -> int:
        """How many users and addresses are remembered; none once all have gone."""
        return len(self._taken)


class _Seat:
    """One connection more. A class, as there are thousands: a generator takes more memory."""

    __slots__ = ("_taken", "_whose")

    def __init__(self, taken: Counter[UUID | str], whose: Sequence[UUID | str]) -> None:
        self._taken, self._whose = taken, whose

    def __enter__(self) -> None:
        self._taken.update(self._whose)

    def __exit__(self, *exc_info: object) -> None:
        self._taken.subtract(self._whose)
        for one in self._whose:
            if not self._taken[one]:
                del self._taken[one]


def _in_words(followed: UUID | str) -> str:
    return "every user" if followed == EVERYBODY else "this user"


def network_of(address: str) -> str:
    """What an address counts for: an IPv6 one for its /64, an IPv4 one that is mapped for itself.

    Whatever else a server gives for an address is taken as it is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip.packed, IPV6_NETWORK), strict=False))
    return str(ip)
