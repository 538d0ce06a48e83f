"""How much of streams to read at once: a server counts entries, and what they take are bytes."""

FIRST = 10  # entries of each stream
MOST_BYTES = 8 << 20  # of one answer, about


class Portion:
    """So many entries of each stream, `most` at most, that an answer has about MOST_BYTES.

    How large they are shows when some have come, so it begins with few, also after a rest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = min(FIRST, most)
        self.is_full = False
        """Of the last answer: there may be more at once."""

    def came(self, size: int, *, is_full: bool) -> None:
        """The answer had so many bytes, and `is_full` where it had so many entries of a stream."""
        self.is_full = is_full
        if is_full:
            fitting = self.count * MOST_BYTES // max(size, 1)
            self.count = max(1, min(2 * self.count, fitting, self._most))
        else:
            self.count = min(FIRST, self._most)
