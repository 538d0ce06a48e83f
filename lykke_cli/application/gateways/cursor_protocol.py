"""Where a consumer's place is kept between runs."""

from collections.abc import Sequence
from typing import Any, Protocol


class CursorStoreProtocol(Protocol):
    """One consumer's stored state, locked while it is open."""

    def load(self) -> Sequence[dict[str, Any]] | None:
        """The stored state and what was added to it, in order; None on first use.

        A damaged one is set aside and reported.
        """
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state, and what was added to it, atomically."""
        ...

    def add(self, change: dict[str, Any]) -> None:
        """Add to the state that this run saved: as much work as the change is long."""
        ...

    def set_aside(self) -> None:
        """What was loaded makes no sense: keep it under another name."""
        ...
