"""Where a consumer's place is kept between runs."""

from typing import Any, Protocol


class CursorStoreProtocol(Protocol):
    """One consumer's stored state, locked while it is open."""

    def load(self) -> dict[str, Any] | None:
        """The stored state, or None on first use. A damaged one is set aside and reported."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state atomically."""
        ...

    def set_aside(self) -> None:
        """What was loaded makes no sense: keep it under another name."""
        ...
