"""Live messages that wait while history is printed."""

from collections.abc import Iterable, Sequence

from lykke_cli.application.messages import Arrival, Entry


class HeldBack:
    """At most `limit` of them, and `limit_bytes` of payloads and one message more."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self.arrivals: list[Arrival] = []
        self.overflowed = False
        """True once entries were dropped: the database, where they are, must be asked again."""

    def __len__(self) -> int:
        return len(self.arrivals)

    def add(self, arrivals: Sequence[Arrival]) -> None:
        """Hold these messages too.

        Where there is no room the entries are let go, as history has them, and of the other
        messages the newest are kept.
        """
        more = list(arrivals)
        self.arrivals += more
        self._bytes += _size(more)
        if len(self.arrivals) > self._limit or self._bytes > self._limit_bytes:
            self.overflowed = True
            others = [a for a in self.arrivals if not isinstance(a.message, Entry)]
            self.arrivals = others[-self._limit :]
            while _size(self.arrivals) > self._limit_bytes and len(self.arrivals) > 1:
                self.arrivals = self.arrivals[len(self.arrivals) // 2 :]
            self._bytes = _size(self.arrivals)


def _size(arrivals: Iterable[Arrival]) -> int:
    return sum(len(arrival.raw) for arrival in arrivals if arrival.raw is not None)
