"""Entries that the members of a group share."""

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Protocol, Self

from lykke_cli.application.consuming import StreamEntry


class GroupConsumerProtocol(Protocol):
    """One member of a group, an async context manager.

    Each entry comes to one member at least once, and again where that member has died before it
    acknowledged it. What a member holds is renewed while it works on it.
    """

    consumer: str
    """How the member is called."""

    async def __aenter__(self) -> Self:
        """Join the group; raises StreamsMissing, ServerUnavailable and LoginRefused."""
        ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def __aiter__(self) -> AsyncGenerator[StreamEntry]:
        """Entries, one after the other, for ever; raises as `get` does."""
        ...

    @property
    def reads_since(self) -> float | None:
        """Since when, by the loop's clock, what is new can come; None while it cannot.

        It cannot without a connection, and before what is pending for this member was read.
        """
        ...

    async def get(self, timeout: float | None = None) -> list[StreamEntry]:
        """The entries that are there, at least one; none when none came in `timeout` seconds.

        Raises ServerUnavailable and LoginRefused where the server refuses what is needed; a
        connection that is lost is taken up again.
        """
        ...

    async def ack(self, *entries: StreamEntry) -> None:
        """Tell the server that these are done; returns when it has confirmed that.

        While there is no connection it waits for one. Raises as `get` does.
        """
        ...

    def let_go(self, *entries: StreamEntry) -> None:
        """Leave these to be given out again, to this member or another, after `claim_after`.

        Each counts as given out once more then.
        """
        ...

    async def close(self) -> None:
        """Leave the group; what is held is left to be claimed. Closing twice is harmless."""
        ...
