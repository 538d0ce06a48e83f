"""Live entries that were not taken as they came: the database has them, and is asked."""

from lykke_cli.application.gateways.history_protocol import HistoryChunk


class LeftToHistory:
    """How old the oldest of them is, until a read that was asked for since has returned it."""

    def __init__(self) -> None:
        self._oldest: str | None = None  # of those that no read was asked for since
        self._awaited: str | None = None  # of those that the read under way returns

    @property
    def is_waiting(self) -> bool:
        """True when there are some that no read was asked for since."""
        return self._oldest is not None

    def note(self, occurred_at: str) -> None:
        """One was left."""
        self._oldest = _older(self._oldest, occurred_at)

    def asked(self) -> None:
        """A read begins."""
        self._awaited, self._oldest = _older(self._awaited, self._oldest), None

    def failed(self) -> None:
        """It was not answered."""
        self._oldest, self._awaited = _older(self._oldest, self._awaited), None

    def is_missing_from(self, chunk: HistoryChunk) -> bool:
        """True when the read that ends with `chunk` did not look back far enough."""
        oldest, self._awaited = self._awaited, None
        since = chunk.covered_from
        return oldest is not None and since is not None and oldest < since


def _older(one: str | None, other: str | None) -> str | None:
    return min((at for at in (one, other) if at is not None), default=None)
