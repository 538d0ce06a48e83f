"""A user who has a reader on a hub; `hub.py` explains the words."""

from uuid import UUID

import msgspec

from lykke_cli.application.journal import Journal
from lykke_cli.application.messages import Arrival, Entry, OtherMessage
from lykke_cli.application.reader import Reader


class Member:
    """What a hub knows of one user."""

    def __init__(
        self, user_id: UUID, journal: Journal, *, is_included: bool, whole_from: int
    ) -> None:
        self.user_id = user_id
        self.user = str(user_id)
        self.journal = journal
        self.readers: set[Reader] = set()
        self.is_confirmed = False
        self.is_included = is_included
        """No pass is under way that leaves the user out."""
        self.whole_from = whole_from
        """The journal has all that the marks of this pass and of later ones do not cover."""
        self._floor: str | None = None

    def raise_floor(self, at: str | None) -> None:
        """A reader was sent, from elsewhere, what occurred at or before this."""
        if at is not None:
            self._floor = at if self._floor is None else max(self._floor, at)

    def own(self, arrival: Arrival) -> Arrival:
        """What the trunk may take of a message on the user's channel.

        An entry of another user's says nothing about that user's journal, and one that may have
        been sent from elsewhere is to be looked up.
        """
        entry = arrival.message
        if not isinstance(entry, Entry):
            return arrival
        if entry.user_id != self.user:
            other = OtherMessage(entry.to_json() if arrival.raw is None else arrival.raw)
            return msgspec.structs.replace(arrival, message=other)
        if self._floor is not None and entry.occurred_at <= self._floor:
            return msgspec.structs.replace(arrival, replayed=True)
        return arrival
