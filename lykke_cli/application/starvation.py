"""Whether a subscription is starved: it is there, and what is published does not come by it.

A node that was taken out of service, or an address that leads to another server by now, answers as
ever and delivers nothing. With a database that shows: entries are found there, again and again, and
none came live in between. So it may be time to connect anew, where the address may lead elsewhere.
"""

HUNGRY_READS = 2  # in a row that found entries which had not come live


class Starvation:
    """Told of what came live, and of what was found instead.

    Where connecting anew did not help, as where nobody publishes, it is not done again before
    something came live.
    """

    def __init__(self) -> None:
        self._hungry = 0
        self._is_first = True  # the read that follows a connection finds what came before it
        self._was_renewed = False

    def connected(self) -> None:
        self._hungry, self._is_first = 0, True

    def heard(self) -> None:
        """Something came live."""
        self._hungry, self._was_renewed = 0, False

    def has_read(self, recovered: int) -> bool:
        """A read found so many entries that had not come live; True when to connect anew."""
        is_first, self._is_first = self._is_first, False
        self._hungry += recovered > 0 and not is_first
        if self._hungry < HUNGRY_READS or self._was_renewed:
            return False
        self._was_renewed = True
        return True
