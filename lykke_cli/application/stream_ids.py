"""The ids of a stream's entries: milliseconds and a number, in the order of the entries."""

from typing import NamedTuple, Self


class StreamId(NamedTuple):
    """Sorts as Redis sorts them (https://redis.io/docs/latest/develop/data-types/streams/)."""

    milliseconds: int
    number: int

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Raises ValueError where it is none."""
        if isinstance(text, bytes):
            text = text.decode("ascii")
        milliseconds, _, number = text.partition("-")
        return cls(int(milliseconds), int(number or 0))

    def next(self, milliseconds: int) -> "StreamId":
        """The first one after it, at that time or later."""
        if milliseconds > self.milliseconds:
            return StreamId(milliseconds, 0)
        return StreamId(self.milliseconds, self.number + 1)

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.number}"


NO_ID = StreamId(0, 0)
"""Before those of all entries."""
