"""A consumer's place between runs: what the merge needs to go on, as plain JSON.

What is stored is a checkpoint, and beside it what was written since. Only the latter grows from
one saving to the next, so it is added to what is there; a saving costs as much as came since the
last one, however much there is.
"""

import time
from collections.abc import Sequence
from typing import Any

from lykke_cli.application.batches import as_batch
from lykke_cli.application.gateways.cursor_protocol import CursorStoreProtocol
from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Arrival, format_time, parse_wire_time

SAVE_INTERVAL = 0.5  # seconds between two savings while a run goes on
MANY = 50  # entries that are worth a dictionary of their own
PAUSE = 50  # times as long as the last saving took, at least: a slow disk does not slow the run
LONGEST_PAUSE = 1.0  # seconds, for all that: what is printed after a kill is no more than that


class Place:
    """Keeps a checkpoint up to date with what was written, and stores it.

    The merge's checkpoints come now and then; the ids written since the last one are added to it,
    so that it can be stored at any moment. Without a `store` nothing is stored, until one is there.
    """

    def __init__(self, store: CursorStoreProtocol | None = None) -> None:
        self._store = store
        self._checkpoint: Checkpoint | None = None
        self._since: list[dict[str, str]] = [{}]  # ids, with their occurred_at
        self._unsaved: list[dict[str, str]] = []  # those of them that are not stored
        self._is_stored = False  # by this run, so that more can be added to it
        self._has_moved = False  # the checkpoint is another than the one that is stored
        self._saved_at = -SAVE_INTERVAL  # the first is saved at once
        self._saving_took = 0.0
        self._moved_at = 0.0
        self._moving_took = 0.0
        self.output: dict[str, Any] = {}
        """What the output wants to be stored beside it."""

    is_kept = True

    def store_in(self, store: CursorStoreProtocol) -> None:
        """Use this store from now on; what was written so far is stored in it too."""
        self._store = store

    def load(self) -> Checkpoint | None:
        """Return the stored checkpoint; None on first use or when it cannot be understood."""
        stored = None if self._store is None else self._store.load()
        if self._store is None or stored is None:
            return None
        try:
            state, *changes = stored
            of_state = state["checkpoint"]
            floor = of_state["floor"]
            pending = {id: _time(at) for id, at in of_state["pending"].items()}
            output = dict(state["output"])
            for change in changes:
                for times in change["wrote"]:
                    pending |= {id: _time(at) for id, at in times.items()}
                output = dict(change["output"])
            self._checkpoint = Checkpoint(
                Cursor(dict(of_state["cursor"])), pending, None if floor is None else _time(floor)
            )
            self.output = output
        except (KeyError, TypeError, ValueError, AttributeError):
            self._store.set_aside()
            self._checkpoint = None
        return self._checkpoint

    def wrote_before(self, ids: dict[str, str]) -> Checkpoint | None:
        """Note entries that are in the output though the stored checkpoint does not know them."""
        self._since[0] |= ids
        return self.current()

    def wrote(self, arrivals: Sequence[Arrival]) -> None:
        """Note that these messages have left the process."""
        times = as_batch(arrivals).times()
        if len(times) >= MANY:
            self._since.append(times)
        else:
            self._since[0].update(times)
        if self._is_stored:
            self._unsaved.append(times)

    def reached(self, checkpoint: Checkpoint) -> None:
        """Note that everything that `checkpoint` covers has been written."""
        self._checkpoint = checkpoint
        self._since = [{}]
        self._has_moved = True

    @property
    def is_due(self) -> bool:
        """True when there is something to store, and it is time to."""
        wait = min(max(SAVE_INTERVAL, PAUSE * self._saving_took), LONGEST_PAUSE)
        return time.monotonic() - self._saved_at >= wait and self.is_behind

    @property
    def is_behind(self) -> bool:
        """True when there is something to store."""
        return bool(self._unsaved) or self._moves

    def current(self) -> Checkpoint | None:
        checkpoint = self._checkpoint
        if checkpoint is None:
            return None
        pending = dict(checkpoint.pending)
        for times in self._since:
            pending |= times
        return Checkpoint(checkpoint.cursor, pending, checkpoint.floor)

    def save(self, *, finally_: bool = False) -> None:
        """Store it, at the end of a run as far as it has come.

        Nothing happens before the first checkpoint, or without a store.
        """
        if self._store is None or self._checkpoint is None:
            return
        moves = self._moves or (finally_ and self._has_moved)
        started, self._is_stored = time.monotonic(), False
        unsaved, self._unsaved = self._unsaved, []
        try:
            if moves:
                self._save_all(self._store)
            else:
                self._store.add({"wrote": unsaved, "output": self.output})
            self._is_stored = True
        finally:  # what failed is tried again as seldom
            self._saved_at = time.monotonic()
            self._saving_took = self._saved_at - started
            if moves:
                self._moved_at, self._moving_took = self._saved_at, self._saving_took

    @property
    def _moves(self) -> bool:
        """True when the whole of it is to be stored.

        It need not be soon: an older checkpoint with all that was written since is as right.
        """
        rested = time.monotonic() - self._moved_at >= PAUSE * self._moving_took
        return not self._is_stored or (self._has_moved and rested)

    def _save_all(self, store: CursorStoreProtocol) -> None:
        checkpoint = self.current()
        assert checkpoint is not None and checkpoint.cursor is not None  # it came by `reached`
        store.save(
            {
                "checkpoint": {
                    "cursor": checkpoint.cursor.data,
                    "pending": checkpoint.pending,
                    "floor": checkpoint.floor,
                },
                "output": self.output,
            }
        )
        self._has_moved = False


class NoPlace(Place):
    """The place of a run that no other run goes on from: it notes nothing and stores nothing."""

    is_kept = False

    @property
    def is_due(self) -> bool:
        return False

    def wrote(self, arrivals: Sequence[Arrival]) -> None:
        pass

    def reached(self, checkpoint: Checkpoint) -> None:
        pass


def _time(stored: str) -> str:
    """The stored time in the promised form; raises ValueError or TypeError."""
    return format_time(parse_wire_time(stored))
