"""What a hub's trunk has printed and the newest mark does not cover, by user."""

from collections.abc import KeysView, Mapping

Ids = dict[str, str]
"""When each occurred, by id."""


class Unsettled:
    """A reader's checkpoint names all of its user's: `most` is how many those may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_user: dict[str, Ids] = {}

    def of(self, user: str) -> Ids:
        return self._by_user.get(user, {})

    def room(self, user: str) -> int:
        """How many more the user may have; less than none where it has too many."""
        return self._most - len(self.of(user))

    def add(self, user: str, id: str, occurred_at: str) -> bool:
        """Note an entry that was printed; True when it is time for another mark."""
        ids = self._by_user.setdefault(user, {})
        ids[id] = occurred_at
        return 2 * len(ids) > self._most

    def settle(self, pending: KeysView[str]) -> Mapping[str, Ids]:
        """A mark covers all but what is `pending`: returns that by user."""
        left = {
            user: {id: at for id, at in ids.items() if id in pending}
            for user, ids in self._by_user.items()
            if not pending.isdisjoint(ids)
        }
        self._by_user = {user: ids.copy() for user, ids in left.items()}
        return left

    @property
    def is_full(self) -> bool:
        """True when one of the users has no room."""
        return any(len(ids) >= self._most for ids in self._by_user.values())
