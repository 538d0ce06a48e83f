"""What a hub's trunk has printed and the newest mark does not cover, by user.

None stands for all users together.

It is bounded, for a reader's checkpoint names it: a live entry beyond that is left to the next
pass, which is brought forward; while the database is away so many more are printed, and their
readers have no checkpoint. Where a pass itself finds more, readers take it at its end.

All users together have no more room than one. A user with a reader of its own has its own room
nevertheless: what that makes too many for all users together, their readers take at the next mark.
Where that still leaves too many, everything live is left to the pass after it.
"""

from collections.abc import Callable, KeysView, Mapping

Ids = dict[str, str]
"""When each occurred, by id."""

IDS = 52
"""How many ids a checkpoint names at most: a quarter of them for what the reader was sent from
elsewhere, the others for what the newest mark does not cover. A sealed cursor has room for all of
them, however far some were back-dated."""
UNCOVERED = 1_000
"""How many more of a user are sent live while the database is away, without a checkpoint."""


class Unsettled:
    """A reader's checkpoint names all of its user's: `most` is how many those may be.

    While the database `is_away` there may be so many `uncovered` beyond them, which it does not
    name: a reader that was sent those has no checkpoint until the database is back.
    """

    def __init__(self, most: int, uncovered: int, is_away: Callable[[], bool]) -> None:
        self._most = most
        self._uncovered = uncovered
        self._is_away = is_away
        self._by_user: dict[str | None, Ids] = {}

    def of(self, user: str | None) -> Ids:
        return self._by_user.get(user, {})

    def room(self, user: str | None) -> int:
        """How many more the user may have; less than none where it has too many."""
        return self._most - len(self.of(user))

    @property
    def more(self) -> int:
        """For how many more than there is room."""
        return self._uncovered if self._is_away() else 0

    def may_be_taken(self, user: str | None) -> bool:
        """Whether readers are sent them; else they wait for the next mark."""
        return self.room(user) + self.more >= 0

    def add(self, user: str, id: str, occurred_at: str) -> None:
        """Note an entry that was printed."""
        for whose in (user, None):
            self._by_user.setdefault(whose, {})[id] = occurred_at

    def is_half_full(self, user: str | None) -> bool:
        """True when it is time for another mark."""
        return 2 * len(self.of(user)) > self._most

    def settle(self, pending: KeysView[str]) -> Mapping[str | None, Ids]:
        """A mark covers all but what is `pending`: returns that by user."""
        left = {
            user: {id: at for id, at in ids.items() if id in pending}
            for user, ids in self._by_user.items()
            if not pending.isdisjoint(ids)
        }
        self._by_user = {user: ids.copy() for user, ids in left.items()}
        return left
